//! The video that a command works on: where its bytes are, its index, and how it is decoded.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use reelsight_decode::{
    DecodeLimits, DecodeOptions, DecodeStats, FrameReader, Gpu, PacketIndex, read_frames_on,
};
use reelsight_media::{CancelFlag, FrameError, FrameSource, RgbFrame};
use reelsight_worker::{WorkerOptions, WorkerPool, WorkerReader};
use serde_json::{Value, json};

use crate::{
    args::{Hardware, SourceArgs},
    exit::Failure,
    source::Source,
    terminal,
};

/// Frames wait here, decoded, while the one before them is written.
const BUDGET_BYTES: usize = 64 << 20;

/// Longest decoding: nobody but the person who waits is harmed, and Ctrl-C ends it.
const MAX_WALL: Duration = Duration::from_hours(24);

/// Frames in order, from wherever they are decoded.
pub(crate) enum Reader {
    /// In a sandboxed process.
    Worker(Box<WorkerReader>),
    /// In this process: a GPU is out of the sandbox's reach.
    Here(Box<FrameReader>),
}

impl Reader {
    pub(crate) fn stats(&self) -> DecodeStats {
        match self {
            Self::Worker(reader) => reader.stats(),
            Self::Here(reader) => reader.stats(),
        }
    }
}

impl FrameSource for Reader {
    fn next_frame(&mut self) -> Result<Option<RgbFrame>, FrameError> {
        match self {
            Self::Worker(reader) => reader.next_frame(),
            Self::Here(reader) => reader.next_frame(),
        }
    }
}

/// An indexed video.
pub(crate) struct Video {
    /// One worker, whose CPU time counts as this command's when it is reaped.
    pool: WorkerPool,
    source: Source,
    limits: DecodeLimits,
    hardware: Hardware,
    /// Raised by Ctrl-C.
    pub(crate) cancel: CancelFlag,
    pub(crate) index: Arc<PacketIndex>,
    /// How long indexing took.
    pub(crate) index_time: Duration,
    /// Whether the index was there already.
    pub(crate) index_cached: bool,
}

impl Video {
    pub(crate) fn open(name: &Path, args: &SourceArgs) -> Result<Self, Failure> {
        let pool = WorkerPool::start(WorkerOptions {
            workers: 1,
            ..WorkerOptions::default()
        })?;
        let cancel = terminal::cancel_on_interrupt();
        let limits = DecodeLimits {
            max_wall: MAX_WALL,
            ..DecodeLimits::default()
        };
        let source = Source::open(name, args, limits.max_bytes, &cancel)?;
        let begun = Instant::now();
        let kept = source.kept_index().map(Arc::new);
        let index_cached = kept.is_some();
        let mut index = match kept {
            Some(index) => index,
            None => pool.index(&source.input, &limits, &cancel)?,
        };
        let index_time = begun.elapsed();
        if !index_cached {
            source.keep(Arc::make_mut(&mut index));
        }
        Ok(Self {
            pool,
            source,
            limits,
            hardware: args.hardware,
            cancel,
            index,
            index_time,
            index_cached,
        })
    }

    pub(crate) fn options(&self, threads: usize) -> DecodeOptions {
        DecodeOptions {
            threads,
            budget_bytes: BUDGET_BYTES,
            limits: self.limits.clone(),
            cancel: self.cancel.clone(),
            ..DecodeOptions::default()
        }
    }

    /// Starts decoding `frames`.
    pub(crate) fn read(&self, frames: Vec<u64>, options: &DecodeOptions) -> Result<Reader, Failure> {
        let (input, index) = (&self.source.input, Arc::clone(&self.index));
        if self.hardware == Hardware::Auto {
            match Gpu::choose(input, &index, &frames, options) {
                Ok(gpu) => {
                    let reader = read_frames_on(Some(gpu), input, index, frames, options.clone())?;
                    return Ok(Reader::Here(Box::new(reader)));
                }
                Err(why) => tracing::info!(%why, "the CPU decodes"),
            }
        }
        let reader = self.pool.read_frames(input, index, frames, options)?;
        Ok(Reader::Worker(Box::new(reader)))
    }

    /// The size in which pixels are square: the height stays.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a picture's width; saturates, and the decoder refuses what is too large"
    )]
    pub(crate) fn square_size(&self) -> (u32, u32) {
        let info = &self.index.info;
        let (num, den) = info.video.pixel_aspect;
        let width = f64::from(info.width) * f64::from(num) / f64::from(den);
        ((width.round() as u32).max(1), info.height)
    }

    pub(crate) fn warnings(&self) -> Vec<Value> {
        let warnings = self.index.warnings.iter();
        warnings
            .map(|warning| json!({"reason": warning.reason, "message": warning.message}))
            .collect()
    }
}
