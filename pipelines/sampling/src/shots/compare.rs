//! How different two small pictures are.

/// Width and height of the pictures that are compared.
pub(super) const SIZE: (usize, usize) = (64, 36);
const PIXELS: usize = SIZE.0 * SIZE.1;
/// Blocks that may move on their own between two pictures.
const BLOCK: (usize, usize) = (8, 9);
/// How far, in pixels of the small picture.
const REACH: (isize, isize) = (6, 4);
/// Bits of each channel in the colour histogram.
const BITS: u32 = 3;
const BINS: usize = 1 << (3 * BITS);
/// Mean difference of luma below which nothing is gained by looking for motion.
const STILL: f32 = 2.0;
/// Residual of motion that counts as much as...
const RESIDUAL_UNIT: f32 = 16.0;
/// ...this distance of histograms.
const HISTOGRAM_UNIT: f32 = 0.35;

/// A picture with what comparisons need.
#[derive(Debug, Clone)]
pub(super) struct Thumb {
    /// Packed RGB.
    pub(super) rgb: Vec<u8>,
    luma: Vec<u8>,
    histogram: Vec<u16>,
    /// Standard deviation of luma.
    pub(super) contrast: f32,
}

impl Thumb {
    /// Of `64 x 36` packed RGB.
    pub(super) fn new(rgb: &[u8]) -> Self {
        let mut histogram = vec![0; BINS];
        let luma: Vec<u8> = rgb
            .chunks_exact(3)
            .map(|pixel| {
                let bin = pixel.iter().fold(0, |bin, &channel| {
                    bin << BITS | usize::from(channel >> (8 - BITS))
                });
                histogram[bin] += 1;
                luma(pixel)
            })
            .collect();
        let contrast = moments(&luma).1.sqrt();
        Self {
            rgb: rgb.to_vec(),
            luma,
            histogram,
            contrast,
        }
    }
}

/// BT.601 luma of one pixel.
#[expect(clippy::cast_possible_truncation, reason = "a weighted mean of bytes")]
fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [0, 1, 2].map(|channel| u32::from(pixel[channel]));
    ((77 * r + 150 * g + 29 * b + 128) >> 8) as u8
}

/// Mean and variance.
fn moments(values: &[u8]) -> (f32, f32) {
    let count = values.len() as f32;
    let sum: u32 = values.iter().map(|&value| u32::from(value)).sum();
    let squares: u32 = values.iter().map(|&value| u32::from(value).pow(2)).sum();
    let mean = sum as f32 / count;
    (mean, (squares as f32 / count - mean * mean).max(0.0))
}

/// How one picture differs from another.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Difference {
    /// Mean difference of luma, place by place.
    pub(super) still: f32,
    /// The same after every block was looked for around its place.
    pub(super) residual: f32,
    /// Share of pixels whose colours have no counterpart.
    pub(super) colours: f32,
}

impl Difference {
    /// What neither motion nor the colours before explain; about 1 or less within a shot.
    pub(super) fn unexplained(self) -> f32 {
        self.residual / RESIDUAL_UNIT + self.colours / HISTOGRAM_UNIT
    }
}

/// How `b` differs from `a`.
pub(super) fn difference(a: &Thumb, b: &Thumb) -> Difference {
    let still = sad(&a.luma, &b.luma) as f32 / PIXELS as f32;
    let residual = if still < STILL { still } else { residual(a, b) };
    let pairs = a.histogram.iter().zip(&b.histogram);
    let apart: u32 = pairs.map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
    Difference {
        still,
        residual,
        colours: apart as f32 / (2 * PIXELS) as f32,
    }
}

/// Mean difference of all channels.
pub(super) fn mean_difference(a: &Thumb, b: &Thumb) -> f32 {
    sad(&a.rgb, &b.rgb) as f32 / a.rgb.len() as f32
}

