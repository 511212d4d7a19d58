//! swscale, set up so that nothing is left to its defaults.

use std::ptr;

use ff::{
    chroma::Location,
    color::{Range, Space},
    ffi,
    format::Pixel,
    frame,
    software::scaling::Flags,
};
use ffmpeg_next as ff;

use crate::error::DecodeError;

/// swscale's unit of contrast and saturation.
const UNITY: i32 = 1 << 16;
/// swscale's word for a chroma position that does not matter.
const NO_POSITION: i32 = -513;

/// Everything that the conversion depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup {
    format: Pixel,
    width: u32,
    height: u32,
    matrix: i32,
    full_range: bool,
    chroma: Location,
    interlaced: bool,
}

impl Setup {
    pub(super) fn of(picture: &frame::Video) -> Self {
        let format = picture.format();
        let (width, height) = (picture.width(), picture.height());
        let space = picture.color_space();
        let matrix = match space {
            // What FFmpeg takes at every size, and with it whatever decoded the videos that models were trained on;
            // FFmpeg also writes such files from RGB, by this matrix and without saying so.
            Space::Unspecified | Space::RGB | Space::Reserved | Space::YCGCO => ffi::SWS_CS_ITU601,
            _ => ffi::AVColorSpace::from(space) as i32,
        };
        let full_range = match picture.color_range() {
            Range::JPEG => true,
            Range::MPEG => false,
            Range::Unspecified => is_full_by_format(format),
        };
        let (chroma, interlaced) = (picture.chroma_location(), picture.is_interlaced());
        Self {
            format,
            width,
            height,
            matrix,
            full_range,
            chroma,
            interlaced,
        }
    }

    /// Horizontal and vertical position of the chroma samples, in 1/256 of a luma sample, within one of `fields`.
    fn chroma_position(&self, field: Option<i32>) -> (i32, i32) {
        let (across, down) = match self.chroma {
            Location::Left => (0, 128),
            Location::TopLeft => (0, 0),
            Location::Top => (128, 0),
            Location::BottomLeft => (0, 256),
            Location::Bottom => (128, 256),
            Location::Center | Location::Unspecified => (128, 128),
        };
        let Some(layout) = self.format.descriptor() else {
            return (NO_POSITION, NO_POSITION);
        };
        let scaled = |position: i32, log2: u8| match log2 {
            0 => NO_POSITION,
            log2 => position * ((1 << log2) - 1),
        };
        let (across, down) = (
            scaled(across, layout.log2_chroma_w()),
            scaled(down, layout.log2_chroma_h()),
        );
        match field {
            Some(field) if down != NO_POSITION => (across, (down + 256 * field) >> 1),
            _ => (across, down),
        }
    }
}

/// Formats whose samples fill their range unless something says otherwise: FFmpeg's own JPEG variants and grey.
fn is_full_by_format(format: Pixel) -> bool {
    let name = format.descriptor().map_or("", |descriptor| descriptor.name());
    name.starts_with("yuvj") || name.starts_with("gray") || name.starts_with("ya")
}

/// A conversion to packed RGB, by default of the same size. Interlaced pictures are converted field by field, so that the chroma
/// of one moment does not colour the other.
pub(super) struct Scaler {
    passes: Vec<Pass>,
}

/// The rows that one context converts: every `step`-th from `first` on.
struct Pass {
    context: *mut ffi::SwsContext,
    first: i32,
    step: i32,
    rows: i32,
}

impl Scaler {
    pub(super) fn new(setup: &Setup) -> Result<Self, DecodeError> {
        let (width, height) = (setup.width, setup.height);
        let passes = if setup.interlaced && height > 1 {
            let [top, bottom] = [height.div_ceil(2), height / 2];
            vec![
                Pass::new(setup, Some(0), top, (width, top))?,
                Pass::new(setup, Some(1), bottom, (width, bottom))?,
            ]
        } else {
            vec![Pass::new(setup, None, height, (width, height))?]
        };
        Ok(Self { passes })
    }

    /// A conversion that scales to `size` on the way, fields together.
    pub(super) fn to_size(setup: &Setup, size: (u32, u32)) -> Result<Self, DecodeError> {
        let passes = vec![Pass::new(setup, None, setup.height, size)?];
        Ok(Self { passes })
    }

