//! YUV to RGB at full size, then rotation, then the exact resampler.
//!
//! swscale runs with its default scaler and `SWS_FULL_CHR_H_INT`. Matrix and range are set explicitly from the picture;
//! where it does not say, BT.601 below 720 lines and BT.709 from there on, limited range.

use std::time::Instant;

use ff::{
    color::{Range, Space},
    ffi,
    format::Pixel,
    frame,
    software::scaling::{Context as Scaler, Flags},
};
use ffmpeg_next as ff;
use reelsight_media::RgbFrame;
use reelsight_preprocess::{Filter, resize_rgb};

use super::{Convert, ConvertTime, Label, orient::upright};
use crate::{error::DecodeError, index::Orientation};

/// Lines from which a picture without a matrix is taken to be BT.709.
const HD_LINES: u32 = 720;
/// swscale's unit of contrast and saturation.
const UNITY: i32 = 1 << 16;

/// What a scaler was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setup {
    format: Pixel,
    width: u32,
    height: u32,
    matrix: i32,
    full_range: bool,
}

/// Converts to upright packed RGB.
pub(crate) struct ToRgb {
    orientation: Orientation,
    size: Option<(u32, u32)>,
    scaler: Option<(Setup, Scaler)>,
    rgb: frame::Video,
    time: ConvertTime,
}

impl ToRgb {
    /// A converter that turns pictures by `orientation` and stretches them to `size`.
    pub(crate) fn new(orientation: Orientation, size: Option<(u32, u32)>) -> Self {
        let (rgb, time) = (frame::Video::empty(), ConvertTime::default());
        Self {
            orientation,
            size,
            scaler: None,
            rgb,
            time,
        }
    }

    fn scaler(&mut self, setup: Setup) -> Result<&mut Scaler, DecodeError> {
        if self
            .scaler
            .as_ref()
            .is_none_or(|(made_for, _)| *made_for != setup)
        {
            let scaler = scaler(setup)?;
            self.rgb = frame::Video::empty();
            self.scaler = Some((setup, scaler));
        }
        let made = self.scaler.as_mut().map(|(_, scaler)| scaler);
        made.ok_or_else(|| internal("the scaler is gone"))
    }
}

impl Convert for ToRgb {
    type Out = RgbFrame;

    fn convert(&mut self, picture: &frame::Video, label: Label) -> Result<RgbFrame, DecodeError> {
        let begun = Instant::now();
        let mut rgb = std::mem::replace(&mut self.rgb, frame::Video::empty());
        if rgb.width() != picture.width() || rgb.height() != picture.height() {
            rgb = frame::Video::empty();
        }
        let scaler = self.scaler(Setup::of(picture))?;
        scaler
            .run(picture, &mut rgb)
            .map_err(|error| internal(&error.to_string()))?;
        let stored = (rgb.width() as usize, rgb.height() as usize);
        let mut data = upright(rgb.data(0), rgb.stride(0), stored, self.orientation);
        self.rgb = rgb;
        let (mut width, mut height) = self.orientation.shown_size((picture.width(), picture.height()));
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

impl Setup {
    fn of(picture: &frame::Video) -> Self {
        let format = picture.format();
        let (width, height) = (picture.width(), picture.height());
        let space = picture.color_space();
        let known = !matches!(
            space,
            Space::Unspecified | Space::RGB | Space::Reserved | Space::YCGCO
        );
        let matrix = match known {
            true => ffi::AVColorSpace::from(space) as i32,
            false if height < HD_LINES => ffi::SWS_CS_ITU601,
            false => ffi::SWS_CS_ITU709,
        };
        let full_range = match picture.color_range() {
            Range::JPEG => true,
            Range::MPEG => false,
            Range::Unspecified => is_full_by_format(format),
        };
        Self {
            format,
            width,
            height,
            matrix,
            full_range,
        }
    }
}

/// Formats whose samples fill their range unless something says otherwise: FFmpeg's own JPEG variants and grey.
fn is_full_by_format(format: Pixel) -> bool {
    let name = format.descriptor().map_or("", |descriptor| descriptor.name());
    name.starts_with("yuvj") || name.starts_with("gray") || name.starts_with("ya")
}

#[expect(unsafe_code, reason = "the safe layer cannot set matrix and range")]
fn scaler(setup: Setup) -> Result<Scaler, DecodeError> {
    let Setup {
        format,
        width,
        height,
        matrix,
        full_range,
    } = setup;
    // SAFETY: the function only reads a table.
    if unsafe { ffi::sws_isSupportedInput(format.into()) } == 0 {
        let name = format
            .descriptor()
            .map_or("unknown", |descriptor| descriptor.name());
        return Err(DecodeError::CodecUnsupported {
            codec: format!("pixel format {name}"),
        });
    }
    let flags = Flags::BICUBIC | Flags::FULL_CHR_H_INT;
    let scaler = Scaler::get(format, width, height, Pixel::RGB24, width, height, flags);
    let mut scaler = scaler.map_err(|error| internal(&error.to_string()))?;
    // SAFETY: the scaler is alive and exclusively borrowed; the coefficient tables are static. A refusal means that
    // matrix and range do not matter (RGB input).
    unsafe {
        let table = ffi::sws_getCoefficients(matrix);
        let full = i32::from(full_range);
        ffi::sws_setColorspaceDetails(scaler.as_mut_ptr(), table, full, table, 1, 0, UNITY, UNITY);
    }
    Ok(scaler)
}

fn internal(detail: &str) -> DecodeError {
    DecodeError::Internal {
        detail: detail.to_owned(),
    }
}
