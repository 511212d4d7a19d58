//! What can be said about a request before anything is opened.

use std::time::Duration;

use reelsight_engine::{GenerationOptions, SamplingRequest};
use reelsight_proto::{
    time::{secs_from_duration, std_from_duration},
    v1::{
        AnswerOptions, GenerationConfig, Sampling, SamplingStrategy, TimeRange,
        time_range::{End, Start},
    },
};

use crate::{QaError, forms};

/// Longest question in bytes.
pub(crate) const MAX_QUESTION: usize = 8 << 10;
const MAX_FPS: f64 = 1000.0;
const SLOWEST_PROGRESS: Duration = Duration::from_secs(1);
const FASTEST_PROGRESS: Duration = Duration::from_millis(50);

pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> QaError {
    QaError::Invalid {
        field,
        message: message.into(),
    }
}

pub(crate) fn question(text: &str) -> Result<(), QaError> {
    if text.trim().is_empty() {
        return Err(invalid("question", "the question is empty: ask something"));
    }
    if text.len() > MAX_QUESTION {
        let message = format!(
            "the question has {} bytes and at most {MAX_QUESTION} are allowed: shorten it",
            text.len()
        );
        return Err(invalid("question", message));
    }
    Ok(())
}

pub(crate) fn request_id(id: &str) -> Result<(), QaError> {
    if id.len() > 128 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(
            "request_id",
            "request_id has at most 128 printable ASCII characters",
        ));
    }
    Ok(())
}

pub(crate) fn sampling(sampling: &Sampling, range: Option<&TimeRange>) -> Result<SamplingRequest, QaError> {
    if SamplingStrategy::try_from(sampling.strategy).is_err() {
        return Err(invalid(
            "sampling.strategy",
            "this strategy is not known: leave it unset",
        ));
    }
    if !(0.0..=MAX_FPS).contains(&sampling.fps) {
        return Err(invalid(
            "sampling.fps",
            format!("fps is between 0 and {MAX_FPS}; 0 is the model's default"),
        ));
    }
    Ok(SamplingRequest {
        fps: sampling.fps,
        max_frames: sampling.max_frames as usize,
        max_visual_tokens: sampling.max_visual_tokens as usize,
        range_secs: range.map(range_secs).transpose()?.flatten(),
        picture: None,
    })
}

/// `None` when the range is the whole video; an open end is infinite until the duration is known.
fn range_secs(range: &TimeRange) -> Result<Option<(f64, f64)>, QaError> {
    let start = range
        .start
        .as_ref()
        .map(|Start::StartOffset(offset)| secs_from_duration(offset));
    let end = range
        .end
        .as_ref()
        .map(|End::EndOffset(offset)| secs_from_duration(offset));
    if start.is_some_and(|start| start < 0.0) || end.is_some_and(|end| end < 0.0) {
        return Err(invalid("source.range", "offsets must not be negative"));
    }
    if end.is_some_and(|end| end <= start.unwrap_or(0.0)) {
        return Err(invalid("source.range", "the end must lie after the start"));
    }
    let whole = start.is_none() && end.is_none();
    Ok((!whole).then(|| (start.unwrap_or(0.0), end.unwrap_or(f64::INFINITY))))
}

/// The range within a video of `duration` seconds.
pub(crate) fn clip_range(request: &mut SamplingRequest, duration: f64) -> Result<(), QaError> {
    if let Some((start, end)) = &mut request.range_secs {
        if *start >= duration {
            let message = format!("the range starts at {start} s and the video is {duration:.3} s long");
            return Err(invalid("source.range", message));
        }
        *end = end.min(duration);
    }
    Ok(())
}

