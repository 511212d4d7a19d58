//! Frames to embeddings as a bounded pipeline, so that decoding, preprocessing, encoding and prefill overlap.
//!
//! ```text
//! frames-N --[bytes <= 64 MiB]--> pixels-N --[2 batches]--> encode-N --[4 batches]--> the job's thread (prefill)
//! ```
//! All threads belong to one job and are joined before it ends. An error travels down the channels in order; a closed
//! channel travels up.

use std::{thread, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use reelsight_media::{ByteReceiver, ByteSender, CancelFlag, FrameError, RgbFrame, byte_channel};
use reelsight_preprocess::PixelTensor;

use crate::{
    EngineError, OpenFrames,
    control::{Control, StageClocks},
    graphs::Features,
    model::Model,
};

/// Decoded frames that may wait for preprocessing.
const FRAME_BYTES: usize = 64 << 20;
/// Batches of embeddings that may wait for prefill.
const FEATURE_BATCHES: usize = 4;
/// How often the job's thread looks whether it should stop while it waits for embeddings.
const POLL: Duration = Duration::from_millis(5);

/// A frame that went through the vision encoder.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Index in the video.
    pub(crate) index: u64,
    pub(crate) damaged: bool,
    pub(crate) features: Features,
}

/// What the stages share.
#[derive(Clone, Copy)]
pub(crate) struct Stages<'a> {
    pub(crate) model: &'a Model,
    pub(crate) control: &'a Control,
    pub(crate) clocks: &'a StageClocks,
    /// Frames per run of the vision graph. Batches are filled up before they run, so results do not depend on timing.
    pub(crate) batch: usize,
}

/// Pixels of a frame; the picture itself is given back.
struct Picture {
    index: u64,
    damaged: bool,
    pixels: PixelTensor,
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
    for frame in frames {
        control.check()?;
        prepared.push(pixels_of(stages, &frame)?);
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
    while let Some(frame) = frames.recv() {
        let prepared = frame
            .map_err(EngineError::from)
            .and_then(|frame| pixels_of(stages, &frame));
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

fn pixels_of(stages: Stages<'_>, frame: &RgbFrame) -> Prepared {
    let pixels = stages
        .clocks
        .preprocess
        .time(|| stages.model.family.pixels(frame));
    let pixels = pixels.map_err(|error| EngineError::internal(&error))?;
    Ok(Picture {
        index: frame.index,
        damaged: frame.damaged,
        pixels,
    })
}

fn encode_batch(stages: Stages<'_>, batch: Vec<Picture>) -> Batch {
    let (frames, pixels): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(
            |Picture {
                 index,
                 damaged,
                 pixels,
             }| ((index, damaged), pixels),
        )
        .unzip();
    let features = stages
        .clocks
        .encode
        .time(|| stages.model.vision.run(&pixels, stages.control))?;
    let encoded = frames.into_iter().zip(features);
    Ok(encoded
        .map(|((index, damaged), features)| Encoded {
            index,
            damaged,
            features,
        })
        .collect())
}
