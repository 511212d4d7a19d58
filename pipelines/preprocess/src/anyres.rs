//! The pixel side of the LLaVA-OneVision processors: an image as one small picture and as tiles of a larger one.

use reelsight_media::RgbFrame;

use crate::{
    Backend, Filter, Normalise, PixelTensor, PreprocessError,
    backend::require_rgb,
    tiles::{crop, place},
};

/// A grid of features is made smaller when it is this many times above the budget.
const SHRINK_ABOVE: f64 = 1.1;

/// Settings of the image and video processors.
///
/// # Source
/// transformers 5.23 `LlavaOnevisionImageProcessor`, `LlavaOnevisionVideoProcessor`, `LlavaOnevisionProcessor`.
#[derive(Debug, Clone, PartialEq)]
pub struct LlavaOnevisionPreprocess {
    /// `size`: side of the square that the tower takes.
    pub side: u32,
    /// `image_grid_pinpoints`: sizes (width, height) to which an image may be brought.
    pub pinpoints: Vec<(u32, u32)>,
    /// Features along one side of a tile.
    pub features: u32,
    /// The number in `vision_aspect_ratio` (`anyres_max_9`): tiles whose features an image may take.
    pub max_tiles: u32,
    /// `resample`.
    pub filter: Filter,
    /// Rescaling, mean and deviation.
    pub normalise: Normalise,
    /// Whose bytes.
    pub backend: Backend,
}

/// How the features of an image's tiles are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnyRes {
    /// Rows and columns of tiles.
    pub tiles: (u32, u32),
    /// Rows of features that are padding, at the top and again at the bottom; columns likewise.
    pub padding: (u32, u32),
    /// Rows and columns of features without the padding.
    pub kept: (u32, u32),
    /// To what they are made smaller; the same when they are not.
    pub shown: (u32, u32),
}

impl LlavaOnevisionPreprocess {
    /// The layout of an image that stands alone in its conversation.
    #[must_use]
    pub fn layout(&self, width: u32, height: u32) -> AnyRes {
        let (best_width, best_height) = self.best(width, height);
        let tiles = (best_height / self.side, best_width / self.side);
        let whole = (tiles.0 * self.features, tiles.1 * self.features);
        let (padding, kept) = unpadded((width, height), whole);
        let area = f64::from(kept.0) * f64::from(kept.1);
        let budget = f64::from(self.max_tiles) * f64::from(self.features) * f64::from(self.features);
        let ratio = (area / budget).sqrt();
        let shown = if ratio > SHRINK_ABOVE {
            (shrunk(kept.0, ratio), shrunk(kept.1, ratio))
        } else {
            kept
        };
        AnyRes {
            tiles,
            padding,
            kept,
            shown,
        }
    }

