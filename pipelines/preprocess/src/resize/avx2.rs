//! Both passes with AVX2, bit for bit what the portable ones give.
//!
//! Weights have up to 26 bits and the multiplier takes 16, so each is split into `high * 2^11 + low`; the two sums of
//! products are exact, and so is their combination.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_packs_epi32,
    _mm_packus_epi16, _mm_set1_epi32, _mm_sra_epi32, _mm_storeu_si128, _mm256_add_epi32,
    _mm256_broadcastsi128_si256, _mm256_castsi256_si128, _mm256_cvtepu8_epi16, _mm256_extracti128_si256,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permute4x64_epi64,
    _mm256_set1_epi32, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32,
    _mm256_sra_epi32, _mm256_unpackhi_epi16, _mm256_unpacklo_epi16,
};

use super::{Axis, CHANNELS, vertical_columns};

/// Bits of the low part of a weight.
const LOW_BITS: i32 = 11;
/// Weights from here on do not fit into the two parts.
const LIMIT: i32 = 1 << 26;
/// Rows that share one read of the weights.
const ROWS: usize = 4;
/// Taps that one step of the horizontal pass takes.
const STEP: usize = 4;
/// Bytes of a vector of samples.
const VECTOR: usize = 16;

/// Whether this processor, and these weights, can be handled here.
pub(super) fn suits(axis: &Axis) -> bool {
    let fits = |weight: &i32| (-LIMIT..LIMIT).contains(weight);
    std::arch::is_x86_feature_detected!("avx2") && axis.taps.iter().flat_map(|taps| &taps.weights).all(fits)
}

/// `high` and `low` of a weight.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`suits` bounds weights by 2^26; the low part has 11 bits"
)]
fn split(weight: i32) -> (i16, i16) {
    (
        (weight >> LOW_BITS) as i16,
        (weight & ((1 << LOW_BITS) - 1)) as i16,
    )
}

/// Two 16-bit weights side by side, the first one low.
fn pair(first: i16, second: i16) -> i32 {
    i32::from(second) << 16 | i32::from(first.cast_unsigned())
}

/// Weights of four taps, laid out as the multiplier wants them.
#[derive(Clone, Copy)]
struct Group {
    high: [i32; 8],
    low: [i32; 8],
}

impl Group {
    /// Of at most four weights; missing ones are 0.
    fn new(weights: &[i32]) -> Self {
        let mut parts = [(0, 0); STEP];
        for (part, &weight) in parts.iter_mut().zip(weights) {
            *part = split(weight);
        }
        let [a, b, c, d] = parts;
        let spread = |first: i32, second: i32| [first, first, first, first, second, second, second, second];
        Self {
            high: spread(pair(a.0, b.0), pair(c.0, d.0)),
            low: spread(pair(a.1, b.1), pair(c.1, d.1)),
        }
    }
}

/// The horizontal pass over rows of `width` pixels.
pub(super) fn horizontal(src: &[u8], width: usize, axis: &Axis) -> Vec<u8> {
    let groups: Vec<(usize, Vec<Group>)> = axis
        .taps
        .iter()
        .map(|taps| {
            (
                taps.first * CHANNELS,
                taps.weights.chunks(STEP).map(Group::new).collect(),
            )
        })
        .collect();
    let stride = width * CHANNELS;
    // A step reads whole vectors, and taps beyond the last pixel, which weigh nothing.
    let padded = stride + STEP * CHANNELS + VECTOR;
    let mut rows = vec![0; padded * ROWS];
    let mut out = vec![0; src.len() / stride * groups.len() * CHANNELS];
    let blocks = out.chunks_mut(groups.len() * CHANNELS * ROWS);
    for (out, src) in blocks.zip(src.chunks(stride * ROWS)) {
        for (row, src) in rows.chunks_exact_mut(padded).zip(src.chunks_exact(stride)) {
            row[..stride].copy_from_slice(src);
        }
        // SAFETY: `suits` found AVX2.
        unsafe { horizontal_rows(&rows, padded, &groups, axis, out) };
    }
    out
}

