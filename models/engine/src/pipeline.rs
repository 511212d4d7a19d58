//! Frames to embeddings as a bounded pipeline, so that decoding, preprocessing, encoding and prefill overlap.
//!
//! ```text
//! frames-N --[bytes <= 64 MiB]--> pixels-N --[2 batches]--> encode-N --[4 batches]--> the scheduler (prefill)
//! ```
//! All threads belong to one ask. An error travels down the channels in order; a closed channel travels up. The
//! scheduler never waits for them: it takes what is there, and joins threads that have ended.

use std::{
    cell::Cell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use reelsight_families::VideoShown;
use reelsight_media::{ByteReceiver, ByteSender, CancelFlag, FrameError, RgbFrame, byte_channel};
use reelsight_preprocess::VisionInput;

use crate::{
    EngineError, OpenFrames,
    control::{Control, StageClocks},
    graphs::Features,
    model::{Model, prompt_error},
};

/// Decoded frames that may wait for preprocessing.
const FRAME_BYTES: usize = 64 << 20;
/// Batches of embeddings that may wait for prefill.
const FEATURE_BATCHES: usize = 4;

/// What the vision encoder saw at once: one frame, or as many as the family puts into one slot of the prompt.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) frames: Vec<SeenFrame>,
    pub(crate) features: Features,
}

/// A frame that went through the vision encoder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenFrame {
    /// Index in the video.
    pub(crate) index: u64,
    pub(crate) damaged: bool,
}

/// What the stages share.
#[derive(Clone)]
pub(crate) struct Stages {
    pub(crate) model: Arc<Model>,
    pub(crate) video: Arc<VideoShown>,
    pub(crate) control: Control,
    pub(crate) clocks: Arc<StageClocks>,
    /// Frames per run of the vision graph. Batches are filled up before they run, so results do not depend on timing.
    pub(crate) batch: usize,
}

/// Pixels of the frames of a slot; the pictures themselves are given back.
struct Picture {
    frames: Vec<SeenFrame>,
    pixels: VisionInput,
}

type Prepared = Result<Picture, EngineError>;
type Batch = Result<Vec<Encoded>, EngineError>;

