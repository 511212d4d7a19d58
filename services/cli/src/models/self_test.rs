//! One prompt through a loaded model: whether it answers, how fast, and in how much memory.

use reelsight_engine::{
    AskJob, AskOutcome, AskTarget, Engine, EngineEvent, GenerationOptions, SamplingRequest,
};
use reelsight_media::{IterSource, MediaTime, Pts, RgbFrame, TimeBase, Timeline};
use serde_json::{Value, json};

use crate::exit::{Failure, FailureKind};

const QUESTION: &str = "Describe what you see.";
const TOKENS: usize = 16;
/// Frames of the made video, one a second, and their size.
const FRAMES: u32 = 4;
const SIZE: (u32, u32) = (128, 96);

/// What the run cost.
pub(crate) struct SelfTest {
    outcome: AskOutcome,
    memory_bytes: Option<u64>,
}

impl SelfTest {
    /// Asks about a made video, or, of a text model, about nothing.
    pub(crate) fn run(engine: &Engine) -> Result<Self, Failure> {
        let target = if engine.info().tokens_per_frame == 0 {
            AskTarget::Text
        } else {
            video(engine)?
        };
        let job = AskJob {
            generation: GenerationOptions {
                max_tokens: TOKENS,
                ..GenerationOptions::default()
            },
            ..AskJob::new(target, QUESTION)
        };
        let mut handle = engine.submit(job)?;
        while let Some(event) = handle.events.blocking_recv() {
            let event = event.map_err(|error| Failure::new(FailureKind::Setup, "MODEL_FAILED", error))?;
            if let EngineEvent::Done(outcome) = event {
                return Ok(Self {
                    outcome: *outcome,
                    memory_bytes: resident(),
                });
            }
        }
        let message = "the model ended without an answer";
        Err(Failure::new(FailureKind::Internal, "INTERNAL", message))
    }

    /// Prompt tokens per second, as far as they can be told.
    fn prefill_rate(&self) -> f64 {
        let outcome = &self.outcome;
        let fresh = outcome.prompt_tokens - outcome.cached_tokens;
        fresh as f64 / outcome.times.prefill.as_secs_f64().max(1e-9)
    }

    /// Answer tokens per second after the first.
    fn decode_rate(&self) -> f64 {
        let after = self.outcome.completion_tokens.saturating_sub(1);
        after as f64 / self.outcome.times.generate.as_secs_f64().max(1e-9)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "prompt_tokens": self.outcome.prompt_tokens, "visual_tokens": self.outcome.visual_tokens,
            "completion_tokens": self.outcome.completion_tokens, "answer": self.outcome.answer,
            "first_token_ms": self.outcome.times.first_token.as_secs_f64() * 1e3,
            "prefill_tokens_per_second": self.prefill_rate(), "decode_tokens_per_second": self.decode_rate(),
            "memory_bytes": self.memory_bytes,
        })
    }

    pub(crate) fn line(&self) -> String {
        let outcome = &self.outcome;
        let memory = self.memory_bytes.map_or_else(String::new, |bytes| {
            format!(", {:.0} MB resident", bytes as f64 / 1e6)
        });
        format!(
            "{} tokens in ({} visual), {} out; first after {:.0} ms, prefill {:.0} tokens/s, decode {:.0} tokens/s{memory}",
            outcome.prompt_tokens,
            outcome.visual_tokens,
            outcome.completion_tokens,
            outcome.times.first_token.as_secs_f64() * 1e3,
            self.prefill_rate(),
            self.decode_rate(),
        )
    }
}

fn video(engine: &Engine) -> Result<AskTarget, Failure> {
    let internal = |error: String| Failure::new(FailureKind::Internal, "INTERNAL", error);
    let base = TimeBase::new(1, 1).ok_or_else(|| internal("a time base of a second".into()))?;
    let timeline = Timeline::new(base, (0..i64::from(FRAMES)).collect(), i64::from(FRAMES))
        .map_err(|error| internal(error.to_string()))?;
    let request = SamplingRequest {
        picture: Some(SIZE),
        ..SamplingRequest::default()
    };
    let plan = engine.plan(&timeline, &request, QUESTION, TOKENS)?;
    let frames: Vec<_> = plan.frames.iter().map(|&index| frame(index, base)).collect();
    Ok(AskTarget::Video {
        plan,
        open: Box::new(move |_| Ok(Box::new(IterSource::new(frames)))),
        key: None,
    })
}

/// A gradient that moves.
fn frame(index: u64, base: TimeBase) -> RgbFrame {
    let (width, height) = SIZE;
    let shade = |x: u32, y: u32| {
        let moved = u64::from(x) + index * 16;
        [moved * 2, u64::from(y) * 2, moved + u64::from(y)].map(|value| value.to_le_bytes()[0])
    };
    let data: Vec<u8> = (0..height)
        .flat_map(|y| (0..width).flat_map(move |x| shade(x, y)))
        .collect();
    RgbFrame {
        width,
        height,
        data: data.into(),
        index,
        time: MediaTime {
            pts: Pts(index.cast_signed()),
            base,
        },
        damaged: false,
    }
}

/// Memory of this process that is in use; `None` where the system does not say.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}