    /// Converts `picture`, which must be what the scaler was set up for, into `rgb` of the size that it was set up for.
    #[expect(unsafe_code, reason = "the safe layer cannot convert fields")]
    pub(super) fn run(&self, picture: &frame::Video, rgb: &mut frame::Video) {
        for Pass {
            context,
            first,
            step,
            rows,
        } in &self.passes
        {
            let mut planes = [ptr::null::<u8>(); 4];
            let mut strides = [0_i32; 4];
            // SAFETY: both frames are allocated with the sizes and formats of the setup, so that every row that is
            // addressed here lies inside them; a palette is passed as it is.
            unsafe {
                let source = picture.as_ptr();
                for plane in 0..4 {
                    let (data, stride) = ((*source).data[plane], (*source).linesize[plane]);
                    let offset = if data.is_null() {
                        0
                    } else {
                        (*first * stride) as isize
                    };
                    planes[plane] = data.wrapping_offset(offset).cast_const();
                    strides[plane] = stride * step;
                }
                let target = rgb.as_mut_ptr();
                let stride = (*target).linesize[0];
                let data = (*target).data[0].wrapping_offset((first * stride) as isize);
                let out = [data, ptr::null_mut(), ptr::null_mut(), ptr::null_mut()];
                let out_strides = [stride * step, 0, 0, 0];
                ffi::sws_scale(
                    *context,
                    planes.as_ptr(),
                    strides.as_ptr(),
                    0,
                    *rows,
                    out.as_ptr(),
                    out_strides.as_ptr(),
                );
            }
        }
    }
}

impl Pass {
    #[expect(
        unsafe_code,
        reason = "the safe layer cannot set matrix, range and chroma position"
    )]
    fn new(
        setup: &Setup,
        field: Option<i32>,
        rows: u32,
        (width, height): (u32, u32),
    ) -> Result<Self, DecodeError> {
        let problem = |detail: &str| DecodeError::Internal {
            detail: detail.to_owned(),
        };
        // SAFETY: the function only reads a table.
        if unsafe { ffi::sws_isSupportedInput(setup.format.into()) } == 0 {
            let name = setup
                .format
                .descriptor()
                .map_or("unknown", |descriptor| descriptor.name());
            return Err(DecodeError::CodecUnsupported {
                codec: format!("pixel format {name}"),
            });
        }
        let (across, down) = setup.chroma_position(field);
        let flags = Flags::BICUBIC | Flags::FULL_CHR_H_INT;
        let source = ffi::AVPixelFormat::from(setup.format) as i64;
        let target = ffi::AVPixelFormat::from(Pixel::RGB24) as i64;
        let options = [
            (c"srcw", i64::from(setup.width)),
            (c"srch", i64::from(rows)),
            (c"dstw", i64::from(width)),
            (c"dsth", i64::from(height)),
            (c"src_format", source),
            (c"dst_format", target),
            (c"sws_flags", i64::from(flags.bits())),
            (c"src_h_chr_pos", i64::from(across)),
            (c"src_v_chr_pos", i64::from(down)),
        ];
        // SAFETY: the context is checked, owned by `pass` from here on, and initialised before it is used; the tables
        // are static. A refusal of the colour details means that they do not matter (RGB input).
        unsafe {
            let context = ffi::sws_alloc_context();
            if context.is_null() {
                return Err(problem("no memory for a scaler"));
            }
            let (first, step) = field.map_or((0, 1), |field| (field, 2));
            let pass = Self {
                context,
                first,
                step,
                rows: i32::try_from(rows).unwrap_or(i32::MAX),
            };
            for (name, value) in options {
                if ffi::av_opt_set_int(context.cast(), name.as_ptr(), value, 0) < 0 {
                    return Err(problem("the scaler refuses an option"));
                }
            }
            if ffi::sws_init_context(context, ptr::null_mut(), ptr::null_mut()) < 0 {
                return Err(problem("the scaler cannot be set up"));
            }
            let table = ffi::sws_getCoefficients(setup.matrix);
            let full = i32::from(setup.full_range);
            ffi::sws_setColorspaceDetails(context, table, full, table, 1, 0, UNITY, UNITY);
            Ok(pass)
        }
    }
}

impl Drop for Pass {
    #[expect(unsafe_code, reason = "the context is ours")]
    fn drop(&mut self) {
        // SAFETY: the context was allocated by `Pass::new` and is freed once.
        unsafe { ffi::sws_freeContext(self.context) };
    }
}
