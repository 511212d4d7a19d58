//! The pixel side of the Qwen2-VL and Qwen2.5-VL processors: pictures of any size as patches.

use reelsight_media::RgbFrame;

use crate::{Backend, Filter, Normalise, PatchTensor, PreprocessError, backend::require_rgb};

/// Longest side over shortest that the processors accept.
const MAX_ASPECT: u32 = 200;
/// Part of the video budget that frames may take.
const BUDGET_PART: f64 = 0.9;
/// A frame keeps at least this many times the least number of pixels.
const FLOOR: f64 = 1.05;

/// Settings of one of the two processors (images, videos), as its configuration names them.
///
/// # Source
/// transformers 5.23 `Qwen2VLImageProcessor` and `Qwen2VLVideoProcessor`.
#[derive(Debug, Clone, PartialEq)]
pub struct QwenVlPreprocess {
    /// `size.shortest_edge` or `min_pixels`: pixels after resizing, at least.
    pub min_pixels: u64,
    /// `size.longest_edge` or `max_pixels`: pixels after resizing, at most.
    pub max_pixels: u64,
    /// `patch_size`: side of a patch.
    pub patch: u32,
    /// `merge_size`: patches along each side that become one token.
    pub merge: u32,
    /// `temporal_patch_size`: pictures in a patch.
    pub temporal_patch: u32,
    /// `cap_pixels_per_frame` with its `max_video_tokens`: a video's frames share this budget.
    pub video_tokens: Option<u64>,
    /// `resample`.
    pub filter: Filter,
    /// Rescaling, mean and deviation.
    pub normalise: Normalise,
    /// Whose bytes.
    pub backend: Backend,
}

impl QwenVlPreprocess {
    /// The image processor's defaults.
    #[must_use]
    pub fn images() -> Self {
        Self {
            min_pixels: 56 * 56,
            max_pixels: 28 * 28 * 1280,
            patch: 14,
            merge: 2,
            temporal_patch: 2,
            video_tokens: None,
            filter: Filter::Bicubic,
            normalise: Normalise::CLIP,
            backend: Backend::Torchvision,
        }
    }

    /// The video processor's defaults.
    #[must_use]
    pub fn videos() -> Self {
        Self {
            min_pixels: 128 * 28 * 28,
            max_pixels: 28 * 28 * 768,
            ..Self::images()
        }
    }

    /// Patches along time, height and width of `frames` pictures (1 for a still one) of this size.
    ///
    /// # Errors
    /// [`PreprocessError::Aspect`] when one side is more than 200 times the other.
    pub fn grid(&self, width: u32, height: u32, frames: usize) -> Result<[u32; 3], PreprocessError> {
        let (to_width, to_height) = self.size(width, height, frames)?;
        let times = u32::try_from(frames)
            .unwrap_or(u32::MAX)
            .div_ceil(self.temporal_patch.max(1));
        Ok([times, to_height / self.patch, to_width / self.patch])
    }

    /// Tokens that a grid becomes.
    #[must_use]
    pub fn tokens(&self, grid: [u32; 3]) -> usize {
        let merge = (self.merge * self.merge).max(1) as usize;
        grid.iter().map(|&side| side as usize).product::<usize>() / merge
    }

