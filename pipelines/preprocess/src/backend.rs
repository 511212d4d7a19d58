//! Whose resampling and whose arithmetic is reproduced.

use reelsight_media::RgbFrame;

use crate::{
    error::PreprocessError,
    picture::PixelTensor,
    resize::{Filter, resize_rgb, resize_rgb_like_torch},
};

/// The library behind a reference processor; the two differ in single bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// Torchvision on u8 tensors: what transformers takes when torchvision is installed ("fast").
    #[default]
    Torchvision,
    /// Pillow and numpy ("slow").
    Pillow,
}

impl Backend {
    pub(crate) fn resize(self, src: &[u8], from: (u32, u32), to: (u32, u32), filter: Filter) -> Vec<u8> {
        match self {
            Self::Torchvision => resize_rgb_like_torch(src, from, to, filter),
            Self::Pillow => resize_rgb(src, from, to, filter),
        }
    }
}

/// `rescale_factor`, `image_mean` and `image_std` of a processor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalise {
    /// What bytes are multiplied with, 1/255 as a rule.
    pub rescale_factor: f64,
    /// Subtracted from each channel after that.
    pub mean: [f64; 3],
    /// Each channel is divided by it.
    pub std: [f64; 3],
}

impl Normalise {
    /// Mean and deviation of CLIP's training pictures.
    pub const CLIP: Self = Self {
        rescale_factor: 1.0 / 255.0,
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
    };
    /// Values from -1 to 1.
    pub const HALF: Self = Self {
        rescale_factor: 1.0 / 255.0,
        mean: [0.5; 3],
        std: [0.5; 3],
    };

    /// The value of each byte in each channel.
    ///
    /// # Source
    /// transformers 5.23: torchvision's path folds the rescaling into mean and deviation and computes in f32; numpy's
    /// rescales in f64, rounds to f32 and then subtracts and divides.
    #[must_use]
    pub fn tables(&self, backend: Backend) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| self.table(channel, backend))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the references round to f32 at these places"
    )]
    fn table(&self, channel: usize, backend: Backend) -> [f32; 256] {
        let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
        match backend {
            Backend::Torchvision => {
                let back = (1.0 / self.rescale_factor) as f32;
                std::array::from_fn(|byte| (byte as f32 - mean * back) / (std * back))
            }
            Backend::Pillow => {
                let rescaled = |byte: usize| (byte as f64 * self.rescale_factor) as f32;
                std::array::from_fn(|byte| (rescaled(byte) - mean) / std)
            }
        }
    }

    /// Packed RGB of `width * height` pixels as planes.
    pub(crate) fn planes(&self, pixels: &[u8], width: u32, height: u32, backend: Backend) -> PixelTensor {
        let (width, height) = (width as usize, height as usize);
        let plane = width * height;
        let mut data = vec![0.0_f32; plane * 3];
        for (channel, table) in self.tables(backend).iter().enumerate() {
            let out = &mut data[channel * plane..][..plane];
            for (value, &byte) in out.iter_mut().zip(pixels[channel..].iter().step_by(3)) {
                *value = table[usize::from(byte)];
            }
        }
        PixelTensor {
            data,
            shape: [3, height, width],
            mask: vec![true; plane],
        }
    }
}

/// Refuses what is no packed RGB.
pub(crate) fn require_rgb(frame: &RgbFrame) -> Result<(), PreprocessError> {
    let (width, height) = (frame.width as usize, frame.height as usize);
    if width == 0 || height == 0 || frame.data.len() != width * height * 3 {
        return Err(PreprocessError::InvalidFrame {
            width: frame.width,
            height: frame.height,
            bytes: frame.data.len(),
        });
    }
    Ok(())
}