thread_local! {
    static IS_STAGE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is a stage of some pipeline. Such a thread must not wait for the scheduler to end.
pub(crate) fn is_stage() -> bool {
    IS_STAGE.get()
}

/// The running stages of one ask. Dropping it tells them to stop, and waits for none.
pub(crate) struct Pipeline {
    halt: CancelFlag,
    features: Receiver<Batch>,
    panicked: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Pipeline {
    /// Starts the stages; `wake` is called whenever something has come or the last one has ended. With `overlap` they
    /// run at the same time, otherwise one after the other, for comparison.
    pub(crate) fn start(
        stages: &Stages,
        job: u64,
        open: OpenFrames,
        overlap: bool,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Self, EngineError> {
        let halt = CancelFlag::new();
        let (features_in, features) = bounded(FEATURE_BATCHES);
        let mut pipeline = Self {
            halt: halt.clone(),
            features,
            panicked: Arc::default(),
            threads: Vec::new(),
        };
        if !overlap {
            let stages = stages.clone();
            let panicked = Arc::clone(&pipeline.panicked);
            pipeline.spawn("frames", job, move || {
                guarded(&panicked, || serial(&stages, open, &halt, &features_in));
                drop(features_in);
                wake();
            })?;
            return Ok(pipeline);
        }
        let (frames_in, frames) = byte_channel(FRAME_BYTES);
        let (pixels_in, pixels) = bounded(2 * stages.batch);
        let (shared, panicked) = (stages.clone(), Arc::clone(&pipeline.panicked));
        pipeline.spawn("encode", job, move || {
            guarded(&panicked, || encode(&shared, &pixels, &features_in, &wake));
            drop(features_in);
            wake();
        })?;
        let (shared, panicked) = (stages.clone(), Arc::clone(&pipeline.panicked));
        pipeline.spawn("pixels", job, move || {
            guarded(&panicked, || prepare(&shared, &frames, &pixels_in));
        })?;
        let (clocks, panicked) = (Arc::clone(&stages.clocks), Arc::clone(&pipeline.panicked));
        pipeline.spawn("frames", job, move || {
            guarded(&panicked, || read_frames(&clocks, open, &halt, &frames_in));
        })?;
        Ok(pipeline)
    }

    fn spawn(
        &mut self,
        stage: &str,
        job: u64,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), EngineError> {
        let body = move || {
            IS_STAGE.set(true);
            body();
        };
        let thread = thread::Builder::new().name(format!("{stage}-{job}")).spawn(body);
        let thread = thread.map_err(|error| EngineError::Internal {
            message: format!("start a thread: {error}"),
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// What has come; `None` when there is nothing yet. `Ended` after the last batch.
    pub(crate) fn poll(&self) -> Option<Result<Arrived, EngineError>> {
        match self.features.try_recv() {
            Ok(batch) => Some(batch.map(Arrived::Batch)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) if self.panicked.load(Ordering::Acquire) => {
                Some(Err(EngineError::Internal {
                    message: "a thread that reads frames panicked".into(),
                }))
            }
            Err(TryRecvError::Disconnected) => Some(Ok(Arrived::End)),
        }
    }

    /// Tells the stages to stop, and hands their threads over to whoever joins them.
    pub(crate) fn stop(mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.threads)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // The channel closes with the receiver, which unblocks the stages one after the other; the flag stops the
        // source.
        self.halt.cancel();
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

/// Runs a stage. A panic is noted before the stage's channels close, so that nobody takes it for the end of the video.
fn guarded(panicked: &AtomicBool, stage: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(stage)).is_err() {
        panicked.store(true, Ordering::Release);
    }
}

/// What a pipeline gives.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// The next embeddings.
    Batch(Vec<Encoded>),
    /// There are no more.
    End,
}

/// Runs one stage after the other on the calling thread. Holds all frames in memory.
fn serial(stages: &Stages, open: OpenFrames, halt: &CancelFlag, out: &Sender<Batch>) {
    let run = || {
        let Stages {
            control,
            clocks,
            batch,
            ..
        } = stages;
        let mut frames = Vec::new();
        let mut source = clocks.decode.time(|| open(halt))?;
        while let Some(frame) = clocks.decode.time(|| source.next_frame())? {
            control.check()?;
            frames.push(frame);
        }
        drop(source);
        let mut prepared = Vec::new();
        for group in frames.chunks(stages.model.family.frames_per_slot()) {
            control.check()?;
            prepared.push(pixels_of(stages, group)?);
        }
        let mut encoded = Vec::new();
        while !prepared.is_empty() {
            let rest = prepared.split_off((*batch).min(prepared.len()));
            encoded.extend(encode_batch(stages, std::mem::replace(&mut prepared, rest))?);
        }
        Ok(encoded)
    };
    // Nobody may be there to hear it.
    out.send(run()).ok();
}

fn read_frames(
    clocks: &StageClocks,
    open: OpenFrames,
    halt: &CancelFlag,
    out: &ByteSender<Result<RgbFrame, FrameError>>,
) {
    let decode = &clocks.decode;
    let mut source = match decode.time(|| open(halt)) {
        Ok(source) => source,
        Err(error) => {
            out.send(Err(error)).ok();
            return;
        }
    };
    while !halt.is_cancelled() {
        let Some(frame) = decode.time(|| source.next_frame()).transpose() else {
            return;
        };
        let last = frame.is_err();
        if out.send(frame).is_err() || last {
            return;
        }
    }
}

fn prepare(stages: &Stages, frames: &ByteReceiver<Result<RgbFrame, FrameError>>, out: &Sender<Prepared>) {
    let size = stages.model.family.frames_per_slot();
    let next = || {
        let group: Result<Vec<_>, _> = std::iter::from_fn(|| frames.recv()).take(size).collect();
        match group {
            Ok(group) if group.is_empty() => None,
            Ok(group) => Some(pixels_of(stages, &group)),
            Err(error) => Some(Err(EngineError::from(error))),
        }
    };
    while let Some(prepared) = next() {
        let last = prepared.is_err();
        if out.send(prepared).is_err() || last {
            return;
        }
    }
}

fn encode(stages: &Stages, pixels: &Receiver<Prepared>, out: &Sender<Batch>, wake: &impl Fn()) {
    loop {
        let batch: Result<Vec<_>, _> = pixels.iter().take(stages.batch).collect();
        let encoded = match batch {
            Ok(batch) if batch.is_empty() => return,
            Ok(batch) => encode_batch(stages, batch),
            Err(error) => Err(error),
        };
        let last = encoded.is_err();
        if out.send(encoded).is_err() || last {
            return;
        }
        wake();
    }
}

fn pixels_of(stages: &Stages, frames: &[RgbFrame]) -> Prepared {
    let family = &stages.model.family;
    let pixels = stages
        .clocks
        .preprocess
        .time(|| family.video_pixels(frames, &stages.video));
    let seen = |frame: &RgbFrame| SeenFrame {
        index: frame.index,
        damaged: frame.damaged,
    };
    Ok(Picture {
        frames: frames.iter().map(seen).collect(),
        pixels: pixels.map_err(|error| prompt_error(&error))?,
    })
}

fn encode_batch(stages: &Stages, batch: Vec<Picture>) -> Batch {
    let Some(vision) = &stages.model.vision else {
        return Err(EngineError::InvalidInput {
            field: "source",
            message: "this is a text model: it cannot see a video".into(),
        });
    };
    let (frames, pixels): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|Picture { frames, pixels }| (frames, pixels))
        .unzip();
    let rows = stages
        .clocks
        .encode
        .time(|| vision.run(&pixels, &stages.control))?;
    let family = &stages.model.family;
    let assembled = frames.into_iter().zip(rows).map(|(frames, rows)| {
        let features = family
            .assemble(&[&*rows], None, vision.extra())
            .map_err(|error| prompt_error(&error))?;
        Ok(Encoded {
            frames,
            features: features.into(),
        })
    });
    assembled.collect()
}
