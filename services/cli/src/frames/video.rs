//! The video that a command works on: where its bytes are, its index, and how it is decoded.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use reelsight_decode::{DecodeLimits, DecodeOptions, Input, PacketIndex};
use reelsight_media::CancelFlag;
use reelsight_worker::{WorkerOptions, WorkerPool, WorkerReader};
use serde_json::{Value, json};

use crate::{exit::Failure, terminal};

/// Frames wait here, decoded, while the one before them is written.
const BUDGET_BYTES: usize = 64 << 20;

/// Longest decoding: nobody but the person who waits is harmed, and Ctrl-C ends it.
const MAX_WALL: Duration = Duration::from_hours(24);

/// An indexed video.
pub(crate) struct Video {
    /// One worker, whose CPU time counts as this command's when it is reaped.
    pool: WorkerPool,
    input: Input,
    limits: DecodeLimits,
    /// Raised by Ctrl-C.
    pub(crate) cancel: CancelFlag,
    pub(crate) index: Arc<PacketIndex>,
    /// How long indexing took.
    pub(crate) index_time: Duration,
    /// Whether the index was there already.
    pub(crate) index_cached: bool,
}

impl Video {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let pool = WorkerPool::start(WorkerOptions {
            workers: 1,
            ..WorkerOptions::default()
        })?;
        let cancel = terminal::cancel_on_interrupt();
        let input = Input::Path(path.to_owned());
        let limits = DecodeLimits {
            max_wall: MAX_WALL,
            ..DecodeLimits::default()
        };
        let begun = Instant::now();
        let index = pool.index(&input, &limits, &cancel)?;
        Ok(Self {
            pool,
            input,
            limits,
            cancel,
            index,
            index_time: begun.elapsed(),
            index_cached: false,
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
    pub(crate) fn read(&self, frames: Vec<u64>, options: &DecodeOptions) -> Result<WorkerReader, Failure> {
        let index = Arc::clone(&self.index);
        Ok(self.pool.read_frames(&self.input, index, frames, options)?)
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
