//! The decoder's own samples, for tests and tools that compare decoders.

use ff::{ffi, frame};
use ffmpeg_next as ff;
use reelsight_media::{MediaTime, Weighted};

use super::{Convert, ConvertTime, Label};
use crate::{error::DecodeError, stats::thread_cpu};

/// A picture as the decoder stores it, before any conversion or rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanarFrame {
    /// FFmpeg's name of the pixel format, for example `yuv420p`.
    pub format: String,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The planes one after another, rows without padding.
    pub data: Vec<u8>,
    /// Position among all frames of the video, in presentation order.
    pub index: u64,
    /// When it is shown.
    pub time: MediaTime,
    /// The decoder reported an error in this picture or in one that it depends on.
    pub damaged: bool,
}

impl Weighted for PlanarFrame {
    fn weight(&self) -> usize {
        self.data.len()
    }
}

/// Copies planes.
#[derive(Debug, Default)]
pub(crate) struct ToPlanes(ConvertTime);

impl Convert for ToPlanes {
    type Out = PlanarFrame;

    fn convert(&mut self, picture: &frame::Video, label: Label) -> Result<PlanarFrame, DecodeError> {
        let begun = thread_cpu();
        let data = packed(picture)?;
        self.0.convert += thread_cpu().saturating_sub(begun);
        let format = picture
            .format()
            .descriptor()
            .map_or("unknown", |descriptor| descriptor.name());
        let Label { index, time, damaged } = label;
        let (width, height) = (picture.width(), picture.height());
        Ok(PlanarFrame {
            format: format.to_owned(),
            width,
            height,
            data,
            index,
            time,
            damaged,
        })
    }

    fn take_time(&mut self) -> ConvertTime {
        std::mem::take(&mut self.0)
    }
}

#[expect(unsafe_code, reason = "the safe layer gives padded rows")]
fn packed(picture: &frame::Video) -> Result<Vec<u8>, DecodeError> {
    let problem = |code: i32| DecodeError::Internal {
        detail: ff::Error::from(code).to_string(),
    };
    // SAFETY: the frame is a decoded picture, so its format, size, data and line sizes agree; the destination has the
    // size that FFmpeg asks for.
    unsafe {
        let frame = picture.as_ptr();
        let (format, width, height) = (picture.format().into(), (*frame).width, (*frame).height);
        let size = ffi::av_image_get_buffer_size(format, width, height, 1);
        let mut data = vec![0; usize::try_from(size).map_err(|_negative| problem(size))?];
        let copied = ffi::av_image_copy_to_buffer(
            data.as_mut_ptr(),
            size,
            (&raw const (*frame).data).cast(),
            (&raw const (*frame).linesize).cast(),
            format,
            width,
            height,
            1,
        );
        if copied < 0 {
            Err(problem(copied))
        } else {
            Ok(data)
        }
    }
}
