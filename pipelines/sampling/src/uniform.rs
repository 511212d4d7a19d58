//! Frames at equal distances, to the index of the references.

/// `count` indices into `total` frames, increasing.
///
/// # Source
/// `default_sample_indices_fn` of transformers 5.23.
pub(crate) fn indices(total: usize, count: usize) -> Vec<usize> {
    (0..count).map(|at| at * total / count).collect()
}

/// [`indices`] as torch computes them in floats: now and then another frame, or one more.
///
/// # Source
/// `torch.arange(0, total, total / count).int()`, of `Qwen2VLVideoProcessor.sample_frames` of transformers 5.23: made
/// in f64, rounded to f32, truncated. An index beyond the last frame, which the reference fails to read, is left out.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and total"
)]
pub(crate) fn indices_like_torch(total: usize, count: usize) -> Vec<usize> {
    let step = total as f64 / count as f64;
    let len = (total as f64 / step).ceil() as usize;
    let value = |at: usize| (step * at as f64) as f32 as usize;
    (0..len).map(value).filter(|&index| index < total).collect()
}
