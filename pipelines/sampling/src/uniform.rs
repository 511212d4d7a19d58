//! Frames at equal distances, to the index of the reference.

/// Numbers that torch computes at once from their first; the others of a group are that one plus multiples of the step.
const LANES: usize = 8;

/// `count` indices into `total` frames, increasing.
///
/// # Source
/// `torch.arange(0, total, total / count).int()` of transformers 5.23, in f32 as torch computes it on the CPU.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and total"
)]
pub(crate) fn indices(total: usize, count: usize) -> Vec<usize> {
    let step = total as f64 / count as f64;
    let len = (total as f64 / step).ceil() as usize;
    let value = |at: usize| {
        let first = (step * (at / LANES * LANES) as f64) as f32;
        first + (at % LANES) as f32 * step as f32
    };
    (0..len).map(|at| (value(at) as usize).min(total - 1)).collect()
}
