//! From what the engine says to the contract's messages.

use reelsight_engine::{AskOutcome, EvidenceSpan, Finish, VideoPlan};
use reelsight_media::label_from_secs;
use reelsight_proto::{
    time::{duration_from_secs, duration_from_std},
    v1::{
        Citation, FinishReason, SamplingReport, TimeRange, Usage,
        time_range::{End, Start},
    },
};

pub(crate) fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

pub(crate) fn report_from_plan(plan: &VideoPlan) -> SamplingReport {
    SamplingReport {
        frames_decoded: 0,
        frames_used: count(plan.frames.len()),
        visual_tokens: count(plan.visual_tokens),
        effective_fps: plan.effective_fps,
        media_duration: Some(duration_from_secs(plan.duration_secs)),
        reduced_to_fit: plan.reduced.is_some(),
        reduced_reason: plan
            .reduced
            .map_or_else(String::new, |reason| reason.as_str().to_owned()),
    }
}

pub(crate) fn finish_reason(finish: Finish) -> FinishReason {
    match finish {
        Finish::Stop => FinishReason::Stop,
        Finish::Length => FinishReason::Length,
        Finish::NoEvidence => FinishReason::NoEvidence,
    }
}

/// The evidence supports the whole answer, so that is the byte range.
pub(crate) fn citation(span: &EvidenceSpan, answer: &str) -> Citation {
    let range = TimeRange {
        start: Some(Start::StartOffset(duration_from_secs(span.start_secs))),
        end: Some(End::EndOffset(duration_from_secs(span.end_secs))),
    };
    Citation {
        text_start: 0,
        text_end: count(answer.len()),
        range: Some(range),
        frame_ids: span.frames.clone(),
        grounding_score: Some(span.score),
        label: format!(
            "{} - {}",
            label_from_secs(span.start_secs),
            label_from_secs(span.end_secs)
        ),
    }
}

pub(crate) fn usage(outcome: &AskOutcome, model: &str) -> Usage {
    let times = &outcome.times;
    let time = |duration| Some(duration_from_std(duration));
    Usage {
        prompt_tokens: count(outcome.prompt_tokens),
        visual_tokens: count(outcome.visual_tokens),
        completion_tokens: count(outcome.completion_tokens),
        cached_tokens: count(outcome.cached_tokens),
        queue_time: time(times.queue),
        decode_time: time(times.decode),
        encode_time: time(times.encode),
        prefill_time: time(times.prefill),
        generate_time: time(times.generate),
        model: model.to_owned(),
        worker: "local".to_owned(),
        source_time: None,
        preprocess_time: time(times.preprocess),
        evidence_time: time(times.evidence),
        first_token_time: time(times.first_token),
        wall_time: time(times.wall),
    }
}