/// The parameters of `config`; its schema is compiled later ([`forms::with_schema`]).
pub(crate) fn generation(config: &GenerationConfig) -> Result<GenerationOptions, QaError> {
    let neutral = GenerationOptions::default();
    let options = GenerationOptions {
        max_tokens: config.max_tokens as usize,
        temperature: config.temperature.unwrap_or(neutral.temperature),
        top_p: config.top_p.unwrap_or(neutral.top_p),
        top_k: config.top_k as usize,
        min_p: config.min_p.unwrap_or(neutral.min_p),
        top_h: config.top_h.unwrap_or(neutral.top_h),
        repetition_penalty: config.repetition_penalty.unwrap_or(neutral.repetition_penalty),
        frequency_penalty: config.frequency_penalty.unwrap_or(neutral.frequency_penalty),
        presence_penalty: config.presence_penalty.unwrap_or(neutral.presence_penalty),
        seed: config.seed,
        stop: config.stop.clone(),
        logprobs: forms::logprobs(config)?,
        form: forms::form(config)?,
    };
    options.check()?;
    Ok(options)
}

/// How often progress is sent at least.
pub(crate) fn progress_interval(options: &AnswerOptions) -> Result<Duration, QaError> {
    let Some(wanted) = &options.progress_interval else {
        return Ok(SLOWEST_PROGRESS);
    };
    let wanted = std_from_duration(wanted).ok_or_else(|| {
        invalid(
            "options.progress_interval",
            "progress_interval must not be negative",
        )
    })?;
    Ok(if wanted.is_zero() {
        SLOWEST_PROGRESS
    } else {
        wanted.clamp(FASTEST_PROGRESS, SLOWEST_PROGRESS)
    })
}

#[cfg(test)]
mod tests {
    use reelsight_proto::{status::ServiceError as _, time::duration_from_secs};

    use super::*;

    fn field<T: std::fmt::Debug>(result: Result<T, QaError>) -> String {
        result.unwrap_err().details().field.unwrap()
    }

    fn range(start: Option<f64>, end: Option<f64>) -> TimeRange {
        TimeRange {
            start: start.map(|s| Start::StartOffset(duration_from_secs(s))),
            end: end.map(|s| End::EndOffset(duration_from_secs(s))),
        }
    }

    #[test]
    fn wrong_fields_are_named() {
        assert_eq!(field(question(" \n")), "question");
        assert_eq!(field(question(&"x".repeat(MAX_QUESTION + 1))), "question");
        assert!(question(&"x".repeat(MAX_QUESTION)).is_ok());
        for fps in [-1.0, f64::NAN, f64::INFINITY, 1001.0] {
            assert_eq!(
                field(sampling(
                    &Sampling {
                        fps,
                        ..Sampling::default()
                    },
                    None
                )),
                "sampling.fps"
            );
        }
        assert_eq!(
            field(sampling(
                &Sampling {
                    strategy: 77,
                    ..Sampling::default()
                },
                None
            )),
            "sampling.strategy"
        );
        for bad in [
            range(Some(-1.0), None),
            range(Some(2.0), Some(2.0)),
            range(None, Some(0.0)),
        ] {
            assert_eq!(field(sampling(&Sampling::default(), Some(&bad))), "source.range");
        }
        let config = GenerationConfig::default();
        for temperature in [-0.1, 2.1, f32::NAN] {
            let bad = GenerationConfig {
                temperature: Some(temperature),
                ..config.clone()
            };
            assert_eq!(field(generation(&bad)), "generation.temperature");
        }
        for top_p in [0.0, 1.1, f32::NAN] {
            assert_eq!(
                field(generation(&GenerationConfig {
                    top_p: Some(top_p),
                    ..config.clone()
                })),
                "generation.top_p"
            );
        }
        for stop in [vec![String::new()], vec!["x".repeat(65)], vec!["x".into(); 9]] {
            assert_eq!(
                field(generation(&GenerationConfig {
                    stop,
                    ..config.clone()
                })),
                "generation.stop"
            );
        }
        assert_eq!(field(request_id("a b")), "request_id");
    }

    #[test]
    fn ranges_are_clipped_to_the_video_and_must_touch_it() {
        let mut open = sampling(&Sampling::default(), Some(&range(Some(1.5), None))).unwrap();
        clip_range(&mut open, 4.0).unwrap();
        assert_eq!(open.range_secs, Some((1.5, 4.0)));
        assert_eq!(field(clip_range(&mut open, 1.5)), "source.range");
        assert_eq!(
            sampling(&Sampling::default(), Some(&range(None, None)))
                .unwrap()
                .range_secs,
            None
        );
    }
}
