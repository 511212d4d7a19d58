//! The container: opens it under the limits and hands out packets.
//!
//! What is easy to get wrong here, each with a test:
//! * FFmpeg must not open anything by itself: bytes come through [`Source`], the protocol list names no protocol and
//!   the demuxer is checked against a list before it runs (`tests/bad_input.rs`, playlists);
//! * picture sizes are checked before `avformat_find_stream_info`, which decodes (`tests/bad_input.rs`, huge header);
//! * iterating with `packets()` hides errors, so packets are read one by one.

use std::{collections::HashSet, ptr};

use ff::{
    codec::packet::Packet,
    ffi,
    format::context::{Input as Context, StreamIo},
    media::Type,
};
use ffmpeg_next as ff;
use reelsight_media::CancelFlag;

use crate::{
    error::DecodeError,
    formats::{self, Kind},
    input::Input,
    limits::DecodeLimits,
    source::{Failure, Hollow, Source},
};

/// Bytes per read; large, as packets are read in order.
const BUFFER_BYTES: usize = 256 << 10;
/// A demuxer that is less sure than this of 100 has seen noise.
const MIN_PROBE_SCORE: i32 = 10;
/// Unreadable packets in a row after which a file is taken to be over.
const MAX_DAMAGED_RUN: u32 = 1000;
/// The only protocol list that allows none: no protocol has this name.
const NO_PROTOCOL: &std::ffi::CStr = c"none";

/// An opened container and its video track.
pub(crate) struct Demuxer {
    context: Context,
    stream: usize,
    cancel: CancelFlag,
    failure: Failure,
    hollow: Hollow,
    damaged_run: u32,
}

/// What reading gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// A packet of some track.
    Packet,
    /// Something that cannot be read; what follows may be fine.
    Damaged,
    /// The end of the file.
    End,
}

impl Demuxer {
    /// Opens `input` and chooses its video track: the default one, else the first that is not cover art.
    pub(crate) fn open(
        input: &Input,
        limits: &DecodeLimits,
        cancel: &CancelFlag,
    ) -> Result<Self, DecodeError> {
        crate::about::quieten();
        let source = Source::open(input, limits, cancel)?;
        let (failure, hollow) = (source.failure(), source.hollow());
        let io = StreamIo::from_read_seek_with_capacity(source, BUFFER_BYTES).map_err(internal)?;
        let opened = open_context(io, limits, cancel);
        if cancel.is_cancelled() {
            return Err(DecodeError::Cancelled);
        }
        failure.check()?;
        let context = opened?;
        let tracks = context.nb_streams() as usize;
        if tracks > limits.max_tracks {
            return Err(DecodeError::TooManyTracks {
                limit: limits.max_tracks,
                actual: tracks,
            });
        }
        let stream = video_track(&context).ok_or(DecodeError::NoVideoTrack)?;
        let demuxer = Self {
            context,
            stream,
            cancel: cancel.clone(),
            failure,
            hollow,
            damaged_run: 0,
        };
        demuxer.check_size(limits)?;
        Ok(demuxer)
    }

    /// Reads only the video track from now on.
    pub(crate) fn video_only(&mut self) {
        for index in 0..self.context.nb_streams() as usize {
            if index != self.stream
                && let Some(mut stream) = self.context.stream_mut(index)
            {
                set_discard_all(&mut stream);
            }
        }
    }

    /// Where the container's own index puts key frames of the video track.
    #[expect(unsafe_code, reason = "the safe layer does not show the index")]
    pub(crate) fn key_positions(&self) -> Result<HashSet<i64>, DecodeError> {
        let stream = self.stream()?;
        // SAFETY: the stream belongs to an open context; entries stay where they are while nothing is read, and each
        // is looked at before the next call.
        unsafe {
            let stream = stream.as_ptr().cast_mut();
            let count = ffi::avformat_index_get_entries_count(stream);
            let entries = (0..count).map(|at| ffi::avformat_index_get_entry(stream, at));
            let entries = entries.filter_map(|entry| entry.as_ref());
            let keys = entries.filter(|entry| entry.flags() & ffi::AVINDEX_KEYFRAME != 0);
            Ok(keys.map(|entry| entry.pos).collect())
        }
    }

    /// From now on packets come without their data, which are not read.
    pub(crate) fn leave_data(&mut self) {
        self.hollow.set();
    }

    /// The container.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Number of the video track.
    pub(crate) fn stream_index(&self) -> usize {
        self.stream
    }

