//! YUV to RGB at full size, then rotation, then the exact resampler.
//!
//! swscale runs with its default scaler and `SWS_FULL_CHR_H_INT`. Matrix and range are set explicitly from the picture;
//! where it does not say, BT.601 and limited range, as FFmpeg takes it. Scaling in YUV is a second,
//! faster way that leaves the resampling to swscale; it is not what reference processors see.

use ffmpeg_next::{format::Pixel, frame};
use reelsight_media::RgbFrame;
use reelsight_preprocess::{Filter, resize_rgb};

use super::{
    Convert, ConvertTime, Label,
    orient::upright,
    scale::{Scaler, Setup},
};
use crate::{error::DecodeError, index::Orientation, limits::DecodeLimits, stats::thread_cpu};

/// A scaler, what it was made for, and the picture that it writes to.
struct Ready {
    setup: Setup,
    scaler: Scaler,
    rgb: frame::Video,
}

/// Converts to upright packed RGB.
pub(crate) struct ToRgb {
    orientation: Orientation,
    size: Option<(u32, u32)>,
    scale_in_yuv: bool,
    /// For the error when memory runs out.
    max_memory_bytes: u64,
    ready: Option<Ready>,
    time: ConvertTime,
}

impl ToRgb {
    /// A converter that turns pictures by `orientation` and stretches them to `size`, exactly or in YUV.
    pub(crate) fn new(
        orientation: Orientation,
        size: Option<(u32, u32)>,
        scale_in_yuv: bool,
        limits: &DecodeLimits,
    ) -> Self {
        Self {
            orientation,
            size,
            scale_in_yuv,
            max_memory_bytes: limits.max_memory_bytes,
            ready: None,
            time: ConvertTime::default(),
        }
    }

    /// The scaler for pictures like this one; made afresh only when they change.
    fn ready_for(&mut self, picture: &frame::Video) -> Result<&mut Ready, DecodeError> {
        let setup = Setup::of(picture);
        let ready = if let Some(ready) = self.ready.take().filter(|ready| ready.setup == setup) {
            ready
        } else {
            let stored = (picture.width(), picture.height());
            let on_the_way = self
                .size
                .filter(|_| self.scale_in_yuv)
                .map(|size| self.orientation.stored_size(size))
                .filter(|&size| size != stored);
            let scaler = match on_the_way {
                Some(size) => Scaler::to_size(&setup, size)?,
                None => Scaler::new(&setup)?,
            };
            let (width, height) = on_the_way.unwrap_or(stored);
            let rgb = frame::Video::new(Pixel::RGB24, width, height);
            if is_without_pixels(&rgb) {
                return Err(out_of_memory(self.max_memory_bytes));
            }
            Ready { setup, scaler, rgb }
        };
        Ok(self.ready.insert(ready))
    }
}

fn out_of_memory(limit: u64) -> DecodeError {
    DecodeError::TooMuchMemory { limit }
}

/// Whether there was no memory for the picture; the safe layer does not look.
#[expect(unsafe_code, reason = "the safe layer takes every picture to have pixels")]
fn is_without_pixels(picture: &frame::Video) -> bool {
    // SAFETY: the frame is allocated; the call reads its first pointer.
    unsafe { picture.is_empty() }
}

impl Convert for ToRgb {
    type Out = RgbFrame;

    fn convert(&mut self, picture: &frame::Video, label: Label) -> Result<RgbFrame, DecodeError> {
        let begun = thread_cpu();
        let (orientation, limit) = (self.orientation, self.max_memory_bytes);
        let Ready { scaler, rgb, .. } = self.ready_for(picture)?;
        scaler.run(picture, rgb);
        let (mut width, mut height) = orientation.shown_size((rgb.width(), rgb.height()));
        let stored = (rgb.width() as usize, rgb.height() as usize);
        let mut data = upright(rgb.data(0), rgb.stride(0), stored, orientation)
            .map_err(|_unreserved| out_of_memory(limit))?;
        let converted = thread_cpu();
        self.time.convert += converted.saturating_sub(begun);
        if let Some(size) = self.size.filter(|&size| size != (width, height)) {
            data = resize_rgb(&data, (width, height), size, Filter::Bicubic);
            (width, height) = size;
            self.time.resize += thread_cpu().saturating_sub(converted);
        }
        let Label { index, time, damaged } = label;
        Ok(RgbFrame {
            width,
            height,
            data: data.into(),
            index,
            time,
            damaged,
        })
    }

    fn take_time(&mut self) -> ConvertTime {
        std::mem::take(&mut self.time)
    }
}
