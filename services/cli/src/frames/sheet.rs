//! The contact sheet: all frames as one picture, each with its time under it.

use std::path::{Path, PathBuf};

use font8x8::UnicodeFonts as _;
use reelsight_media::RgbFrame;
use reelsight_preprocess::{Filter, resize_rgb};

use super::picture;
use crate::{args::PictureFormat, exit::Failure};

const CHANNELS: usize = 3;
/// Space around pictures, in pixels.
const GAP: u32 = 8;
/// Side of a letter before it is enlarged.
const LETTER: u32 = 8;
/// Letters of a time.
const LABEL_LETTERS: u32 = 12;
const GROUND: [u8; 3] = [24, 26, 30];
const INK: [u8; 3] = [232, 232, 228];
/// Pixels of the largest sheet: 300 MB.
const MAX_PIXELS: u64 = 100_000_000;
/// Longest side of a sheet: what every format can hold.
const MAX_SIDE: u32 = 16_383;

/// A sheet that fills up.
pub(crate) struct Sheet {
    path: PathBuf,
    format: PictureFormat,
    quality: u8,
    columns: Option<u32>,
    tile_width: u32,
    count: u32,
    /// Known with the first frame.
    canvas: Option<Canvas>,
}

impl Sheet {
    pub(crate) fn new(
        path: &Path,
        format: PictureFormat,
        quality: u8,
        columns: Option<u32>,
        tile_width: u32,
    ) -> Self {
        Self {
            path: path.to_owned(),
            format,
            quality,
            columns,
            tile_width,
            count: 0,
            canvas: None,
        }
    }

    /// Says how many frames will come. Refuses what cannot fit before anything is decoded.
    pub(crate) fn expect(&mut self, count: usize) -> Result<(), Failure> {
        self.count = u32::try_from(count).unwrap_or(u32::MAX);
        // Whatever the shape of the frames, a tile has at least its label.
        let least = Layout::new(self.count, self.columns, (self.tile_width, 1));
        least.map(drop).ok_or_else(|| self.too_large())
    }

    fn too_large(&self) -> Failure {
        let message = format!(
            "{} frames of width {} do not fit on a contact sheet: take fewer frames or a smaller --tile-width",
            self.count, self.tile_width
        );
        Failure::input("CONTACT_SHEET_TOO_LARGE", message)
    }

    /// Draws the `number`-th frame.
    pub(crate) fn add(&mut self, frame: &RgbFrame, number: usize) -> Result<(), Failure> {
        if self.canvas.is_none() {
            let height = u64::from(frame.height) * u64::from(self.tile_width) / u64::from(frame.width.max(1));
            let tile = (self.tile_width, u32::try_from(height.max(1)).unwrap_or(u32::MAX));
            let layout = Layout::new(self.count, self.columns, tile).ok_or_else(|| self.too_large())?;
            self.canvas = Some(Canvas::new(layout));
        }
        if let Some(canvas) = &mut self.canvas {
            let tile = canvas.layout.tile;
            let at = canvas.layout.place(u32::try_from(number).unwrap_or(u32::MAX));
            if (frame.width, frame.height) == tile {
                canvas.draw(&frame.data, tile, at);
            } else {
                let small = resize_rgb(&frame.data, (frame.width, frame.height), tile, Filter::Bicubic);
                canvas.draw(&small, tile, at);
            }
            canvas.label(&frame.time.to_string(), at);
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Some(canvas) = &self.canvas else {
            return Ok(());
        };
        picture::write(
            &self.path,
            &canvas.rgb,
            canvas.layout.size(),
            self.format,
            self.quality,
        )
    }
}

/// Where tiles are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    columns: u32,
    rows: u32,
    tile: (u32, u32),
    /// How much letters are enlarged.
    zoom: u32,
}

impl Layout {
    /// `None` when the sheet would be too large.
    fn new(count: u32, columns: Option<u32>, tile: (u32, u32)) -> Option<Self> {
        let count = count.max(1);
        let square = (1..=u32::from(u16::MAX)).find(|side| side * side >= count);
        let columns = columns.or(square)?.min(count);
        let layout = Self {
            columns,
            rows: count.div_ceil(columns),
            tile,
            zoom: (tile.0 / (LABEL_LETTERS * LETTER * 2)).max(1),
        };
        let wide = u64::from(columns) * u64::from(tile.0 + GAP) + u64::from(GAP);
        let high = u64::from(layout.rows) * u64::from(tile.1 + layout.label_height()) + u64::from(GAP);
        let fits = wide <= u64::from(MAX_SIDE) && high <= u64::from(MAX_SIDE) && wide * high <= MAX_PIXELS;
        fits.then_some(layout)
    }