    /// The video track.
    pub(crate) fn stream(&self) -> Result<ff::Stream<'_>, DecodeError> {
        self.context.stream(self.stream).ok_or(DecodeError::NoVideoTrack)
    }

    /// Reads the next packet of any track.
    pub(crate) fn read(&mut self, packet: &mut Packet) -> Result<Read, DecodeError> {
        // FFmpeg writes over whatever the packet holds, which nobody would free then.
        *packet = Packet::empty();
        let outcome = packet.read(&mut self.context);
        if self.cancel.is_cancelled() {
            return Err(DecodeError::Cancelled);
        }
        self.failure.check()?;
        match outcome {
            Ok(()) => {
                self.damaged_run = 0;
                Ok(Read::Packet)
            }
            Err(ff::Error::Eof) => Ok(Read::End),
            Err(_) if self.damaged_run == MAX_DAMAGED_RUN => Ok(Read::End),
            Err(_) => {
                self.damaged_run += 1;
                Ok(Read::Damaged)
            }
        }
    }

    /// Jumps to the last key frame at or before `timestamp` of the video track. `false` when the container cannot.
    #[expect(
        unsafe_code,
        reason = "the safe layer seeks in microseconds, which is not exact"
    )]
    pub(crate) fn seek(&mut self, timestamp: i64) -> bool {
        let Ok(stream) = i32::try_from(self.stream) else {
            return false;
        };
        // SAFETY: the context is open and exclusively borrowed; the stream index is one of its own.
        unsafe {
            ffi::av_seek_frame(
                self.context.as_mut_ptr(),
                stream,
                timestamp,
                ffi::AVSEEK_FLAG_BACKWARD,
            ) >= 0
        }
    }

    fn check_size(&self, limits: &DecodeLimits) -> Result<(), DecodeError> {
        let parameters = self.stream()?.parameters();
        let (width, height) = stored_size(&parameters);
        check_size(width, height, limits)
    }
}

/// Refuses pictures that are larger than the limits.
pub(crate) fn check_size(width: u32, height: u32, limits: &DecodeLimits) -> Result<(), DecodeError> {
    let DecodeLimits {
        max_width,
        max_height,
        max_pixels,
        ..
    } = *limits;
    if width <= max_width && height <= max_height && u64::from(width) * u64::from(height) <= max_pixels {
        return Ok(());
    }
    let limit = format!("{max_width}x{max_height} and {max_pixels} pixels");
    Err(DecodeError::Resolution { width, height, limit })
}

/// Width and height in the codec parameters; 0 when unknown.
#[expect(unsafe_code, reason = "the safe layer does not show the size")]
pub(crate) fn stored_size(parameters: &ff::codec::Parameters) -> (u32, u32) {
    // SAFETY: the pointer is valid as long as `parameters` is borrowed; the fields are plain integers.
    let (width, height) = unsafe { ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height) };
    (
        u32::try_from(width).unwrap_or(0),
        u32::try_from(height).unwrap_or(0),
    )
}

#[expect(unsafe_code, reason = "the safe layer cannot set the field")]
fn set_discard_all(stream: &mut ff::format::stream::StreamMut<'_>) {
    // SAFETY: the stream belongs to an open context that is exclusively borrowed; the field may be set at any time.
    unsafe { (*stream.as_mut_ptr()).discard = ffi::AVDiscard::AVDISCARD_ALL };
}

fn video_track(context: &Context) -> Option<usize> {
    use ff::format::stream::Disposition;
    let candidates = || {
        context.streams().filter(move |stream| {
            stream.parameters().medium() == Type::Video
                && !stream.disposition().contains(Disposition::ATTACHED_PIC)
        })
    };
    candidates()
        .find(|stream| stream.disposition().contains(Disposition::DEFAULT))
        .or_else(|| candidates().next())
        .map(|stream| stream.index())
}

fn internal(error: ff::Error) -> DecodeError {
    DecodeError::Internal {
        detail: error.to_string(),
    }
}

