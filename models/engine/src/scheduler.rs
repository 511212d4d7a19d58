//! One thread per model decides what the decoder does next, and does it.
//!
//! ```text
//! submit --[max_active + max_queued]--> sched-<model> --> decoder, one step at a time
//!            frames-N --> pixels-N --> encode-N --[4 batches]--^   (one pipeline per running ask on a video)
//! ```
//! The decoder's session and the KV of all running asks belong to that thread; nobody waits for a lock to use them.
//! What runs next is a pure function of what the asks want ([`plan`]).

mod plan;
mod worker;

use std::{
    collections::VecDeque,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
pub(crate) use plan::{Item, Step, Work};

use crate::{
    AskHandle, AskJob, EngineConfig, EngineError, EngineMetrics, TraceSpan,
    events::Events,
    kv::{KvStore, Rows, Traits},
    metrics::Recorder,
    model::Model,
    pipeline::is_stage,
};

/// What a client is told to wait before there is any experience.
const FIRST_GUESS: Duration = Duration::from_secs(1);

/// Tells the scheduler that something has changed.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Sender<()>);

impl Waker {
    pub(crate) fn wake(&self) {
        // A full channel means that it is awake already.
        self.0.try_send(()).ok();
    }
}

/// The public side: submits and counts.
#[derive(Debug)]
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What both sides see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) model: Arc<Model>,
    pub(crate) config: EngineConfig,
    pub(crate) store: Arc<KvStore>,
    pub(crate) metrics: Recorder,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Submitted and not yet seen by the scheduler.
    inbox: VecDeque<Submitted>,
    /// Waiting, those in the inbox included.
    queued: usize,
    active: usize,
    closed: bool,
    /// Smoothed wall time of an ask.
    typical: Option<Duration>,
}

#[derive(Debug)]
struct Submitted {
    job: AskJob,
    events: Events,
    since: Instant,
}

impl Scheduler {
    /// Starts the thread.
    pub(crate) fn start(
        model: Arc<Model>,
        rows: Rows,
        traits: Traits,
        config: EngineConfig,
        store: Arc<KvStore>,
    ) -> Result<Self, EngineError> {
        let (wake, woken): (_, Receiver<()>) = bounded(1);
        let waker = Waker(wake);
        let shared = Arc::new(Shared {
            model,
            config,
            store,
            metrics: Recorder::default(),
            counts: Mutex::default(),
        });
        let worker = worker::Worker::new(Arc::clone(&shared), rows, traits, waker.clone(), woken);
        let name = format!("sched-{}", shared.model.info.name);
        let thread = thread::Builder::new().name(name).spawn(move || worker.run());
        let thread = thread.map_err(|error| EngineError::Internal {
            message: format!("start a thread: {error}"),
        })?;
        Ok(Self {
            shared,
            waker,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn model(&self) -> &Model {
        &self.shared.model
    }

    pub(crate) fn store(&self) -> &KvStore {
        &self.shared.store
    }

    /// Takes a place in the queue, or says that there is none.
    pub(crate) fn submit(&self, job: AskJob) -> Result<AskHandle, EngineError> {
        let config = &self.shared.config;
        let mut counts = self.shared.counts.lock();
        if counts.closed {
            return Err(EngineError::Cancelled);
        }
        let limit = config.max_active.max(1) + config.max_queued;
        if counts.queued + counts.active >= limit {
            return Err(EngineError::QueueFull {
                limit,
                retry_after: counts.retry_after(config),
            });
        }
        let (events, receiver) = Events::new();
        let cancel = job.cancel.clone();
        counts.queued += 1;
        counts.inbox.push_back(Submitted {
            job,
            events,
            since: Instant::now(),
        });
        drop(counts);
        self.waker.wake();
        Ok(AskHandle {
            events: receiver,
            cancel,
            wake: self.waker.clone(),
        })
    }

    pub(crate) fn active(&self) -> usize {
        self.shared.counts.lock().active
    }

    pub(crate) fn queued(&self) -> usize {
        self.shared.counts.lock().queued
    }

    pub(crate) fn metrics(&self) -> EngineMetrics {
        EngineMetrics {
            kv_host_bytes: self.shared.store.bytes(),
            kv_disk_bytes: self.shared.store.disk_bytes(),
            ..self.shared.metrics.snapshot()
        }
    }

    pub(crate) fn last_trace(&self) -> Vec<TraceSpan> {
        self.shared.metrics.last_trace()
    }

    /// Cancels everything and joins the thread.
    pub(crate) fn shutdown(&self) {
        self.shared.counts.lock().closed = true;
        self.waker.wake();
        let thread = self.thread.lock().take();
        // The last handle of an engine may go inside a frame source, on a thread that the scheduler itself waits for.
        if let Some(thread) =
            thread.filter(|thread| thread.thread().id() != thread::current().id() && !is_stage())
            && thread.join().is_err()
        {
            tracing::error!("the scheduler panicked");
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Counts {
    fn retry_after(&self, config: &EngineConfig) -> Duration {
        let rounds = self.queued / config.max_active.max(1) + 1;
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        self.typical
            .unwrap_or(FIRST_GUESS)
            .saturating_mul(rounds)
            .max(Duration::from_millis(100))
    }

    /// An ask ran for `wall`.
    fn learn(&mut self, wall: Duration) {
        self.typical = Some(self.typical.map_or(wall, |typical| (typical * 3 + wall) / 4));
    }
}
