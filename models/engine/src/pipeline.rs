//! Frames to embeddings as a bounded pipeline, so that decoding, preprocessing, encoding and prefill overlap.
//!
//! ```text
//! frames-N --[bytes <= 64 MiB]--> pixels-N --[2 batches]--> encode-N --[4 batches]--> the job's thread (prefill)
//! ```
//! All threads belong to one job and are joined before it ends. An error travels down the channels in order; a closed
//! channel travels up.

use std::{thread, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
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
/// How often the job's thread looks whether it should stop while it waits for embeddings.
const POLL: Duration = Duration::from_millis(5);

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
#[derive(Clone, Copy)]
pub(crate) struct Stages<'a> {
    pub(crate) model: &'a Model,
    pub(crate) video: &'a VideoShown,
    pub(crate) control: &'a Control,
    pub(crate) clocks: &'a StageClocks,
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

/// Runs all stages at the same time; `sink` gets the batches in order, on the calling thread.
pub(crate) fn overlapped(
    stages: Stages<'_>,
    job: u64,
    open: OpenFrames,
    mut sink: impl FnMut(Vec<Encoded>) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let halt = CancelFlag::new();
    let (frames_in, frames) = byte_channel(FRAME_BYTES);
    let (pixels_in, pixels) = bounded(2 * stages.batch);
    let (features_in, features) = bounded(FEATURE_BATCHES);
    thread::scope(|scope| {
        let halt = &halt;
        let spawn = |stage: &str| thread::Builder::new().name(format!("{stage}-{job}"));
        let spawned = spawn("frames")
            .spawn_scoped(scope, move || read_frames(stages, open, halt, &frames_in))
            .and_then(|_| spawn("pixels").spawn_scoped(scope, move || prepare(stages, &frames, &pixels_in)))
            .and_then(|_| spawn("encode").spawn_scoped(scope, move || encode(stages, &pixels, &features_in)));
        let result = match spawned {
            Ok(_) => consume(stages.control, &features, &mut sink),
            Err(error) => Err(EngineError::Internal {
                message: format!("start a thread: {error}"),
            }),
        };
        // Closing the last channel unblocks the stages one after the other; the flag stops the source.
        halt.cancel();
        drop(features);
        result
    })
}

/// Runs one stage after the other on the calling thread, for comparison. Holds all frames in memory.
pub(crate) fn serial(
    stages: Stages<'_>,
    open: OpenFrames,
    sink: impl FnOnce(Vec<Encoded>) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let Stages {
        control,
        clocks,
        batch,
        ..
    } = stages;
    let mut frames = Vec::new();
    let mut source = clocks.decode.time(|| open(&control.cancel))?;
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
        let rest = prepared.split_off(batch.min(prepared.len()));
        encoded.extend(encode_batch(stages, std::mem::replace(&mut prepared, rest))?);
    }
    sink(encoded)
}

fn read_frames(
    stages: Stages<'_>,
    open: OpenFrames,
    halt: &CancelFlag,
    out: &ByteSender<Result<RgbFrame, FrameError>>,
) {
    let decode = &stages.clocks.decode;
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

fn prepare(stages: Stages<'_>, frames: &ByteReceiver<Result<RgbFrame, FrameError>>, out: &Sender<Prepared>) {
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

fn encode(stages: Stages<'_>, pixels: &Receiver<Prepared>, out: &Sender<Batch>) {
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
    }
}

fn consume(
    control: &Control,
    features: &Receiver<Batch>,
    sink: &mut impl FnMut(Vec<Encoded>) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    loop {
        control.check()?;
        match features.recv_timeout(POLL) {
            Ok(batch) => sink(batch?)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn pixels_of(stages: Stages<'_>, frames: &[RgbFrame]) -> Prepared {
    let family = &stages.model.family;
    let pixels = stages
        .clocks
        .preprocess
        .time(|| family.video_pixels(frames, stages.video));
    let seen = |frame: &RgbFrame| SeenFrame {
        index: frame.index,
        damaged: frame.damaged,
    };
    Ok(Picture {
        frames: frames.iter().map(seen).collect(),
        pixels: pixels.map_err(|error| prompt_error(&error))?,
    })
}

fn encode_batch(stages: Stages<'_>, batch: Vec<Picture>) -> Batch {
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
        .time(|| vision.run(&pixels, stages.control))?;
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
