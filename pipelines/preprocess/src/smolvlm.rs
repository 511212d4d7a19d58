//! The pixel side of the SmolVLM / Idefics3 video processor.

use reelsight_media::RgbFrame;

use crate::{Backend, Filter, Normalise, PixelTensor, PreprocessError, backend::require_rgb};

/// Largest longest edge that the processor ever resizes to.
const MAX_IMAGE_SIZE: u32 = 4096;

/// Settings of the processor, as its `preprocessor_config.json` names them.
///
/// # Source
/// transformers 5.23 `SmolVLMVideoProcessor._preprocess` on the torchvision backend, CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct SmolVlmPreprocess {
    /// `size.longest_edge` of the video processor (else `video_sampling.video_size`): first resize, aspect kept.
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
    /// `size.longest_edge` of the image processor: first resize of an image.
    pub image_longest_edge: u32,
    /// `do_image_splitting`: whether images are cut into squares.
    pub split: bool,
    /// Whose bytes, of images; videos have torchvision's alone.
    pub backend: Backend,
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
            image_longest_edge: 4 * 512,
            split: true,
            backend: Backend::Torchvision,
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
        require_rgb(frame)?;
        let resized = longest_edge_size(frame.width, frame.height, self.longest_edge);
        let square = (self.max_image_size, self.max_image_size);
        let pixels =
            Backend::Torchvision.resize(&frame.data, (frame.width, frame.height), resized, self.filter);
        let pixels = Backend::Torchvision.resize(&pixels, resized, square, self.filter);
        let normalise = Normalise {
            rescale_factor: self.rescale_factor,
            mean: self.mean,
            std: self.std,
        };
        let side = self.max_image_size;
        Ok(normalise.planes(&pixels, side, side, Backend::Torchvision))
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
pub(crate) fn longest_edge_size(width: u32, height: u32, longest: u32) -> (u32, u32) {
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
