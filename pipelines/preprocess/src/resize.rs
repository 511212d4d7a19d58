//! Separable resampling in the fixed-point arithmetic of Pillow and of torch.
//!
//! Both compute coefficients in f64, normalise and round them to integers, run the horizontal pass first, round to u8
//! and then run the vertical pass. They differ in the width of the integers, which is enough to change bytes.
//!
//! # Source
//! Pillow 13 `Resample.c`, 8 bits per channel; torch 2.15 `upsample_*2d_aa` for u8 on the CPU, which torchvision's
//! `resize(antialias=True)` calls.

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions")]
mod avx2;
mod portable;

use std::f64::consts::PI;

/// Pillow's fractional bits of a coefficient: 32 minus 8 bits of sample minus 2 of headroom.
const PILLOW_BITS: u32 = 32 - 8 - 2;
/// Torch keeps the largest coefficient just inside 16 bits.
const TORCH_LIMIT: f64 = 32_768.0;
const CHANNELS: usize = 3;

/// A resampling kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Average over the area, support 0.5.
    Box,
    /// Triangle, support 1.
    Bilinear,
    /// Hamming-windowed sinc, support 1.
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
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

fn hamming(x: f64) -> f64 {
    if x >= 1.0 {
        0.0
    } else {
        sinc(x) * (0.54 + 0.46 * (x * PI).cos())
    }
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

/// Whose rounding is reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
    Pillow,
    Torch,
}

/// How the samples of one axis are made.
struct Axis {
    /// Fractional bits of the weights.
    bits: u32,
    taps: Vec<Taps<i32>>,
}

/// What one output sample is made of: consecutive input samples from `first` on.
struct Taps<T> {
    first: usize,
    weights: Vec<T>,
}

impl Axis {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "fixed-point weights; the references truncate here too"
    )]
    fn new(source: usize, target: usize, filter: Filter, arithmetic: Arithmetic) -> Self {
        let exact = exact_taps(source, target, filter);
        let bits = match arithmetic {
            Arithmetic::Pillow => PILLOW_BITS,
            Arithmetic::Torch => torch_bits(&exact),
        };
        let fixed = |weight: f64| {
            let scaled = weight * f64::from(1_u32 << bits);
            (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        let taps = exact
            .into_iter()
            .map(|Taps { first, weights }| Taps {
                first,
                weights: weights.into_iter().map(fixed).collect(),
            })
            .collect();
        Self { bits, taps }
    }

    /// Half a unit, so that shifting rounds.
    fn half(&self) -> i32 {
        1 << (self.bits - 1)
    }

    #[expect(clippy::cast_sign_loss, reason = "clamped to a byte")]
    fn byte(&self, sum: i32) -> u8 {
        (sum >> self.bits).clamp(0, 255) as u8
    }
}

/// The most fractional bits with which the largest weight still fits.
fn torch_bits(taps: &[Taps<f64>]) -> u32 {
    let largest = taps
        .iter()
        .flat_map(|taps| &taps.weights)
        .copied()
        .fold(0.0, f64::max);
    let overflows = |&bits: &u32| (0.5 + largest * f64::from(1_u32 << (bits + 1))).floor() >= TORCH_LIMIT;
    (0..PILLOW_BITS).find(overflows).unwrap_or(PILLOW_BITS)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sample positions; truncation is meant"
)]
fn exact_taps(source: usize, target: usize, filter: Filter) -> Vec<Taps<f64>> {
    let scale = source as f64 / target as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let inverse = 1.0 / stretch;
    let tap = |at: usize| {
        let center = (at as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(source);
        let mut weights: Vec<f64> = (first..end)
            .map(|x| filter.weight((x as f64 - center + 0.5) * inverse))
            .collect();
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            for weight in &mut weights {
                *weight /= sum;
            }
        }
        Taps { first, weights }
    };
    (0..target).map(tap).collect()
}

/// Filters rows of `width` pixels.
fn horizontal(src: &[u8], width: usize, axis: &Axis) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if avx2::suits(axis) {
        return avx2::horizontal(src, width, axis);
    }
    portable::horizontal(src, width, axis)
}

/// Filters columns of rows of `width` pixels.
fn vertical(src: &[u8], width: usize, axis: &Axis) -> Vec<u8> {
    let stride = width * CHANNELS;
    #[cfg(target_arch = "x86_64")]
    if avx2::suits(axis) {
        return avx2::vertical(src, stride, axis);
    }
    portable::vertical(src, stride, axis)
}

