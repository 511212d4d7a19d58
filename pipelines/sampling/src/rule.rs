//! The rules and the one function that applies them.

use reelsight_media::Timeline;

/// More samples than any video has frames: a rate that asks for so many is a mistake.
const MAX_SAMPLES: f64 = 1e8;

/// How frames are chosen.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// Samples at first time stamp + k / fps, below the end.
    Fps(f64),
    /// The centres of N equal parts of [first time stamp, end).
    Count(usize),
    /// The frames shown at these times, in seconds.
    At(Vec<f64>),
    /// These frames of the timeline, key frames or the first frames of shots, as far as the range holds them.
    Frames(Vec<u64>),
    /// What the SmolVLM family's processor does.
    SmolVlm {
        /// Frames per second aimed at.
        fps: f64,
        /// Most frames.
        max_frames: usize,
    },
    /// What the processors of Qwen2-VL and Qwen2.5-VL do.
    QwenVl {
        /// Frames per second aimed at.
        fps: f64,
        /// Least frames, as far as the video has them.
        min_frames: usize,
        /// Most frames.
        max_frames: usize,
        /// Frames that are encoded together; their number becomes a multiple of it.
        group: usize,
    },
    /// What most other processors do: frames at equal distances from the first on.
    Uniform {
        /// How many, as far as the video has them.
        frames: usize,
    },
}

/// The chosen frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// Indices into the timeline, strictly increasing, never empty.
    pub frames: Vec<u64>,
    /// For each of them, how many samples fell on it; at least 1.
    pub samples: Vec<usize>,
    /// Samples that fell on a frame that was chosen already.
    pub duplicates: usize,
}

/// A rule or range that cannot be applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplingError {
    /// Frames per second must be a positive, finite number.
    #[error("{fps} frames per second: give a positive number that a video can have")]
    InvalidFps {
        /// What was given.
        fps: f64,
    },
    /// At least one frame must be asked for.
    #[error("0 frames: ask for at least one")]
    InvalidCount,
    /// A time at which nothing is shown.
    #[error("nothing is shown at {at_secs} s: the video ends at {video_end_secs} s")]
    InvalidTime {
        /// Time given.
        at_secs: f64,
        /// Where the video ends.
        video_end_secs: f64,
    },
    /// None of the listed frames lies in the range.
    #[error("no such frame from {start_secs} s to {end_secs} s: widen the range")]
    NoneInRange {
        /// Start of the range.
        start_secs: f64,
        /// Its end.
        end_secs: f64,
    },
    /// The range is empty, reversed or not a number.
    #[error("the range from {start_secs} s to {end_secs} s is empty: the end must come after the start")]
    InvalidRange {
        /// Start given.
        start_secs: f64,
        /// End given.
        end_secs: f64,
    },
    /// The range holds no part of the presentation.
    #[error(
        "the range from {start_secs} s to {end_secs} s lies outside the video, which ends at {video_end_secs} s"
    )]
    OutsideVideo {
        /// Start given.
        start_secs: f64,
        /// End given.
        end_secs: f64,
        /// Where the video ends.
        video_end_secs: f64,
    },
}

/// Applies `rule` to `timeline`, or to the part of it that is shown in `range_secs` (start, end).
///
/// # Units
/// Seconds on the timeline's clock, where 0 is what a player shows first. A frame belongs to the range when its time
/// lies in it; a range shorter than a frame takes the frame that is shown at its start.
///
/// # Errors
/// [`SamplingError`] when the rule or the range makes no sense for this video.
pub fn sample(
    timeline: &Timeline,
    rule: &Rule,
    range_secs: Option<(f64, f64)>,
) -> Result<Sampled, SamplingError> {
    let part = Part::new(timeline, range_secs)?;
    let wanted: Vec<usize> = match *rule {
        Rule::Fps(fps) => part.every(fps)?,
        Rule::Count(count) => part.centres(count)?,
        Rule::At(ref times_secs) => part.at(times_secs)?,
        Rule::Frames(ref frames) => part.listed(frames)?,
        Rule::SmolVlm { fps, max_frames } => part.smolvlm(fps, max_frames)?,
        Rule::QwenVl {
            fps,
            min_frames,
            max_frames,
            group,
        } => part.qwen_vl(fps, min_frames, max_frames, group)?,
        Rule::Uniform { frames } => part.uniform(frames)?,
    };
    let runs = wanted.chunk_by(|a, b| a == b);
    let (frames, samples): (Vec<u64>, Vec<usize>) = runs.map(|run| (run[0] as u64, run.len())).unzip();
    Ok(Sampled {
        duplicates: wanted.len() - frames.len(),
        frames,
        samples,
    })
}

/// The part of a timeline that a range selects: a run of frames and the seconds between which samples fall.
struct Part<'a> {
    timeline: &'a Timeline,
    first: usize,
    last: usize,
    start_secs: f64,
    end_secs: f64,
}

