//! Images of the SmolVLM / Idefics3 family: cut into squares, with the whole picture after them.

use reelsight_media::RgbFrame;

use crate::{
    PixelTensor, PreprocessError, SmolVlmPreprocess,
    backend::{Normalise, require_rgb},
    smolvlm::longest_edge_size,
};

/// An image as the vision encoder sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiles {
    /// Rows and columns of squares; (0, 0) when the image was not cut.
    pub grid: (u32, u32),
    /// The squares row by row, then the whole image.
    pub pictures: Vec<PixelTensor>,
}

impl SmolVlmPreprocess {
    /// Rows and columns into which an image of this size is cut; (0, 0) when it is not.
    ///
    /// # Source
    /// `resize`, `resize_for_vision_encoder` and `split_images` of `image_processing_idefics3.py`, transformers 5.23.
    #[must_use]
    pub fn tile_grid(&self, width: u32, height: u32) -> (u32, u32) {
        if !self.split {
            return (0, 0);
        }
        let (width, height) = self.tiled_size(self.first_size(width, height));
        let side = self.max_image_size.max(1);
        if width <= side && height <= side {
            return (0, 0);
        }
        (height.div_ceil(side), width.div_ceil(side))
    }

    /// Resizes, cuts and normalises an image.
    ///
    /// # Shapes
    /// Each picture `[3, max_image_size, max_image_size]` f32, RGB.
    ///
    /// # Errors
    /// [`PreprocessError::InvalidFrame`] when the bytes do not fit the size.
    pub fn tiles(&self, image: &RgbFrame) -> Result<Tiles, PreprocessError> {
        require_rgb(image)?;
        let side = self.max_image_size;
        let square = (side, side);
        let first = self.first_size(image.width, image.height);
        let resize = |pixels: &[u8], from, to| self.backend.resize(pixels, from, to, self.filter);
        let mut pixels = resize(&image.data, (image.width, image.height), first);
        let mut whole = first;
        let grid = self.tile_grid(image.width, image.height);
        let mut pictures = Vec::new();
        if self.split {
            let tiled = self.tiled_size(first);
            pixels = resize(&pixels, whole, tiled);
            whole = tiled;
        }
        for row in 0..grid.0 {
            for column in 0..grid.1 {
                let tile = crop(&pixels, whole.0, (column * side, row * side), square);
                pictures.push(self.normalised(&tile));
            }
        }
        pictures.push(self.normalised(&resize(&pixels, whole, square)));
        Ok(Tiles { grid, pictures })
    }

    fn normalised(&self, pixels: &[u8]) -> PixelTensor {
        let normalise = Normalise {
            rescale_factor: self.rescale_factor,
            mean: self.mean,
            std: self.std,
        };
        normalise.planes(pixels, self.max_image_size, self.max_image_size, self.backend)
    }

    /// The first resize: longest edge, aspect kept.
    fn first_size(&self, width: u32, height: u32) -> (u32, u32) {
        longest_edge_size(width, height, self.image_longest_edge)
    }

    /// The second resize: both sides to multiples of the square.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the reference truncates here"
    )]
    fn tiled_size(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let side = self.max_image_size.max(1);
        let up = |value: u32| value.div_ceil(side) * side;
        let aspect = f64::from(width) / f64::from(height);
        if width >= height {
            let width = up(width);
            (width, up((f64::from(width) / aspect) as u32))
        } else {
            let height = up(height);
            (up((f64::from(height) * aspect) as u32), height)
        }
    }
}

/// The part of packed RGB that begins at `at` and has `size`.
pub(crate) fn crop(pixels: &[u8], width: u32, at: (u32, u32), size: (u32, u32)) -> Vec<u8> {
    let stride = width as usize * 3;
    let (left, bytes) = (at.0 as usize * 3, size.0 as usize * 3);
    let rows = (at.1..at.1 + size.1).map(|row| row as usize * stride + left);
    rows.flat_map(|start| &pixels[start..start + bytes])
        .copied()
        .collect()
}

/// Packed RGB of `size` with `pixels` at `at` on a ground of one colour.
pub(crate) fn place(
    pixels: &[u8],
    from: (u32, u32),
    at: (u32, u32),
    size: (u32, u32),
    ground: [u8; 3],
) -> Vec<u8> {
    let mut out: Vec<u8> = ground
        .iter()
        .copied()
        .cycle()
        .take(size.0 as usize * size.1 as usize * 3)
        .collect();
    let (stride, bytes) = (size.0 as usize * 3, from.0 as usize * 3);
    for (row, line) in pixels.chunks_exact(bytes).enumerate() {
        let start = (at.1 as usize + row) * stride + at.0 as usize * 3;
        out[start..start + bytes].copy_from_slice(line);
    }
    out
}
