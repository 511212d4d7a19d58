//! Who watches an ask, and what it is told meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

use reelsight_edge::{EventSink, RequestContext};
use reelsight_engine::EngineEvent;
use reelsight_proto::{
    time::duration_from_std,
    v1::{AskResponse, Progress, Stage, ask_response::Event},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{QaError, convert::count, job::DecodedCount};

/// Who watches an ask.
pub(crate) enum Audience {
    /// A response stream.
    Stream(EventSink<AskResponse>),
    /// An operation, which shows progress only.
    Operation(watch::Sender<Progress>),
    /// Nobody.
    Quiet,
}

impl Audience {
    pub(crate) async fn tell(&self, event: Event) -> Result<(), QaError> {
        match (self, event) {
            (Self::Stream(sink), event) => Ok(sink.send(AskResponse { event: Some(event) }).await?),
            (Self::Operation(seen), Event::Progress(progress)) => {
                seen.send_replace(progress);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
/// What the parts of one ask share.
pub(crate) struct Run<'a> {
    pub(crate) context: &'a RequestContext,
    pub(crate) audience: &'a Audience,
    pub(crate) status: Status,
    pub(crate) decoded: DecodedCount,
}

/// What an ask shares with whoever reports on it while it works.
#[derive(Clone, Default)]
pub(crate) struct Status {
    stage: Arc<AtomicI32>,
    /// Whether it has left the queue.
    started: Arc<AtomicBool>,
}

impl Status {
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage.into(), Ordering::Relaxed);
    }

    pub(crate) fn stage(&self) -> i32 {
        self.stage.load(Ordering::Relaxed)
    }

    pub(crate) fn set_started(&self, started: bool) {
        self.started.store(started, Ordering::Relaxed);
    }

    pub(crate) fn has_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }
}

/// Ticks after each period, never at once, and never in bursts.
pub(crate) fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}
/// The state of an ask that runs, as clients see it.
pub(crate) struct Stages {
    pub(crate) progress: Progress,
    entered: Instant,
}

impl Stages {
    pub(crate) fn queued() -> Self {
        let progress = Progress {
            stage: Stage::Queued.into(),
            ..Progress::default()
        };
        Self {
            progress,
            entered: Instant::now(),
        }
    }

    /// Enters a stage; its clock starts anew when it is another one. Returns whether it is.
    pub(crate) fn enter(&mut self, stage: Stage) -> bool {
        let is_new = self.progress.stage() != stage;
        if is_new {
            let Progress {
                frames_done,
                frames_total,
                ..
            } = self.progress;
            self.progress = Progress {
                stage: stage.into(),
                frames_done,
                frames_total,
                ..Progress::default()
            };
            self.entered = Instant::now();
        }
        is_new
    }

    /// Takes over what the engine says. Returns whether it is worth telling at once.
    pub(crate) fn describe(&mut self, event: &EngineEvent) -> bool {
        match event {
            EngineEvent::Queued { position } => {
                self.enter(Stage::Queued);
                self.progress.queue_position = count(*position);
                true
            }
            EngineEvent::Frames { done: 0, total } => {
                self.progress.frames_total = *total as u64;
                self.enter(Stage::Decoding)
            }
            EngineEvent::Frames { done, total } => {
                (self.progress.frames_done, self.progress.frames_total) = (*done as u64, *total as u64);
                let is_new = self.enter(Stage::Encoding);
                let fraction = *done as f64 / (*total).max(1) as f64;
                let left = self
                    .entered
                    .elapsed()
                    .mul_f64((1.0 - fraction).max(0.0) / fraction.max(1e-9));
                self.progress.fraction = Some(fraction);
                self.progress.eta = Some(duration_from_std(left));
                is_new
            }
            EngineEvent::Prefill => self.enter(Stage::Prefill),
            EngineEvent::Delta(_) => self.enter(Stage::Generating),
            EngineEvent::Done(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_keep_their_frames_and_tell_what_is_new() {
        let mut stages = Stages::queued();
        assert!(stages.describe(&EngineEvent::Queued { position: 3 }));
        assert_eq!(stages.progress.queue_position, 3);
        assert!(stages.describe(&EngineEvent::Frames { done: 0, total: 8 }));
        assert_eq!(
            (stages.progress.stage(), stages.progress.queue_position),
            (Stage::Decoding, 0)
        );
        assert!(stages.describe(&EngineEvent::Frames { done: 2, total: 8 }));
        assert!(!stages.describe(&EngineEvent::Frames { done: 4, total: 8 }));
        assert_eq!(stages.progress.fraction, Some(0.5));
        assert!(stages.describe(&EngineEvent::Prefill));
        let Progress {
            frames_done,
            frames_total,
            fraction,
            ..
        } = stages.progress;
        assert_eq!((frames_done, frames_total, fraction), (4, 8, None));
    }
}