impl<'a> Part<'a> {
    fn new(timeline: &'a Timeline, range_secs: Option<(f64, f64)>) -> Result<Self, SamplingError> {
        let video_start_secs = timeline.base().secs(timeline.start());
        let video_end_secs = timeline.base().secs(timeline.end());
        let Some((start_secs, end_secs)) = range_secs else {
            let last = timeline.len() - 1;
            return Ok(Self {
                timeline,
                first: 0,
                last,
                start_secs: video_start_secs,
                end_secs: video_end_secs,
            });
        };
        if start_secs.is_nan() || end_secs.is_nan() || end_secs <= start_secs {
            return Err(SamplingError::InvalidRange { start_secs, end_secs });
        }
        if start_secs >= video_end_secs.max(video_start_secs + f64::EPSILON) || end_secs <= video_start_secs {
            return Err(SamplingError::OutsideVideo {
                start_secs,
                end_secs,
                video_end_secs,
            });
        }
        let (start_secs, end_secs) = (start_secs.max(video_start_secs), end_secs.min(video_end_secs));
        let shown = timeline.index_at_secs(start_secs);
        let begins_earlier = timeline.base().secs(timeline.all_pts()[shown]) < start_secs - 1e-9;
        let last = timeline.index_at_secs(end_secs);
        let ends_later = timeline.base().secs(timeline.all_pts()[last]) >= end_secs - 1e-9;
        let last = if ends_later {
            last.saturating_sub(1).max(shown)
        } else {
            last
        };
        let first = if begins_earlier && shown < last {
            shown + 1
        } else {
            shown
        };
        Ok(Self {
            timeline,
            first,
            last,
            start_secs,
            end_secs,
        })
    }

    /// The frame shown at `secs`, kept inside the part.
    fn shown_at(&self, secs: f64) -> usize {
        self.timeline.index_at_secs(secs)
    }

    fn every(&self, fps: f64) -> Result<Vec<usize>, SamplingError> {
        let samples = (self.end_secs - self.start_secs) * fps;
        if !(fps.is_finite() && fps > 0.0 && samples < MAX_SAMPLES) {
            return Err(SamplingError::InvalidFps { fps });
        }
        let times = (0_u64..).map(|k| self.start_secs + k as f64 / fps);
        let mut frames: Vec<usize> = times
            .take_while(|&secs| secs < self.end_secs - 1e-9)
            .map(|secs| self.shown_at(secs))
            .collect();
        if frames.is_empty() {
            frames.push(self.first);
        }
        Ok(frames)
    }

    fn centres(&self, count: usize) -> Result<Vec<usize>, SamplingError> {
        if count == 0 {
            return Err(SamplingError::InvalidCount);
        }
        let part_secs = (self.end_secs - self.start_secs) / count as f64;
        Ok((0..count)
            .map(|k| self.shown_at(self.start_secs + (k as f64 + 0.5) * part_secs))
            .collect())
    }

    fn at(&self, times_secs: &[f64]) -> Result<Vec<usize>, SamplingError> {
        if times_secs.is_empty() {
            return Err(SamplingError::InvalidCount);
        }
        let shown = |&secs: &f64| secs >= 0.0 && secs < self.end_secs.max(self.start_secs + f64::EPSILON);
        if let Some(&at_secs) = times_secs.iter().find(|secs| !shown(secs)) {
            return Err(SamplingError::InvalidTime {
                at_secs,
                video_end_secs: self.end_secs,
            });
        }
        let mut frames: Vec<_> = times_secs.iter().map(|&secs| self.shown_at(secs)).collect();
        frames.sort_unstable();
        Ok(frames)
    }

    fn listed(&self, frames: &[u64]) -> Result<Vec<usize>, SamplingError> {
        let inside = |&frame: &u64| {
            usize::try_from(frame)
                .ok()
                .filter(|frame| (self.first..=self.last).contains(frame))
        };
        let mut frames: Vec<_> = frames.iter().filter_map(inside).collect();
        if frames.is_empty() {
            return Err(SamplingError::NoneInRange {
                start_secs: self.start_secs,
                end_secs: self.end_secs,
            });
        }
        frames.sort_unstable();
        Ok(frames)
    }

    /// # Source
    /// `Qwen2VLVideoProcessor.sample_frames`, transformers 5.23. One frame of a video that has less than a group.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates; values are not negative"
    )]
    fn qwen_vl(
        &self,
        fps: f64,
        min_frames: usize,
        max_frames: usize,
        group: usize,
    ) -> Result<Vec<usize>, SamplingError> {
        if !(fps.is_finite() && fps > 0.0) {
            return Err(SamplingError::InvalidFps { fps });
        }
        if max_frames == 0 {
            return Err(SamplingError::InvalidCount);
        }
        let (total, group) = (self.last - self.first + 1, group.max(1));
        let most = max_frames.min(total) / group * group;
        let wanted = (self.end_secs - self.start_secs) * fps;
        let wanted = wanted.max(min_frames as f64).min(most as f64) as usize / group * group;
        Ok(crate::uniform::indices_like_torch(total, wanted.max(1))
            .into_iter()
            .map(|index| self.first + index)
            .collect())
    }

    fn uniform(&self, frames: usize) -> Result<Vec<usize>, SamplingError> {
        if frames == 0 {
            return Err(SamplingError::InvalidCount);
        }
        let total = self.last - self.first + 1;
        Ok(crate::uniform::indices(total, frames.min(total))
            .into_iter()
            .map(|index| self.first + index)
            .collect())
    }

    /// # Source
    /// `SmolVLMVideoProcessor.sample_frames`, transformers 5.23.
    fn smolvlm(&self, fps: f64, max_frames: usize) -> Result<Vec<usize>, SamplingError> {
        if !(fps.is_finite() && fps > 0.0) {
            return Err(SamplingError::InvalidFps { fps });
        }
        if max_frames == 0 {
            return Err(SamplingError::InvalidCount);
        }
        let total = self.last - self.first + 1;
        let duration_secs = self.end_secs - self.start_secs;
        let average_fps = if duration_secs > 0.0 {
            total as f64 / duration_secs
        } else {
            0.0
        };
        let picked = crate::smolvlm::indices(total, average_fps, duration_secs, fps, max_frames);
        Ok(picked.into_iter().map(|index| self.first + index).collect())
    }
}

#[cfg(test)]
mod tests;