/// Up to [`ROWS`] rows, as many as `out` has room for.
#[target_feature(enable = "avx2")]
fn horizontal_rows(rows: &[u8], stride: usize, groups: &[(usize, Vec<Group>)], axis: &Axis, out: &mut [u8]) {
    // Samples of two neighbouring pixels side by side, channel by channel: pixels 0 and 1 low, 2 and 3 high.
    let spread = _mm256_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1,
        -1, -1, -1, -1,
    );
    let out_stride = groups.len() * CHANNELS;
    for (x, (first, groups)) in groups.iter().enumerate() {
        let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
        for (step, group) in groups.iter().enumerate() {
            let (high, low) = (load_weights(&group.high), load_weights(&group.low));
            let at = first + step * STEP * CHANNELS;
            for (row, sums) in sums.iter_mut().enumerate() {
                let Some(samples) = rows[row * stride + at..].first_chunk() else {
                    return;
                };
                let pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load(samples)), spread);
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(pixels, high));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(pixels, low));
            }
        }
        for (out, [high, low]) in out.chunks_exact_mut(out_stride).zip(sums) {
            let sum = joined(high, low);
            let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let sum = _mm_add_epi32(sum, _mm_set1_epi32(axis.half()));
            let sum = _mm_sra_epi32(sum, _mm_cvtsi32_si128(axis.bits.cast_signed()));
            let words = _mm_packs_epi32(sum, sum);
            let bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words)).to_le_bytes();
            out[x * CHANNELS..][..CHANNELS].copy_from_slice(&bytes[..CHANNELS]);
        }
    }
}

/// The vertical pass over rows of `stride` bytes.
pub(super) fn vertical(src: &[u8], stride: usize, axis: &Axis) -> Vec<u8> {
    let mut out = vec![0; axis.taps.len() * stride];
    let whole = stride / VECTOR * VECTOR;
    let (mut pairs, mut sums) = (Vec::new(), Vec::new());
    for (out, taps) in out.chunks_exact_mut(stride).zip(&axis.taps) {
        pairs.clear();
        pairs.extend(taps.weights.chunks(2).map(|two| {
            let (a, b) = (split(two[0]), split(two.get(1).copied().unwrap_or(0)));
            [pair(a.0, b.0), pair(a.1, b.1)]
        }));
        let rows = &src[taps.first * stride..];
        // SAFETY: `suits` found AVX2.
        unsafe { vertical_row(rows, stride, &pairs, axis, &mut out[..whole]) };
        vertical_columns(rows, stride, whole, axis, taps, out, &mut sums);
    }
    out
}

/// The columns of one row that fill whole vectors. `rows` begins with the row of the first tap.
#[target_feature(enable = "avx2")]
fn vertical_row(rows: &[u8], stride: usize, pairs: &[[i32; 2]], axis: &Axis, out: &mut [u8]) {
    let shift = _mm_cvtsi32_si128(axis.bits.cast_signed());
    let half = _mm256_set1_epi32(axis.half());
    for (column, out) in out.chunks_exact_mut(VECTOR).enumerate() {
        let mut sums = [[_mm256_setzero_si256(); 2]; 2];
        for (number, [high, low]) in pairs.iter().enumerate() {
            let at = 2 * number * stride + column * VECTOR;
            let Some(above) = rows[at..].first_chunk() else {
                return;
            };
            // The last of an odd number of taps is paired with itself; its second weight is 0.
            let below = rows.get(at + stride..).and_then(<[u8]>::first_chunk);
            let above = _mm256_cvtepu8_epi16(load(above));
            let below = below.map_or(above, |below| _mm256_cvtepu8_epi16(load(below)));
            let both = [
                _mm256_unpacklo_epi16(above, below),
                _mm256_unpackhi_epi16(above, below),
            ];
            let (high, low) = (_mm256_set1_epi32(*high), _mm256_set1_epi32(*low));
            for (sums, samples) in sums.iter_mut().zip(both) {
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(samples, high));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(samples, low));
            }
        }
        let [left, right] =
            sums.map(|[high, low]| _mm256_sra_epi32(_mm256_add_epi32(joined(high, low), half), shift));
        let words = _mm256_packs_epi32(left, right);
        let bytes = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi16(words, words));
        if let Some(out) = out.first_chunk_mut() {
            store(out, _mm256_castsi256_si128(bytes));
        }
    }
}

/// The sum that two partial sums stand for.
#[target_feature(enable = "avx2")]
fn joined(high: __m256i, low: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_slli_epi32::<LOW_BITS>(high), low)
}

#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; VECTOR]) -> __m128i {
    // SAFETY: the array has as many bytes as are read; the read needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn load_weights(weights: &[i32; 8]) -> __m256i {
    // SAFETY: the array has as many bytes as are read; the read needs no alignment.
    unsafe { _mm256_loadu_si256(weights.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn store(bytes: &mut [u8; VECTOR], vector: __m128i) {
    // SAFETY: the array has as many bytes as are written; the write needs no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) };
}
