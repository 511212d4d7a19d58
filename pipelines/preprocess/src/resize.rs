//! Separable resampling in the fixed-point arithmetic of Pillow.
//!
//! # Source
//! The algorithm of Pillow's `Resample.c` (8 bits per channel): coefficients in f64, normalised, rounded to
//! 22 fractional bits; horizontal pass first, rounded to u8, then the vertical pass.

use std::f64::consts::PI;

use rayon::prelude::*;

/// Fractional bits of a coefficient: 32 minus 8 bits of sample minus 2 of headroom.
const PRECISION_BITS: u32 = 32 - 8 - 2;
/// Half a unit, so that shifting rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);
const CHANNELS: usize = 3;

/// A resampling kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Average over the area, support 0.5.
    Box,
    /// Triangle, support 1.
    Bilinear,
    /// Triangle-like cubic of Hamming window, support 1.
    Hamming,
    /// Cubic with a = -0.5, support 2.
    Bicubic,
    /// Windowed sinc, support 3.
    Lanczos,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Hamming => hamming(x.abs()),
            Self::Bicubic => bicubic(x.abs()),
            Self::Lanczos => {
                if (-3.0..3.0).contains(&x) {
                    sinc(x) * sinc(x / 3.0)
                } else {
                    0.0
                }
            }
        }
    }
}

#[expect(
    clippy::float_cmp,
    reason = "the limit is taken at exactly zero, as the reference does"
)]
fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

fn hamming(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    if x >= 1.0 {
        return 0.0;
    }
    let x = x * PI;
    x.sin() / x * (0.54 + 0.46 * x.cos())
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// What one output sample is made of.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sample positions and fixed-point weights; the reference truncates at the same places"
)]
fn taps(source: usize, target: usize, filter: Filter) -> Vec<Taps> {
    let scale = source as f64 / target as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let inverse = 1.0 / stretch;
    (0..target)
        .map(|at| {
            let center = (at as f64 + 0.5) * scale;
            let first = ((center - support + 0.5) as i64).max(0) as usize;
            let end = ((center + support + 0.5) as i64).min(source as i64) as usize;
            let mut weights: Vec<f64> = (first..end)
                .map(|x| filter.weight((x as f64 - center + 0.5) * inverse))
                .collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            let fixed = |weight: f64| {
                let scaled = weight * f64::from(1_u32 << PRECISION_BITS);
                (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
            };
            Taps {
                first,
                weights: weights.into_iter().map(fixed).collect(),
            }
        })
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a byte"
)]
fn byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

fn horizontal(src: &[u8], width: usize, target: usize, filter: Filter) -> Vec<u8> {
    let taps = taps(width, target, filter);
    let mut out = vec![0; src.len() / width * target];
    out.par_chunks_exact_mut(target * CHANNELS)
        .zip(src.par_chunks_exact(width * CHANNELS))
        .for_each(|(out, row)| {
            for (pixel, Taps { first, weights }) in out.chunks_exact_mut(CHANNELS).zip(&taps) {
                let mut sums = [HALF; CHANNELS];
                for (source, weight) in row[first * CHANNELS..].chunks_exact(CHANNELS).zip(weights) {
                    for (sum, &sample) in sums.iter_mut().zip(source) {
                        *sum = sum.wrapping_add(i32::from(sample) * weight);
                    }
                }
                for (out, sum) in pixel.iter_mut().zip(sums) {
                    *out = byte(sum);
                }
            }
        });
    out
}

fn vertical(src: &[u8], width: usize, height: usize, target: usize, filter: Filter) -> Vec<u8> {
    let taps = taps(height, target, filter);
    let stride = width * CHANNELS;
    let mut out = vec![0; target * stride];
    out.par_chunks_exact_mut(stride).zip(&taps).for_each_init(
        || vec![HALF; stride],
        |sums, (out, Taps { first, weights })| {
            sums.fill(HALF);
            for (row, weight) in src[first * stride..].chunks_exact(stride).zip(weights) {
                for (sum, &sample) in sums.iter_mut().zip(row) {
                    *sum = sum.wrapping_add(i32::from(sample) * weight);
                }
            }
            for (out, &sum) in out.iter_mut().zip(sums.iter()) {
                *out = byte(sum);
            }
        },
    );
    out
}

/// Resamples packed RGB from `from` (width, height) to `to`, byte for byte as Pillow's `Image.resize` does.
///
/// # Shapes
/// `src`: `[from.1, from.0, 3]`; the result: `[to.1, to.0, 3]`. A side of 0 gives an empty result.
///
/// # Panics
/// None; bytes missing in `src` leave the rows that need them out of the sum.
#[must_use]
pub fn resize_rgb(src: &[u8], from: (u32, u32), to: (u32, u32), filter: Filter) -> Vec<u8> {
    let [width, height, to_width, to_height] = [from.0, from.1, to.0, to.1].map(|side| side as usize);
    if [width, height, to_width, to_height].contains(&0) || src.len() < width * height * CHANNELS {
        return Vec::new();
    }
    let src = &src[..width * height * CHANNELS];
    let wide = if width == to_width {
        None
    } else {
        Some(horizontal(src, width, to_width, filter))
    };
    let rows = wide.as_deref().unwrap_or(src);
    if height == to_height {
        rows.to_vec()
    } else {
        vertical(rows, to_width, height, to_height, filter)
    }
}