    fn label_height(&self) -> u32 {
        LETTER * self.zoom + 2 * GAP
    }

    fn size(&self) -> (u32, u32) {
        (
            self.columns * (self.tile.0 + GAP) + GAP,
            self.rows * (self.tile.1 + self.label_height()) + GAP,
        )
    }

    /// The corner of the `number`-th tile.
    fn place(&self, number: u32) -> (u32, u32) {
        let (column, row) = (number % self.columns, number / self.columns);
        (
            GAP + column * (self.tile.0 + GAP),
            GAP + row * (self.tile.1 + self.label_height()),
        )
    }
}

/// The pixels of a sheet.
struct Canvas {
    layout: Layout,
    rgb: Vec<u8>,
}

impl Canvas {
    fn new(layout: Layout) -> Self {
        let (width, height) = layout.size();
        let rgb = GROUND.repeat(width as usize * height as usize);
        Self { layout, rgb }
    }

    fn draw(&mut self, rgb: &[u8], (width, height): (u32, u32), (x, y): (u32, u32)) {
        let stride = self.layout.size().0 as usize * CHANNELS;
        let row_bytes = width as usize * CHANNELS;
        for (line, row) in rgb.chunks_exact(row_bytes).take(height as usize).enumerate() {
            let at = (y as usize + line) * stride + x as usize * CHANNELS;
            // A frame beyond the expected count has no place on the sheet.
            if let Some(target) = self.rgb.get_mut(at..at + row_bytes) {
                target.copy_from_slice(row);
            }
        }
    }

    /// Writes `text` under the tile whose corner is given.
    fn label(&mut self, text: &str, (x, y): (u32, u32)) {
        let zoom = self.layout.zoom;
        let top = y + self.layout.tile.1 + GAP / 2 + zoom;
        for (number, letter) in (0..).zip(text.chars()) {
            let left = x + number * LETTER * zoom;
            let Some(rows) = font8x8::BASIC_FONTS.get(letter) else {
                continue;
            };
            for (dy, bits) in (0..).zip(rows) {
                for dx in (0..LETTER).filter(|dx| bits >> dx & 1 == 1) {
                    self.dot(left + dx * zoom, top + dy * zoom);
                }
            }
        }
    }

    /// One enlarged pixel of a letter.
    fn dot(&mut self, x: u32, y: u32) {
        let (width, _) = self.layout.size();
        let zoom = self.layout.zoom;
        for (dx, dy) in (0..zoom).flat_map(|dy| (0..zoom).map(move |dx| (dx, dy))) {
            let at = ((y + dy) as usize * width as usize + (x + dx) as usize) * CHANNELS;
            if x + dx < width
                && let Some(pixel) = self.rgb.get_mut(at..at + CHANNELS)
            {
                pixel.copy_from_slice(&INK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_are_about_as_wide_as_high_or_as_asked() {
        let layout = |count, columns| Layout::new(count, columns, (100, 50)).map(|l| (l.columns, l.rows));
        assert_eq!(layout(1, None), Some((1, 1)));
        assert_eq!(layout(10, None), Some((4, 3)));
        assert_eq!(layout(10, Some(5)), Some((5, 2)));
        assert_eq!(layout(3, Some(8)), Some((3, 1)), "no empty columns");
        assert_eq!(layout(1_000_000, None), None);
    }

    #[test]
    fn tiles_and_labels_do_not_touch() {
        let layout = Layout::new(4, Some(2), (40, 20)).unwrap();
        let mut canvas = Canvas::new(layout);
        let at = layout.place(3);
        canvas.draw(&[200; 40 * 20 * CHANNELS], (40, 20), at);
        canvas.label("00:00:01.000", at);
        let (width, height) = layout.size();
        let pixel = |x: u32, y: u32| &canvas.rgb[(y * width + x) as usize * CHANNELS..][..CHANNELS];
        assert_eq!(pixel(at.0, at.1), [200; 3]);
        assert_eq!(pixel(at.0 + 39, at.1 + 19), [200; 3]);
        assert_eq!(pixel(at.0 + 40, at.1), GROUND);
        let inked = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .filter(|&(x, y)| pixel(x, y) == INK);
        let lowest = inked.clone().map(|(_, y)| y).max().unwrap();
        let highest = inked.map(|(_, y)| y).min().unwrap();
        assert!(
            at.1 + 20 < highest && lowest < height,
            "{highest}..{lowest} of {height}"
        );
    }
}
