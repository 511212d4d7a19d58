//! YUV to RGB at full size, then rotation, then the exact resampler.
//!
//! swscale runs with its default scaler and `SWS_FULL_CHR_H_INT`. Matrix and range are set explicitly from the picture;
//! where it does not say, BT.601 below 720 lines and BT.709 from there on, limited range.

use std::time::Instant;

use ffmpeg_next::{format::Pixel, frame};
use reelsight_media::RgbFrame;
use reelsight_preprocess::{Filter, resize_rgb};

use super::{
    Convert, ConvertTime, Label,
    orient::upright,
    scale::{Scaler, Setup},
};
use crate::{error::DecodeError, index::Orientation};

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
    ready: Option<Ready>,
    time: ConvertTime,
}

impl ToRgb {
    /// A converter that turns pictures by `orientation` and stretches them to `size`.
    pub(crate) fn new(orientation: Orientation, size: Option<(u32, u32)>) -> Self {
        Self {
            orientation,
            size,
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
            let rgb = frame::Video::new(Pixel::RGB24, picture.width(), picture.height());
            Ready {
                setup,
                scaler: Scaler::new(&setup)?,
                rgb,
            }
        };
        Ok(self.ready.insert(ready))
    }
}

impl Convert for ToRgb {
    type Out = RgbFrame;

    fn convert(&mut self, picture: &frame::Video, label: Label) -> Result<RgbFrame, DecodeError> {
        let begun = Instant::now();
        let orientation = self.orientation;
        let Ready { scaler, rgb, .. } = self.ready_for(picture)?;
        scaler.run(picture, rgb);
        let stored = (rgb.width() as usize, rgb.height() as usize);
        let mut data = upright(rgb.data(0), rgb.stride(0), stored, orientation);
        let (mut width, mut height) = orientation.shown_size((picture.width(), picture.height()));
        self.time.convert += begun.elapsed();
        if let Some(size) = self.size.filter(|&size| size != (width, height)) {
            let begun = Instant::now();
            data = resize_rgb(&data, (width, height), size, Filter::Bicubic);
            (width, height) = size;
            self.time.resize += begun.elapsed();
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