/// One row of the vertical pass, from `column` on. `rows` begins with the row of the first tap.
fn vertical_columns(
    rows: &[u8],
    stride: usize,
    column: usize,
    axis: &Axis,
    taps: &Taps<i32>,
    out: &mut [u8],
    sums: &mut Vec<i32>,
) {
    sums.clear();
    sums.resize(stride - column, axis.half());
    for (row, weight) in rows.chunks_exact(stride).zip(&taps.weights) {
        for (sum, &sample) in sums.iter_mut().zip(&row[column..]) {
            *sum += i32::from(sample) * weight;
        }
    }
    for (out, &sum) in out[column..].iter_mut().zip(sums.iter()) {
        *out = axis.byte(sum);
    }
}

/// Resamples packed RGB from `from` (width, height) to `to`, byte for byte as Pillow's `Image.resize` does.
///
/// # Shapes
/// `src`: `[from.1, from.0, 3]`; the result: `[to.1, to.0, 3]`. A side of 0, or fewer bytes than that, gives an empty
/// result.
#[must_use]
pub fn resize_rgb(src: &[u8], from: (u32, u32), to: (u32, u32), filter: Filter) -> Vec<u8> {
    resize(src, from, to, filter, Arithmetic::Pillow)
}

/// [`resize_rgb`], byte for byte as torchvision's `resize(antialias=True)` of a u8 tensor on the CPU does.
#[must_use]
pub fn resize_rgb_like_torch(src: &[u8], from: (u32, u32), to: (u32, u32), filter: Filter) -> Vec<u8> {
    resize(src, from, to, filter, Arithmetic::Torch)
}

fn resize(src: &[u8], from: (u32, u32), to: (u32, u32), filter: Filter, arithmetic: Arithmetic) -> Vec<u8> {
    let [width, height, to_width, to_height] = [from.0, from.1, to.0, to.1].map(|side| side as usize);
    if [width, height, to_width, to_height].contains(&0) || src.len() < width * height * CHANNELS {
        return Vec::new();
    }
    let src = &src[..width * height * CHANNELS];
    let axis = |source, target| Axis::new(source, target, filter, arithmetic);
    if arithmetic == Arithmetic::Pillow && pillow_is_vertical_first((width, height), (to_width, to_height)) {
        let down = vertical(src, width, &axis(height, to_height));
        return horizontal(&down, width, &axis(width, to_width));
    }
    let across = (width != to_width).then(|| horizontal(src, width, &axis(width, to_width)));
    if height == to_height {
        return across.unwrap_or_else(|| src.to_vec());
    }
    vertical(
        across.as_deref().unwrap_or(src),
        to_width,
        &axis(height, to_height),
    )
}

/// Pillow 13 runs the vertical pass first when it takes away more than twice as many rows as the other takes columns.
/// Bytes are rounded between the passes, so the order can be seen in the result.
fn pillow_is_vertical_first((width, height): (usize, usize), (to_width, to_height): (usize, usize)) -> bool {
    let both = width != to_width && height != to_height;
    // Columns that are added count as negative.
    both && height > to_height && height - to_height + 2 * to_width > 2 * width
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filters() -> impl Strategy<Value = Filter> {
        use Filter::{Bicubic, Bilinear, Box, Hamming, Lanczos};
        prop::sample::select(vec![Box, Bilinear, Hamming, Bicubic, Lanczos])
    }

    proptest! {
        #[test]
        fn vectors_give_the_same_bytes(
            (width, height) in (1_usize..90, 1_usize..40),
            target in 1_usize..70,
            (filter, torch, seed) in (filters(), any::<bool>(), any::<u32>()),
        ) {
            let arithmetic = if torch { Arithmetic::Torch } else { Arithmetic::Pillow };
            let mut state = seed;
            let src: Vec<u8> = (0..width * height * CHANNELS)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Extremes are likely, so that sums saturate.
                    match state >> 30 { 0 => 0, 1 => 255, _ => (state >> 22 & 255) as u8 }
                })
                .collect();
            let across = Axis::new(width, target, filter, arithmetic);
            let down = Axis::new(height, target, filter, arithmetic);
            if !avx2::suits(&across) || !avx2::suits(&down) {
                return Ok(());
            }
            prop_assert_eq!(avx2::horizontal(&src, width, &across), portable::horizontal(&src, width, &across));
            let stride = width * CHANNELS;
            prop_assert_eq!(avx2::vertical(&src, stride, &down), portable::vertical(&src, stride, &down));
        }
    }
}
