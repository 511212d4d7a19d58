//! The pixel side of the SmolVLM / Idefics3 video processor.

use reelsight_media::RgbFrame;

use crate::{
    error::PreprocessError,
    resize::{Filter, resize_rgb_like_torch},
};

/// Largest longest edge that the processor ever resizes to.
const MAX_IMAGE_SIZE: u32 = 4096;

/// A normalised picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelTensor {
    /// `[3, H, W]`, row-major.
    pub data: Vec<f32>,
    /// `[3, H, W]`.
    pub shape: [usize; 3],
    /// `[H, W]`: which pixels are picture rather than padding. All of them here, as frames are squared, not padded.
    pub mask: Vec<bool>,
}

/// Settings of the processor, as its `preprocessor_config.json` names them.
///
/// # Source
/// transformers 5.23 `SmolVLMVideoProcessor._preprocess` on the torchvision backend, CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct SmolVlmPreprocess {
    /// `video_sampling.video_size.longest_edge` (or `size.longest_edge`): first resize, aspect kept.
    pub longest_edge: u32,
    /// `max_image_size.longest_edge`: second resize, to a square of this side.
    pub max_image_size: u32,
    /// `resample`.
    pub filter: Filter,
    /// `rescale_factor`.
    pub rescale_factor: f64,
    /// `image_mean`.
    pub mean: [f64; 3],
    /// `image_std`.
    pub std: [f64; 3],
}

impl Default for SmolVlmPreprocess {
    fn default() -> Self {
        Self {
            longest_edge: 512,
            max_image_size: 512,
            filter: Filter::Lanczos,
            rescale_factor: 1.0 / 255.0,
            mean: [0.5; 3],
            std: [0.5; 3],
        }
    }
}

impl SmolVlmPreprocess {
    /// Resizes, squares and normalises one frame.
    ///
    /// # Shapes
    /// `[3, max_image_size, max_image_size]` f32, RGB, `(x * rescale_factor - mean) / std`.
    ///
    /// # Errors
    /// [`PreprocessError::InvalidFrame`] when the bytes do not fit the size.
    pub fn preprocess(&self, frame: &RgbFrame) -> Result<PixelTensor, PreprocessError> {
        let (width, height) = (frame.width as usize, frame.height as usize);
        if width == 0 || height == 0 || frame.data.len() != width * height * 3 {
            return Err(PreprocessError::InvalidFrame {
                width: frame.width,
                height: frame.height,
                bytes: frame.data.len(),
            });
        }
        let resized = longest_edge_size(frame.width, frame.height, self.longest_edge);
        let square = (self.max_image_size, self.max_image_size);
        let pixels = resize_rgb_like_torch(&frame.data, (frame.width, frame.height), resized, self.filter);
        let pixels = resize_rgb_like_torch(&pixels, resized, square, self.filter);
        Ok(self.normalise(&pixels))
    }

    fn normalise(&self, pixels: &[u8]) -> PixelTensor {
        let side = self.max_image_size as usize;
        let plane = side * side;
        let mut data = vec![0.0_f32; plane * 3];
        for channel in 0..3 {
            let table = self.table(channel);
            let (out, source) = (
                &mut data[channel * plane..][..plane],
                pixels[channel..].iter().step_by(3),
            );
            for (value, &byte) in out.iter_mut().zip(source) {
                *value = table[usize::from(byte)];
            }
        }
        PixelTensor {
            data,
            shape: [3, side, side],
            mask: vec![true; plane],
        }
    }

    /// The value of each byte in one channel. The processor folds the rescaling into mean and deviation and then
    /// computes in f32, so the same roundings happen here.
    #[expect(clippy::cast_possible_truncation, reason = "the reference rounds to f32 here")]
    fn table(&self, channel: usize) -> [f32; 256] {
        let mean = (self.mean[channel] as f32) * (1.0 / self.rescale_factor) as f32;
        let std = (self.std[channel] as f32) * (1.0 / self.rescale_factor) as f32;
        std::array::from_fn(|byte| (byte as f32 - mean) / std)
    }
}

/// Size whose longest edge is `longest`, aspect kept, the other edge rounded down and then up to an even number.
///
/// # Source
/// `get_resize_output_image_size` of `video_processing_smolvlm.py`, transformers 5.23.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most MAX_IMAGE_SIZE"
)]
fn longest_edge_size(width: u32, height: u32, longest: u32) -> (u32, u32) {
    let longest = longest.min(MAX_IMAGE_SIZE);
    let aspect = f64::from(width) / f64::from(height);
    let even = |side: u32| side + side % 2;
    let (width, height) = if width >= height {
        (longest, even((f64::from(longest) / aspect) as u32))
    } else {
        (even((f64::from(longest) * aspect) as u32), longest)
    };
    (width.max(1), height.max(1))
}
