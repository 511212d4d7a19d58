//! One decoder. Packets are tagged with their number in the index, so that every picture says which packet it is.

use ff::{codec::packet::Packet, frame};
use ffmpeg_next as ff;

use crate::{
    demux::Demuxer,
    error::DecodeError,
    hardware::{self, Gpu},
    limits::DecodeLimits,
};

/// Said by a decoder that gets no memory; of all its errors the one that is not the packet's fault.
const NO_MEMORY: ff::Error = ff::Error::Other { errno: libc::ENOMEM };

/// A decoder context of its own.
pub(crate) struct Decoder {
    video: ff::decoder::Video,
    /// Pictures are given out although the decoder, which saw no IDR picture, cannot know that they are right.
    unrecovered: bool,
    on_gpu: bool,
    /// For the error when memory runs out.
    max_memory_bytes: u64,
}

impl Decoder {
    /// A decoder for the demuxer's video track, with `threads` threads inside, or on a GPU.
    #[expect(unsafe_code, reason = "the safe layer cannot bound the picture's size")]
    pub(crate) fn open(
        demuxer: &Demuxer,
        threads: usize,
        limits: &DecodeLimits,
        gpu: Option<&Gpu>,
    ) -> Result<Self, DecodeError> {
        let parameters = demuxer.stream()?.parameters();
        let id = parameters.id();
        let unsupported = || DecodeError::CodecUnsupported {
            codec: id.name().to_owned(),
        };
        let max_memory_bytes = limits.max_memory_bytes;
        let unopened = |error| match error {
            NO_MEMORY => DecodeError::TooMuchMemory {
                limit: max_memory_bytes,
            },
            _ => unsupported(),
        };
        let codec = ff::decoder::find(id).ok_or_else(unsupported)?;
        let mut context =
            ff::codec::Context::from_parameters(parameters).map_err(|error| DecodeError::Internal {
                detail: error.to_string(),
            })?;
        let kind = ff::threading::Type::Frame;
        context.set_threading(ff::threading::Config {
            kind,
            count: if gpu.is_some() { 1 } else { threads },
            ..Default::default()
        });
        // SAFETY: the context is not open yet, so that both may be set.
        unsafe {
            (*context.as_mut_ptr()).max_pixels = i64::try_from(limits.max_pixels).unwrap_or(i64::MAX);
            if let Some(gpu) = gpu {
                hardware::attach(context.as_mut_ptr(), gpu);
            }
        }
        let video = context
            .decoder()
            .open_as(codec)
            .and_then(ff::codec::decoder::Opened::video);
        Ok(Self {
            video: video.map_err(unopened)?,
            unrecovered: false,
            on_gpu: gpu.is_some(),
            max_memory_bytes,
        })
    }

    /// Gives out pictures after an H.264 recovery point at once. Left to itself, FFmpeg drops those that are still
    /// waiting when the packets end, right as they are.
    #[expect(unsafe_code, reason = "the safe layer would replace all flags")]
    pub(crate) fn show_unrecovered(&mut self) {
        if self.video.id() == ff::codec::Id::H264 {
            // SAFETY: the context is open and exclusively borrowed; the flag may change between packets.
            unsafe {
                (*self.video.as_mut_ptr()).flags |= ff::ffi::AV_CODEC_FLAG_OUTPUT_CORRUPT.cast_signed();
            }
            self.unrecovered = true;
        }
    }

    /// Whether the decoder itself found the picture damaged.
    pub(crate) fn is_damaged(&self, picture: &frame::Video) -> bool {
        picture.has_decode_errors() || (picture.is_corrupt() && !self.unrecovered)
    }

    /// Gives the decoder packet number `ordinal`. `false` when it found the packet damaged.
    pub(crate) fn send(&mut self, packet: &mut Packet, ordinal: u32) -> Result<bool, DecodeError> {
        packet.set_pts(Some(i64::from(ordinal)));
        packet.set_dts(None);
        match self.video.send_packet(packet) {
            Ok(()) => Ok(true),
            Err(NO_MEMORY) => Err(self.out_of_memory()),
            Err(_) => Ok(false),
        }
    }

    fn out_of_memory(&self) -> DecodeError {
        DecodeError::TooMuchMemory {
            limit: self.max_memory_bytes,
        }
    }

    /// Says that no more packets come before the next [`Decoder::flush`].
    pub(crate) fn finish(&mut self) {
        // An error means that the decoder is already finished.
        self.video.send_eof().ok();
    }

    /// The next picture that is ready, and the number of its packet.
    pub(crate) fn receive(&mut self, picture: &mut frame::Video) -> Result<Received, DecodeError> {
        match self.video.receive_frame(picture) {
            Ok(()) => {
                if self.on_gpu {
                    hardware::download(picture, self.planar())?;
                }
                let ordinal = picture.pts().and_then(|tag| u32::try_from(tag).ok());
                Ok(ordinal.map_or(Received::Damaged, Received::Picture))
            }
            Err(ff::Error::Other { errno: libc::EAGAIN } | ff::Error::Eof) => Ok(Received::Nothing),
            Err(NO_MEMORY) => Err(self.out_of_memory()),
            Err(_) => Ok(Received::Damaged),
        }
    }

    /// Whether a GPU decodes.
    pub(crate) fn is_on_gpu(&self) -> bool {
        self.on_gpu
    }

    /// The layout in which the CPU would decode.
    #[expect(unsafe_code, reason = "the safe layer does not show the field")]
    fn planar(&self) -> ff::format::Pixel {
        // SAFETY: the context is open; the field is a plain value that is set before the first picture comes.
        ff::format::Pixel::from(unsafe { (*self.video.as_ptr()).sw_pix_fmt })
    }

    /// Forgets everything, ready for packets from elsewhere.
    pub(crate) fn flush(&mut self) {
        self.video.flush();
    }
}

/// What asking a decoder for a picture gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// A picture, and the number of the packet that it comes from.
    Picture(u32),
    /// None until more packets come.
    Nothing,
    /// A picture that could not be decoded.
    Damaged,
}
