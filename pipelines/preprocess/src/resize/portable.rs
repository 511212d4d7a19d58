//! Both passes without vector instructions of our own.

use super::{Axis, CHANNELS, Taps, vertical_columns};

/// The horizontal pass over rows of `width` pixels.
pub(super) fn horizontal(src: &[u8], width: usize, axis: &Axis) -> Vec<u8> {
    let target = axis.taps.len();
    let mut out = vec![0; src.len() / width * target];
    let rows = src.chunks_exact(width * CHANNELS);
    for (out, row) in out.chunks_exact_mut(target * CHANNELS).zip(rows) {
        for (pixel, Taps { first, weights }) in out.chunks_exact_mut(CHANNELS).zip(&axis.taps) {
            let mut sums = [axis.half(); CHANNELS];
            for (source, weight) in row[first * CHANNELS..].chunks_exact(CHANNELS).zip(weights) {
                for (sum, &sample) in sums.iter_mut().zip(source) {
                    *sum += i32::from(sample) * weight;
                }
            }
            for (out, sum) in pixel.iter_mut().zip(sums) {
                *out = axis.byte(sum);
            }
        }
    }
    out
}

/// The vertical pass over rows of `stride` bytes.
pub(super) fn vertical(src: &[u8], stride: usize, axis: &Axis) -> Vec<u8> {
    let mut out = vec![0; axis.taps.len() * stride];
    let mut sums = Vec::new();
    for (out, taps) in out.chunks_exact_mut(stride).zip(&axis.taps) {
        let rows = &src[taps.first * stride..];
        vertical_columns(rows, stride, 0, axis, taps, out, &mut sums);
    }
    out
}
