//! One ask from the queue to its outcome, on a job thread.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use reelsight_families::{Prompt, Turn, VideoShown};

use crate::{
    AskJob, AskOutcome, AskTarget, EngineError, EngineEvent, EvidenceSpan, Finish, SessionKv, StageTimes,
    evidence::{Scene, ShownFrame, cite, ground},
    generate::{Generated, generate},
    graphs::Logits,
    model::prompt_error,
    sequence::Sequence,
    session::KvSnapshot,
    watch::{JobContext, Watched, watch},
};

/// A prefilled conversation.
struct Ready<'m> {
    sequence: Sequence<'m>,
    prompt: Prompt,
    logits: Option<Logits>,
    video: VideoShown,
    frames: Vec<ShownFrame>,
    damaged: usize,
    turns: Vec<Turn>,
    cached_tokens: usize,
}

/// Runs `job`; `queue` is how long it waited.
pub(crate) fn run(context: &JobContext<'_>, job: AskJob, queue: Duration) -> Result<AskOutcome, EngineError> {
    let JobContext {
        model,
        control,
        clocks,
        ..
    } = *context;
    let started = Instant::now();
    let AskJob {
        target,
        question,
        generation,
        citations,
        keep_session,
        ..
    } = job;
    let mut ready = match target {
        AskTarget::Video { plan, open } => {
            from_video(watch(context, &plan, open, &turns(&question))?, turns(&question))
        }
        AskTarget::Session(session) => follow_up(context, &session.0, question)?,
    };
    // The state that is about to answer is gone once the answer has begun.
    let grounded = match &ready.logits {
        Some(logits) if citations => clocks
            .evidence
            .time(|| ground(model, &ready.prompt, &ready.sequence.cache, logits, control))?,
        _ => None,
    };
    let generated = match ready.logits.take() {
        Some(logits) => Some(
            clocks
                .generate
                .time(|| generate(context, &mut ready.sequence, logits, &generation))?,
        ),
        None => None,
    };
    let first_token = generated
        .as_ref()
        .map_or(Duration::ZERO, |done| done.first_token - started);
    let generated = generated.unwrap_or_else(nothing);
    let evidence = match generated.finish {
        Finish::Stop | Finish::Length if citations => clocks
            .evidence
            .time(|| evidence(context, &ready, &generated, grounded.as_deref()))?,
        _ => Vec::new(),
    };
    let times = StageTimes {
        queue,
        first_token,
        wall: started.elapsed(),
        ..clocks.times()
    };
    Ok(AskOutcome {
        finish: generated.finish,
        evidence,
        prompt_tokens: ready.prompt.ids.len(),
        visual_tokens: ready.prompt.visual_tokens(),
        cached_tokens: ready.cached_tokens,
        completion_tokens: generated.token_ids.len(),
        token_ids: generated.token_ids,
        logprobs: generated.logprobs,
        frames_used: ready.frames.len(),
        frames_damaged: ready.damaged,
        times,
        session: keep_session.then(|| session(model.id, ready, &generated.answer)),
        answer: generated.answer,
    })
}

/// What the answer rests on; its end-of-turn token is no part of it.
fn evidence(
    context: &JobContext<'_>,
    ready: &Ready<'_>,
    generated: &Generated,
    grounded: Option<&[f64]>,
) -> Result<Vec<EvidenceSpan>, EngineError> {
    let (model, ids) = (context.model, &generated.token_ids);
    let ended = ids.last().is_some_and(|id| model.end.contains(id));
    let scene = Scene {
        model,
        prompt: &ready.prompt,
        cache: &ready.sequence.cache,
        frames: &ready.frames,
        answer: &ids[..ids.len() - usize::from(ended)],
    };
    cite(&scene, grounded, context.control)
}

fn turns(question: &str) -> Vec<Turn> {
    let turn = Turn {
        question: question.to_owned(),
        answer: None,
    };
    if question.is_empty() {
        Vec::new()
    } else {
        vec![turn]
    }
}

fn from_video(watched: Watched<'_>, turns: Vec<Turn>) -> Ready<'_> {
    let Watched {
        sequence,
        prompt,
        logits,
        video,
        frames,
        damaged,
    } = watched;
    Ready {
        sequence,
        prompt,
        logits,
        video,
        frames,
        damaged,
        turns,
        cached_tokens: 0,
    }
}

/// Prefills what a new question adds to a session. The whole conversation is told anew and compared with the cached
/// ids, so the result is that of a prefill of the whole conversation, whatever tokens the model chose for its answers.
fn follow_up<'m>(
    context: &JobContext<'m>,
    session: &KvSnapshot,
    question: String,
) -> Result<Ready<'m>, EngineError> {
    let JobContext {
        model,
        config,
        control,
        clocks,
        events,
        ..
    } = *context;
    let mut turns = session.turns.clone();
    turns.push(Turn {
        question,
        answer: None,
    });
    let prompt = model
        .family
        .prompt(&session.video, &turns)
        .map_err(|error| prompt_error(&error))?;
    let limit = model.info.context_tokens;
    if prompt.ids.len() >= limit {
        return Err(EngineError::ContextExceeded {
            limit,
            actual: prompt.ids.len(),
        });
    }
    let mut sequence = Sequence::resume(model, session.ids.clone(), session.cache.clone());
    // At least one token must run, for its logits.
    let cached_tokens = sequence.common_prefix(&prompt.ids).min(prompt.ids.len() - 1);
    if cached_tokens < prompt.video_tokens() {
        return Err(EngineError::Internal {
            message: "the session's video does not begin its conversation".into(),
        });
    }
    sequence.truncate(cached_tokens, control)?;
    events.send(EngineEvent::Prefill, control)?;
    let (chunk, end) = (config.prefill_chunk, prompt.ids.len());
    let logits = clocks
        .prefill
        .time(|| sequence.prefill(&prompt, end, &BTreeMap::new(), chunk, control))?;
    Ok(Ready {
        sequence,
        prompt,
        logits,
        video: session.video.clone(),
        frames: session.frames.clone(),
        damaged: session.damaged,
        turns,
        cached_tokens,
    })
}

/// What is generated when nothing was asked.
fn nothing() -> Generated {
    Generated {
        answer: String::new(),
        token_ids: Vec::new(),
        logprobs: Vec::new(),
        finish: Finish::Stop,
        first_token: Instant::now(),
    }
}

fn session(model: u64, ready: Ready<'_>, answer: &str) -> SessionKv {
    let Ready {
        sequence,
        video,
        frames,
        damaged,
        mut turns,
        ..
    } = ready;
    if let Some(last) = turns.last_mut() {
        last.answer = Some(answer.to_owned());
    }
    let Sequence { ids, cache, .. } = sequence;
    SessionKv(Arc::new(KvSnapshot {
        model,
        video,
        frames,
        damaged,
        turns,
        ids,
        cache,
    }))
}