    /// The size among the pinpoints that keeps most of the image and then wastes least.
    ///
    /// # Source
    /// `select_best_resolution` of transformers 5.23.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the reference truncates here"
    )]
    fn best(&self, width: u32, height: u32) -> (u32, u32) {
        let sides = [f64::from(width), f64::from(height)];
        let area = u64::from(width) * u64::from(height);
        let mut best = ((self.side, self.side), 0, u64::MAX);
        for &(to_width, to_height) in &self.pinpoints {
            let scale = (f64::from(to_width) / sides[0]).min(f64::from(to_height) / sides[1]);
            let shown = sides.map(|side| (side * scale) as u64);
            let effective = (shown[0] * shown[1]).min(area);
            let wasted = (u64::from(to_width) * u64::from(to_height)).saturating_sub(effective);
            if effective > best.1 || (effective == best.1 && wasted < best.2) {
                best = ((to_width, to_height), effective, wasted);
            }
        }
        best.0
    }

    /// An image that stands alone: the whole of it, then its tiles row by row.
    ///
    /// # Errors
    /// [`PreprocessError::InvalidFrame`] when the bytes do not fit the size.
    pub fn image(&self, image: &RgbFrame) -> Result<Vec<PixelTensor>, PreprocessError> {
        let whole = self.frame(image)?;
        let from = (image.width, image.height);
        let target = self.best(image.width, image.height);
        let size = inside(from, target);
        let pixels = self.backend.resize(&image.data, from, size, self.filter);
        let at = ((target.0 - size.0) / 2, (target.1 - size.1) / 2);
        let padded = place(&pixels, size, at, target, [0; 3]);
        let mut pictures = vec![whole];
        for top in (0..target.1).step_by(self.side as usize) {
            for left in (0..target.0).step_by(self.side as usize) {
                let tile = crop(&padded, target.0, (left, top), (self.side, self.side));
                pictures.push(self.planes(&tile));
            }
        }
        Ok(pictures)
    }

    /// An image among others: the whole of it on a square of the mean colour.
    ///
    /// # Errors
    /// As [`LlavaOnevisionPreprocess::image`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the reference truncates here"
    )]
    pub fn squared(&self, image: &RgbFrame) -> Result<PixelTensor, PreprocessError> {
        require_rgb(image)?;
        let (width, height) = (image.width, image.height);
        let longest = width.max(height);
        let ground = self.normalise.mean.map(|mean| (mean * 255.0) as u8);
        let at = ((longest - width) / 2, (longest - height) / 2);
        let square = place(&image.data, (width, height), at, (longest, longest), ground);
        let to = (self.side, self.side);
        let pixels = self.backend.resize(&square, (longest, longest), to, self.filter);
        Ok(self.planes(&pixels))
    }

    /// A frame of a video: squashed to the square.
    ///
    /// # Errors
    /// As [`LlavaOnevisionPreprocess::image`].
    pub fn frame(&self, frame: &RgbFrame) -> Result<PixelTensor, PreprocessError> {
        require_rgb(frame)?;
        let (from, to) = ((frame.width, frame.height), (self.side, self.side));
        let pixels = self.backend.resize(&frame.data, from, to, self.filter);
        Ok(self.planes(&pixels))
    }

    fn planes(&self, pixels: &[u8]) -> PixelTensor {
        self.normalise.planes(pixels, self.side, self.side, self.backend)
    }
}

/// The largest size of the same aspect inside `target`, rounded up.
///
/// # Source
/// `get_patch_output_size` of transformers 5.23.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides of pictures"
)]
fn inside((width, height): (u32, u32), target: (u32, u32)) -> (u32, u32) {
    let scale = (
        f64::from(target.0) / f64::from(width),
        f64::from(target.1) / f64::from(height),
    );
    if scale.0 < scale.1 {
        (
            target.0,
            ((f64::from(height) * scale.0).ceil() as u32).min(target.1),
        )
    } else {
        (
            ((f64::from(width) * scale.1).ceil() as u32).min(target.0),
            target.1,
        )
    }
}

/// Padding rows and columns of a grid of features of an image of this size, and the grid without them.
///
/// # Source
/// `unpad_image` of `modeling_llava_onevision.py`, transformers 5.23.
fn unpadded((width, height): (u32, u32), grid: (u32, u32)) -> ((u32, u32), (u32, u32)) {
    let (width, height) = (f64::from(width), f64::from(height));
    let (rows, columns) = (f64::from(grid.0), f64::from(grid.1));
    if width / height > columns / rows {
        let padding = grid.0.saturating_sub(rounded(height * (columns / width))) / 2;
        ((padding, 0), (grid.0 - 2 * padding, grid.1))
    } else {
        let padding = grid.1.saturating_sub(rounded(width * (rows / height))) / 2;
        ((0, padding), (grid.0, grid.1 - 2 * padding))
    }
}

/// `int(round(value, 7))`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the reference truncates here"
)]
fn rounded(value: f64) -> u32 {
    ((value * 1e7).round_ties_even() / 1e7) as u32
}

/// `int(side // ratio)`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the reference truncates here"
)]
fn shrunk(side: u32, ratio: f64) -> u32 {
    (f64::from(side) / ratio).floor() as u32
}