/// Probes, checks and opens the container behind `io`.
#[expect(
    unsafe_code,
    reason = "the safe layer checks neither demuxer nor sizes before it decodes"
)]
fn open_context(
    mut io: StreamIo,
    limits: &DecodeLimits,
    cancel: &CancelFlag,
) -> Result<Context, DecodeError> {
    let flag = cancel.clone();
    let interrupt = ff::util::interrupt::new(Box::new(move || flag.is_cancelled()));
    // SAFETY: every pointer comes from FFmpeg and is checked. Until `wrap` takes the context over, each early return
    // leaves it closed: `avformat_open_input` frees it on failure, and `Context` closes it afterwards. `io` and the
    // interrupt guard outlive the context, as `wrap` keeps them beside it and the guard is dropped after this block.
    unsafe {
        let format = probe(&mut io)?;
        let mut context = ffi::avformat_alloc_context();
        if context.is_null() {
            return Err(internal(ff::Error::Other { errno: libc::ENOMEM }));
        }
        (*context).interrupt_callback = interrupt.interrupt;
        (*context).pb = io.as_mut_ptr();
        (*context).flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
        let mut options = open_options();
        let opened = ffi::avformat_open_input(&raw mut context, ptr::null(), format, &raw mut options);
        ffi::av_dict_free(&raw mut options);
        if opened < 0 {
            let detail = header_problem(ff::Error::from(opened));
            return Err(DecodeError::Corrupt { detail });
        }
        let context = Context::wrap_with_custom_io_and_interrupt(context, io, interrupt.guard);
        find_stream_info(context, limits)
    }
}

fn header_problem(error: ff::Error) -> String {
    match error {
        ff::Error::InvalidData | ff::Error::Eof => "its header is missing or cut off".to_owned(),
        other => format!("its header cannot be read: {other}"),
    }
}

/// The demuxer for the bytes behind `io`.
///
/// # Safety
/// The returned pointer is to static data. `io` must be open for reading.
#[expect(unsafe_code, reason = "FFI")]
unsafe fn probe(io: &mut StreamIo) -> Result<*const ffi::AVInputFormat, DecodeError> {
    let mut format: *const ffi::AVInputFormat = ptr::null();
    // SAFETY: `io` is open; no name and no log context are allowed; the format is only written to.
    let score = unsafe {
        ffi::av_probe_input_buffer2(
            io.as_mut_ptr(),
            &raw mut format,
            ptr::null(),
            ptr::null_mut(),
            0,
            0,
        )
    };
    if score < MIN_PROBE_SCORE || format.is_null() {
        return Err(DecodeError::NotAVideo {
            what: "unknown content".to_owned(),
        });
    }
    // SAFETY: a demuxer's name is a static string.
    let name = unsafe { std::ffi::CStr::from_ptr((*format).name) }.to_string_lossy();
    let what = match formats::kind(&name) {
        Kind::Media => return Ok(format),
        Kind::Still => "a still picture".to_owned(),
        Kind::Playlist => "a playlist that names other sources".to_owned(),
        Kind::Other => format!("it looks like {name}"),
    };
    Err(DecodeError::NotAVideo { what })
}

/// No protocols and no demuxers beyond the list, whatever a file asks for.
#[expect(unsafe_code, reason = "FFI")]
fn open_options() -> *mut ffi::AVDictionary {
    let mut options = ptr::null_mut();
    let allowed = std::ffi::CString::new(formats::allowed()).unwrap_or_default();
    // SAFETY: keys and values are terminated strings, which FFmpeg copies.
    unsafe {
        ffi::av_dict_set(
            &raw mut options,
            c"protocol_whitelist".as_ptr(),
            NO_PROTOCOL.as_ptr(),
            0,
        );
        ffi::av_dict_set(
            &raw mut options,
            c"format_whitelist".as_ptr(),
            allowed.as_ptr(),
            0,
        );
    }
    options
}

/// Checks the sizes in the header, then lets FFmpeg look into the tracks with the same bound.
#[expect(unsafe_code, reason = "FFI")]
fn find_stream_info(mut context: Context, limits: &DecodeLimits) -> Result<Context, DecodeError> {
    for stream in context
        .streams()
        .filter(|stream| stream.parameters().medium() == Type::Video)
    {
        let (width, height) = stored_size(&stream.parameters());
        check_size(width, height, limits)?;
    }
    let pixels = i64::try_from(limits.max_pixels).unwrap_or(i64::MAX);
    let mut options: Vec<*mut ffi::AVDictionary> = vec![ptr::null_mut(); context.nb_streams() as usize];
    // SAFETY: one dictionary per stream, as the function wants; each is freed after the call, whatever it returns.
    let found = unsafe {
        for options in &mut options {
            ffi::av_dict_set_int(&raw mut *options, c"max_pixels".as_ptr(), pixels, 0);
        }
        let dictionaries = if options.is_empty() {
            ptr::null_mut()
        } else {
            options.as_mut_ptr()
        };
        let found = ffi::avformat_find_stream_info(context.as_mut_ptr(), dictionaries);
        for options in &mut options {
            ffi::av_dict_free(&raw mut *options);
        }
        found
    };
    if found < 0 {
        let detail = format!("its tracks cannot be read: {}", ff::Error::from(found));
        return Err(DecodeError::Corrupt { detail });
    }
    Ok(context)
}
