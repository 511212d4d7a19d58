//! The frame rule of the SmolVLM family, to the index.

/// Seconds left out at both ends of a long video.
const SKIP_SECS: f64 = 1.0;

/// Indices into `total` frames of a video of `duration_secs` at `video_fps`, increasing, possibly repeated.
///
/// # Source
/// `SmolVLMVideoProcessor.sample_frames`, transformers 5.23; `round` is Python's, to even.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; values are not negative"
)]
pub(crate) fn indices(
    total: usize,
    video_fps: f64,
    duration_secs: f64,
    fps: f64,
    max_frames: usize,
) -> Vec<usize> {
    let estimated = (fps * duration_secs).round_ties_even() as usize;
    let desired = estimated.min(max_frames).max(1);
    let last = total - 1;
    let (mut start, mut end) = (0, last);
    if duration_secs - 2.0 * SKIP_SECS > max_frames as f64 * fps {
        start = (SKIP_SECS * video_fps) as usize;
        end = ((total as f64 - SKIP_SECS * video_fps) as usize).min(last);
    }
    if start >= end {
        (start, end) = (0, last);
    }
    linspace(start, end, desired)
}

/// `numpy.linspace(start, end, count, dtype=int)`, with the order of its floating-point operations.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between start and end"
)]
fn linspace(start: usize, end: usize, count: usize) -> Vec<usize> {
    if count < 2 {
        return vec![start; count];
    }
    let delta = (end - start) as f64;
    let gaps = (count - 1) as f64;
    let step = delta / gaps;
    let mut out: Vec<usize> = (0..count)
        .map(|k| {
            if step == 0.0 {
                k as f64 / gaps * delta
            } else {
                k as f64 * step
            }
        })
        .map(|offset| (offset + start as f64).floor() as usize)
        .collect();
    out[count - 1] = end;
    out
}
