//! What the engine's tests share: a model with random weights, made frames, a Python with transformers.
#![allow(dead_code, reason = "each test file uses another part")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "only tests call these")]

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use reelsight_engine::{
    AskHandle, AskJob, AskOutcome, AskTarget, Engine, EngineConfig, EngineError, EngineEvent,
    GenerationOptions, SamplingRequest, SessionKv, VideoPlan,
};
use reelsight_media::{CancelFlag, FrameSource, IterSource, TimeBase, Timeline};
use reelsight_registry::ModelFolder;

mod made;

pub(crate) use made::*;

pub(crate) fn config() -> EngineConfig {
    EngineConfig {
        intra_threads: 1,
        max_active: 2,
        max_queued: 2,
        prefill_chunk: 128,
        vision_batch: 4,
        no_overlap: false,
        ..EngineConfig::default()
    }
}

/// The engine that most tests of a file share.
pub(crate) fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| load(&config())).clone()
}

pub(crate) fn load(config: &EngineConfig) -> Engine {
    Engine::load(&ModelFolder::open(&twin("gqa")).unwrap(), config.clone()).unwrap()
}

pub(crate) fn timeline(frames: u32) -> Timeline {
    let base = TimeBase::new(1, FPS).unwrap();
    Timeline::new(base, (0..i64::from(frames)).collect(), i64::from(frames)).unwrap()
}

pub(crate) fn plan(engine: &Engine, frames: u32, question: &str) -> VideoPlan {
    engine
        .plan(&timeline(frames), &SamplingRequest::default(), question, 16)
        .unwrap()
}

pub(crate) fn video(seed: u64, plan: &VideoPlan) -> AskTarget {
    let frames: Vec<_> = plan.frames.iter().map(|&index| frame(seed, index)).collect();
    from_source(plan, move |_| Box::new(IterSource::new(frames)))
}

pub(crate) fn from_source(
    plan: &VideoPlan,
    open: impl FnOnce(&CancelFlag) -> Box<dyn FrameSource> + Send + 'static,
) -> AskTarget {
    AskTarget::Video {
        plan: plan.clone(),
        open: Box::new(move |cancel| Ok(open(cancel))),
        key: None,
    }
}

pub(crate) fn job(target: AskTarget, question: &str) -> AskJob {
    AskJob {
        generation: GenerationOptions {
            max_tokens: 16,
            ..GenerationOptions::default()
        },
        keep_session: true,
        ..AskJob::new(target, question)
    }
}

/// Reads a handle to its end.
pub(crate) fn wait(mut handle: AskHandle) -> Result<(AskOutcome, Vec<EngineEvent>), Arc<EngineError>> {
    let mut events = Vec::new();
    while let Some(event) = handle.events.blocking_recv() {
        match event? {
            EngineEvent::Done(outcome) => return Ok((*outcome, events)),
            other => events.push(other),
        }
    }
    panic!("the stream ended without Done");
}

pub(crate) fn ask(engine: &Engine, job: AskJob) -> AskOutcome {
    wait(engine.submit(job).unwrap()).unwrap().0
}

pub(crate) fn follow_up(engine: &Engine, session: &SessionKv, question: &str) -> AskOutcome {
    ask(engine, job(AskTarget::Session(session.clone()), question))
}

/// Waits until `done`, for at most five seconds.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Names of this process's threads.
pub(crate) fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut names: Vec<_> = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    names.sort();
    names
}
