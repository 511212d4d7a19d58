//! When a job must stop, and how long its stages took.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use reelsight_media::CancelFlag;
use reelsight_ort::OrtError;

use crate::{EngineError, StageTimes};

/// The reasons to stop a job that can come from outside.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) cancel: CancelFlag,
    pub(crate) deadline: Option<Instant>,
}

impl Control {
    /// Whether the job must stop.
    pub(crate) fn must_stop(&self) -> bool {
        self.cancel.is_cancelled() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// One that never says stop, for what several asks do together.
    pub(crate) fn endless() -> Self {
        Self {
            cancel: CancelFlag::new(),
            deadline: None,
        }
    }

    /// An error when the job must stop.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        if self.must_stop() {
            Err(self.reason())
        } else {
            Ok(())
        }
    }

    /// Why the job stops. The caller's own wish comes before the clock.
    pub(crate) fn reason(&self) -> EngineError {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late && !self.cancel.is_cancelled() {
            EngineError::DeadlineExceeded { started: true }
        } else {
            EngineError::Cancelled
        }
    }

    /// Translates what a session says.
    pub(crate) fn error(&self, error: OrtError) -> EngineError {
        match error {
            OrtError::Stopped => self.reason(),
            other => other.into(),
        }
    }
}

/// Adds up the time of a stage from whichever threads work on it.
#[derive(Debug, Default)]
pub(crate) struct StageClock(AtomicU64);

impl StageClock {
    /// Runs `work` on this clock.
    pub(crate) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(start.elapsed());
        result
    }

    /// Adds what was measured elsewhere.
    pub(crate) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// One clock per stage.
#[derive(Debug, Default)]
pub(crate) struct StageClocks {
    pub(crate) decode: StageClock,
    pub(crate) preprocess: StageClock,
    pub(crate) encode: StageClock,
    pub(crate) prefill: StageClock,
    pub(crate) generate: StageClock,
    pub(crate) evidence: StageClock,
}

impl StageClocks {
    /// The stages' totals; the other fields of [`StageTimes`] are the job's.
    pub(crate) fn times(&self) -> StageTimes {
        StageTimes {
            decode: self.decode.total(),
            preprocess: self.preprocess.total(),
            encode: self.encode.total(),
            prefill: self.prefill.total(),
            generate: self.generate.total(),
            evidence: self.evidence.total(),
            ..StageTimes::default()
        }
    }
}