    /// Width and height after resizing, when `frames` pictures share the budget.
    fn size(&self, width: u32, height: u32, frames: usize) -> Result<(u32, u32), PreprocessError> {
        let factor = self.patch * self.merge;
        let mut max_pixels = self.max_pixels;
        if let Some(tokens) = self.video_tokens {
            max_pixels = self.frame_budget(tokens, u64::from(factor), frames as u64);
        }
        smart_resize(width, height, factor, self.min_pixels, max_pixels)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the reference truncates here"
    )]
    fn frame_budget(&self, tokens: u64, factor: u64, frames: u64) -> u64 {
        let total = ((tokens * factor * factor) as f64 * BUDGET_PART) as u64;
        let share = total * u64::from(self.temporal_patch) / frames.max(1);
        let floor = (self.min_pixels as f64 * FLOOR) as u64;
        self.max_pixels.min(share).max(floor)
    }

    /// Resizes, normalises and cuts into patches the pictures of one temporal patch; the last one is repeated until
    /// the patch is full. `frames` is how many the whole video has (1 for a still picture).
    ///
    /// # Errors
    /// [`PreprocessError::InvalidFrame`] when there is none or the bytes do not fit the size,
    /// [`PreprocessError::Aspect`] as [`QwenVlPreprocess::grid`].
    pub fn preprocess(&self, pictures: &[&RgbFrame], frames: usize) -> Result<PatchTensor, PreprocessError> {
        let Some(&first) = pictures.first() else {
            return Err(PreprocessError::InvalidFrame {
                width: 0,
                height: 0,
                bytes: 0,
            });
        };
        let size = self.size(first.width, first.height, frames)?;
        let mut resized = Vec::with_capacity(self.temporal_patch as usize);
        for frame in pictures {
            require_rgb(frame)?;
            let from = (frame.width, frame.height);
            resized.push(self.backend.resize(&frame.data, from, size, self.filter));
        }
        let depth = (self.temporal_patch.max(1) as usize).max(resized.len());
        let last = resized.len() - 1;
        let layers: Vec<&[u8]> = (0..depth).map(|at| &*resized[at.min(last)]).collect();
        Ok(self.patches(&layers, size))
    }

    /// Order: rows and columns of tokens, then of patches inside a token; inside a patch channel, time, row, column.
    fn patches(&self, layers: &[&[u8]], (width, height): (u32, u32)) -> PatchTensor {
        let (patch, merge) = (self.patch as usize, self.merge.max(1) as usize);
        let (rows, columns) = (height as usize / patch, width as usize / patch);
        let values = 3 * layers.len() * patch * patch;
        let tables = self.normalise.tables(self.backend);
        let mut data = Vec::with_capacity(rows * columns * values);
        let block = |count: usize| (0..count).step_by(merge);
        for (top, left) in block(rows).flat_map(|top| block(columns).map(move |left| (top, left))) {
            for inner in 0..merge * merge {
                let (row, column) = (top + inner / merge, left + inner % merge);
                for (channel, table) in tables.iter().enumerate() {
                    for layer in layers {
                        for y in row * patch..(row + 1) * patch {
                            let start = (y * width as usize + column * patch) * 3 + channel;
                            let line = layer[start..].iter().step_by(3).take(patch);
                            data.extend(line.map(|&byte| table[usize::from(byte)]));
                        }
                    }
                }
            }
        }
        PatchTensor {
            data,
            width: values,
            grid: [1, height / self.patch, width / self.patch],
        }
    }
}

/// Width and height, both multiples of `factor`, with `min_pixels` to `max_pixels` pixels and nearly the same aspect.
///
/// # Source
/// `smart_resize` of `image_processing_qwen2_vl.py`, transformers 5.23; `round` is Python's, to even.
///
/// # Errors
/// [`PreprocessError::Aspect`] when one side is more than 200 times the other.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides of pictures; `as` saturates"
)]
pub fn smart_resize(
    width: u32,
    height: u32,
    factor: u32,
    min_pixels: u64,
    max_pixels: u64,
) -> Result<(u32, u32), PreprocessError> {
    let (longest, shortest) = (width.max(height), width.min(height));
    if shortest == 0 || f64::from(longest) / f64::from(shortest) > f64::from(MAX_ASPECT) {
        return Err(PreprocessError::Aspect { width, height });
    }
    let unit = f64::from(factor);
    let sides = [f64::from(width), f64::from(height)];
    let area = sides[0] * sides[1];
    let mut bars = sides.map(|side| (side / unit).round_ties_even() * unit);
    if bars[0] * bars[1] > max_pixels as f64 {
        let beta = (area / max_pixels as f64).sqrt();
        bars = sides.map(|side| ((side / beta / unit).floor() * unit).max(unit));
    } else if bars[0] * bars[1] < min_pixels as f64 {
        let beta = (min_pixels as f64 / area).sqrt();
        bars = sides.map(|side| (side * beta / unit).ceil() * unit);
    }
    Ok((bars[0] as u32, bars[1] as u32))
}
