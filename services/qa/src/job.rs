//! The step from a plan to the engine.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use reelsight_catalog::{Resolved, Sources};
use reelsight_decode::{DecodeOptions, PacketIndex};
use reelsight_edge::RequestContext;
use reelsight_engine::{
    AskHandle, AskJob, AskOutcome, AskTarget, Engine, EngineEvent, GenerationOptions, VideoPlan,
};
use reelsight_media::{CancelFlag, FrameError, FrameSource, RgbFrame};
use reelsight_worker::WorkerReader;

use crate::{QaError, qa::QaLimits};

/// Pictures that came out of the decoder, counted while the engine owns the reader.
#[derive(Debug, Clone, Default)]
pub(crate) struct DecodedCount(Arc<AtomicU32>);

impl DecodedCount {
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

struct CountingReader {
    reader: WorkerReader,
    count: DecodedCount,
}

impl FrameSource for CountingReader {
    fn next_frame(&mut self) -> Result<Option<RgbFrame>, FrameError> {
        let next = self.reader.next_frame();
        let decoded = u32::try_from(self.reader.stats().frames_decoded).unwrap_or(u32::MAX);
        self.count.0.store(decoded, Ordering::Relaxed);
        next
    }
}

/// A target whose decoder, a process of its own, is asked on the job's own thread.
pub(crate) fn video_target(
    sources: &Sources,
    source: &Resolved,
    index: Arc<PacketIndex>,
    plan: VideoPlan,
    limits: &QaLimits,
    count: DecodedCount,
) -> Result<AskTarget, QaError> {
    let (input, frames) = (source.input()?, plan.frames.clone());
    let (pool, decode) = (sources.pool().clone(), sources.limits().decode.clone());
    let (threads, budget_bytes) = (limits.decode_threads, limits.frame_budget);
    let open = move |cancel: &CancelFlag| {
        let options = DecodeOptions {
            threads,
            budget_bytes,
            limits: decode,
            cancel: cancel.clone(),
            ..DecodeOptions::default()
        };
        let reader = pool.read_frames(&input, index, frames, &options)?;
        Ok(Box::new(CountingReader { reader, count }) as Box<dyn FrameSource>)
    };
    Ok(AskTarget::Video {
        plan,
        open: Box::new(open),
        // Pictures come out the same however many threads decode them, so the bytes decide.
        key: Some(source.key().as_str().to_owned()),
    })
}

/// Puts an ask into the engine's queue. Dropping the handle cancels it.
pub(crate) fn submit(
    engine: &Engine,
    target: AskTarget,
    question: &str,
    generation: GenerationOptions,
    (citations, keep_session): (bool, bool),
    context: &RequestContext,
) -> Result<AskHandle, QaError> {
    let job = AskJob {
        generation,
        citations,
        keep_session,
        deadline: context.deadline().map(tokio::time::Instant::into_std),
        ..AskJob::new(target, question)
    };
    Ok(engine.submit(job)?)
}

/// Runs a job to its end, with nobody watching.
pub(crate) async fn finish(mut handle: AskHandle) -> Result<AskOutcome, QaError> {
    while let Some(event) = handle.events.recv().await {
        if let EngineEvent::Done(outcome) = event? {
            return Ok(*outcome);
        }
    }
    Err(QaError::Internal("the engine ended a job without a result"))
}