/// Correlation of luma, from -1 to 1; 0 where one of them is flat.
pub(super) fn correlation(a: &Thumb, b: &Thumb) -> f32 {
    let ((mean_a, var_a), (mean_b, var_b)) = (moments(&a.luma), moments(&b.luma));
    let products: u32 = a
        .luma
        .iter()
        .zip(&b.luma)
        .map(|(&a, &b)| u32::from(a) * u32::from(b))
        .sum();
    let covariance = products as f32 / PIXELS as f32 - mean_a * mean_b;
    let scale = (var_a * var_b).sqrt();
    if scale < 1.0 { 0.0 } else { covariance / scale }
}

/// Mean difference of luma after every block of `b` was looked for around its place in `a`.
fn residual(a: &Thumb, b: &Thumb) -> f32 {
    let mut total = 0;
    for top in (0..SIZE.1).step_by(BLOCK.1) {
        for left in (0..SIZE.0).step_by(BLOCK.0) {
            total += block_residual(&a.luma, &b.luma, left, top);
        }
    }
    total as f32 / PIXELS as f32
}

/// The smallest difference between a block of `b` and any block of `a` within reach.
fn block_residual(a: &[u8], b: &[u8], left: usize, top: usize) -> u32 {
    let mut best = u32::MAX;
    let places = |at: usize, reach: isize, block: usize, size: usize| {
        let most = size - block;
        (-reach..=reach).filter_map(move |shift| at.checked_add_signed(shift).filter(|&at| at <= most))
    };
    for y in places(top, REACH.1, BLOCK.1, SIZE.1) {
        for x in places(left, REACH.0, BLOCK.0, SIZE.0) {
            let mut sum = 0;
            for line in 0..BLOCK.1 {
                let from = (y + line) * SIZE.0 + x;
                let to = (top + line) * SIZE.0 + left;
                sum += sad(&a[from..from + BLOCK.0], &b[to..to + BLOCK.0]);
            }
            best = best.min(sum);
        }
    }
    best
}

fn sad(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum()
}

/// How a picture between two others is made of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    /// Share of the earlier one, from 0 to 1.
    pub(super) share: f32,
    /// Mean difference between the picture and the best mixture.
    pub(super) residual: f32,
}

/// `middle` as a blend of `start` and `end`: the same share everywhere.
pub(super) fn blend(start: &Thumb, middle: &Thumb, end: &Thumb) -> Mix {
    let (mut dot, mut square) = (0_i64, 0_i64);
    for ((&s, &m), &e) in start.rgb.iter().zip(&middle.rgb).zip(&end.rgb) {
        let [s, m, e] = [s, m, e].map(i32::from);
        dot += i64::from((m - e) * (s - e));
        square += i64::from((s - e) * (s - e));
    }
    let share = (dot as f32 / square.max(1) as f32).clamp(0.0, 1.0);
    let mut residual = 0.0;
    for ((&s, &m), &e) in start.rgb.iter().zip(&middle.rgb).zip(&end.rgb) {
        let [s, m, e] = [s, m, e].map(f32::from);
        residual += (m - (e + share * (s - e))).abs();
    }
    Mix {
        share,
        residual: residual / start.rgb.len() as f32,
    }
}

/// `middle` as a wipe from `start` to `end`: every pixel is of the one or of the other.
pub(super) fn wipe(start: &Thumb, middle: &Thumb, end: &Thumb) -> Mix {
    let (mut old, mut residual) = (0_u32, 0_u32);
    for ((s, m), e) in start
        .rgb
        .chunks_exact(3)
        .zip(middle.rgb.chunks_exact(3))
        .zip(end.rgb.chunks_exact(3))
    {
        let (to_start, to_end) = (sad(s, m), sad(e, m));
        residual += to_start.min(to_end);
        old += u32::from(to_start < to_end);
    }
    Mix {
        share: old as f32 / PIXELS as f32,
        residual: residual as f32 / start.rgb.len() as f32,
    }
}
