//! What the engine's tests share: a model with random weights, made frames, a Python with transformers.
#![expect(clippy::allow_attributes, reason = "each test file uses another part")]
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses another part"
)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use reelsight_engine::{
    AskHandle, AskJob, AskOutcome, AskTarget, Engine, EngineConfig, EngineError, EngineEvent,
    GenerationOptions, SamplingRequest, SessionKv, VideoPlan,
};
use reelsight_media::{CancelFlag, FrameSource, IterSource, MediaTime, Pts, RgbFrame, TimeBase, Timeline};
use reelsight_registry::ModelFolder;

pub const WIDTH: u32 = 64;
pub const HEIGHT: u32 = 48;
pub const FPS: u32 = 25;

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

pub fn python(script: &Path, args: &[&str]) -> String {
    let mut command = Command::new(repository().join(".venv/bin/python"));
    command
        .env("PYTHONPATH", repository().join("models/training"))
        .current_dir(repository());
    command.env("CUDA_VISIBLE_DEVICES", "").env("HF_HUB_OFFLINE", "1");
    let output = command
        .arg(script)
        .args(args)
        .output()
        .expect("run .venv/bin/python (make setup makes it)");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{} failed: {errors}", script.display());
    String::from_utf8(output.stdout).unwrap()
}

/// A folder in the published layout with weights from a seed, `form` being the kind of decoder graph.
pub fn twin(form: &'static str) -> PathBuf {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("twin-{form}-{}", std::process::id()));
    if !out.join("SHA256SUMS").is_file() {
        let out = out.to_str().unwrap();
        let mut command = Command::new(repository().join(".venv/bin/python"));
        command
            .env("PYTHONPATH", repository().join("models/training"))
            .current_dir(repository());
        command.args([
            "-m",
            "reelsight_training.export",
            "--random",
            "--seed",
            "0",
            "--decoder",
            form,
            "--out",
            out,
        ]);
        let output = command
            .output()
            .expect("run .venv/bin/python (make setup makes it)");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    out
}

pub fn config() -> EngineConfig {
    EngineConfig {
        intra_threads: 1,
        max_active: 2,
        max_queued: 2,
        prefill_chunk: 128,
        vision_batch: 4,
        no_overlap: false,
    }
}

/// The engine that most tests of a file share.
pub fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| load(&config())).clone()
}

pub fn load(config: &EngineConfig) -> Engine {
    Engine::load(&ModelFolder::open(&twin("gqa")).unwrap(), config.clone()).unwrap()
}

pub fn timeline(frames: u32) -> Timeline {
    let base = TimeBase::new(1, FPS).unwrap();
    Timeline::new(base, (0..i64::from(frames)).collect(), i64::from(frames)).unwrap()
}

/// Frame `index` of a made video: a bright square that wanders over a gradient. The same formula is in
/// `reference.py`.
pub fn frame(seed: u64, index: u64) -> RgbFrame {
    let mut data = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    let (left, top) = (
        (index * 3 + seed * 7) % u64::from(WIDTH - 16),
        (index + seed * 5) % u64::from(HEIGHT - 16),
    );
    for y in 0..u64::from(HEIGHT) {
        for x in 0..u64::from(WIDTH) {
            let inside = (left..left + 16).contains(&x) && (top..top + 16).contains(&y);
            let ground = [x * 3 + seed, y * 4 + index, (x + y + seed * 11) * 2];
            let square = [(seed * 53) % 256, (index * 17 + 90) % 256, 220];
            let pixel = if inside { square } else { ground };
            data.extend(pixel.map(|value| u8::try_from(value % 256).unwrap()));
        }
    }
    let base = TimeBase::new(1, FPS).unwrap();
    let time = MediaTime {
        pts: Pts(i64::try_from(index).unwrap()),
        base,
    };
    RgbFrame {
        width: WIDTH,
        height: HEIGHT,
        data: data.into(),
        index,
        time,
        damaged: false,
    }
}

pub fn plan(engine: &Engine, frames: u32, question: &str) -> VideoPlan {
    engine
        .plan(&timeline(frames), &SamplingRequest::default(), question, 16)
        .unwrap()
}

pub fn video(seed: u64, plan: &VideoPlan) -> AskTarget {
    let frames: Vec<_> = plan.frames.iter().map(|&index| frame(seed, index)).collect();
    from_source(plan, move |_| Box::new(IterSource::new(frames)))
}

pub fn from_source(
    plan: &VideoPlan,
    open: impl FnOnce(&CancelFlag) -> Box<dyn FrameSource> + Send + 'static,
) -> AskTarget {
    AskTarget::Video {
        plan: plan.clone(),
        open: Box::new(move |cancel| Ok(open(cancel))),
    }
}

pub fn job(target: AskTarget, question: &str) -> AskJob {
    AskJob {
        target,
        question: question.to_owned(),
        generation: GenerationOptions {
            max_tokens: 16,
            ..GenerationOptions::default()
        },
        citations: false,
        keep_session: true,
        deadline: None,
        cancel: CancelFlag::new(),
    }
}

/// Reads a handle to its end.
pub fn wait(mut handle: AskHandle) -> Result<(AskOutcome, Vec<EngineEvent>), std::sync::Arc<EngineError>> {
    let mut events = Vec::new();
    while let Some(event) = handle.events.blocking_recv() {
        match event? {
            EngineEvent::Done(outcome) => return Ok((*outcome, events)),
            other => events.push(other),
        }
    }
    panic!("the stream ended without Done");
}

pub fn ask(engine: &Engine, job: AskJob) -> AskOutcome {
    wait(engine.submit(job).unwrap()).unwrap().0
}

pub fn follow_up(engine: &Engine, session: &SessionKv, question: &str) -> AskOutcome {
    ask(engine, job(AskTarget::Session(session.clone()), question))
}

/// Waits until `done`, for at most five seconds.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Names of this process's threads.
pub fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut names: Vec<_> = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    names.sort();
    names
}
