//! Who runs and who waits: a bounded first-come-first-served queue before a fixed number of job threads.
//!
//! ```text
//! submit --[waiting <= max_queued]--> ask-0 .. ask-(max_active - 1)
//! ```
//! `ask-queue` looks after those who wait: it removes the ones that were cancelled or whose deadline has passed.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use reelsight_media::CancelFlag;

use crate::{
    AskHandle, AskJob, EngineConfig, EngineError, EngineEvent,
    control::{Control, StageClocks},
    events::Events,
    job,
    model::Model,
    watch::JobContext,
};

/// How often waiting asks are looked at.
const WATCH: Duration = Duration::from_millis(20);
/// What a client is told to wait before there is any experience.
const FIRST_GUESS: Duration = Duration::from_secs(1);

/// The queue and its threads.
#[derive(Debug)]
pub(crate) struct Queue {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    model: Model,
    config: EngineConfig,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Cancel flags of the asks that run, by job number.
    active: BTreeMap<u64, CancelFlag>,
    next_job: u64,
    closed: bool,
    /// Smoothed wall time of an ask.
    typical: Option<Duration>,
}

#[derive(Debug)]
struct Waiting {
    job: AskJob,
    events: Events,
    since: Instant,
}

impl Queue {
    /// Starts the job threads.
    pub(crate) fn start(model: Model, config: EngineConfig) -> Result<Self, EngineError> {
        let workers = config.max_active.max(1);
        let shared = Arc::new(Shared {
            model,
            config,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let queue = Self {
            shared: Arc::clone(&shared),
            threads: Mutex::default(),
        };
        let names = (0..workers)
            .map(|worker| format!("ask-{worker}"))
            .chain(["ask-queue".to_owned()]);
        for (at, name) in names.enumerate() {
            let shared = Arc::clone(&shared);
            let body = move || {
                if at < workers {
                    shared.work();
                } else {
                    shared.watch();
                }
            };
            let spawned = thread::Builder::new().name(name).spawn(body);
            let thread = spawned.map_err(|error| EngineError::Internal {
                message: format!("start a thread: {error}"),
            })?;
            queue.threads.lock().push(thread);
        }
        Ok(queue)
    }

    pub(crate) fn model(&self) -> &Model {
        &self.shared.model
    }

    /// Takes a place in the queue, or says that there is none.
    pub(crate) fn submit(&self, job: AskJob) -> Result<AskHandle, EngineError> {
        let Shared {
            config,
            state,
            changed,
            ..
        } = &*self.shared;
        let mut state = state.lock();
        if state.closed {
            return Err(EngineError::Cancelled);
        }
        let limit = config.max_active.max(1) + config.max_queued;
        let ahead = state.waiting.len() + state.active.len();
        if ahead >= limit {
            return Err(EngineError::QueueFull {
                limit,
                retry_after: state.retry_after(config),
            });
        }
        let (events, receiver) = Events::new();
        if let Some(position) = state.position(state.waiting.len(), config) {
            events.offer(EngineEvent::Queued { position });
        }
        let cancel = job.cancel.clone();
        state.waiting.push_back(Waiting {
            job,
            events,
            since: Instant::now(),
        });
        changed.notify_all();
        Ok(AskHandle {
            events: receiver,
            cancel,
        })
    }

    pub(crate) fn active(&self) -> usize {
        self.shared.state.lock().active.len()
    }

    pub(crate) fn queued(&self) -> usize {
        self.shared.state.lock().waiting.len()
    }

    /// Cancels everything and joins the threads.
    pub(crate) fn shutdown(&self) {
        let refused = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            state.active.values().for_each(CancelFlag::cancel);
            std::mem::take(&mut state.waiting)
        };
        self.shared.changed.notify_all();
        for Waiting { events, .. } in refused {
            events.finish(Err(EngineError::Cancelled));
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // The last handle of an engine may go on one of its own threads, inside a frame source.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a job thread panicked");
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl State {
    fn retry_after(&self, config: &EngineConfig) -> Duration {
        let rounds = self.waiting.len() / config.max_active.max(1) + 1;
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        self.typical
            .unwrap_or(FIRST_GUESS)
            .saturating_mul(rounds)
            .max(Duration::from_millis(100))
    }

    /// Asks ahead of the `at`-th that waits; `None` when a free job thread is about to take it.
    fn position(&self, at: usize, config: &EngineConfig) -> Option<usize> {
        (self.active.len() + at).checked_sub(config.max_active.max(1))
    }

    fn tell_positions(&self, config: &EngineConfig) {
        for (at, Waiting { events, .. }) in self.waiting.iter().enumerate() {
            if let Some(position) = self.position(at, config) {
                events.offer(EngineEvent::Queued { position });
            }
        }
    }
}

impl Shared {
    /// A job thread: one ask after the other.
    fn work(&self) {
        while let Some((id, waiting)) = self.next() {
            self.run(id, waiting);
        }
    }

    /// Waits for an ask; `None` once the queue is closed.
    fn next(&self) -> Option<(u64, Waiting)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(waiting) = state.waiting.pop_front() {
                let id = state.next_job;
                state.next_job += 1;
                state.active.insert(id, waiting.job.cancel.clone());
                state.tell_positions(&self.config);
                return Some((id, waiting));
            }
            self.changed.wait(&mut state);
        }
    }

    fn run(&self, id: u64, waiting: Waiting) {
        if let Some(error) = waiting.refusal() {
            self.release(id, None);
            waiting.events.finish(Err(error));
            return;
        }
        let started = Instant::now();
        let Waiting { job, events, since } = waiting;
        let control = Control {
            cancel: job.cancel.clone(),
            deadline: job.deadline,
        };
        let clocks = StageClocks::default();
        let context = JobContext {
            id,
            model: &self.model,
            config: &self.config,
            control: &control,
            clocks: &clocks,
            events: &events,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| job::run(&context, job, since.elapsed())));
        let outcome = outcome.unwrap_or_else(|_panic| {
            Err(EngineError::Internal {
                message: format!("the thread of ask {id} panicked"),
            })
        });
        let last = outcome.and_then(|outcome| {
            events.wait_for_place(&control)?;
            Ok(EngineEvent::Done(Box::new(outcome)))
        });
        // Whoever reads the end may submit the next ask at once: the place must be free by then.
        self.release(id, Some(started.elapsed()));
        events.finish(last);
    }

    /// Frees the place of an ask that took `wall`, if it ran.
    fn release(&self, id: u64, wall: Option<Duration>) {
        let mut state = self.state.lock();
        state.active.remove(&id);
        if let Some(wall) = wall {
            state.typical = Some(state.typical.map_or(wall, |typical| (typical * 3 + wall) / 4));
        }
    }

    /// Removes waiting asks that nobody wants any more or that are too late.
    fn watch(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            if state.waiting.is_empty() {
                self.changed.wait(&mut state);
                continue;
            }
            let (gone, kept): (VecDeque<_>, _) = std::mem::take(&mut state.waiting)
                .into_iter()
                .partition(|waiting| waiting.refusal().is_some());
            state.waiting = kept;
            if !gone.is_empty() {
                state.tell_positions(&self.config);
            }
            MutexGuard::unlocked(&mut state, || {
                for waiting in gone {
                    if let Some(error) = waiting.refusal() {
                        waiting.events.finish(Err(error));
                    }
                }
            });
            if state.closed {
                return;
            }
            self.changed.wait_for(&mut state, WATCH);
        }
    }
}

impl Waiting {
    /// Why this ask must not start.
    fn refusal(&self) -> Option<EngineError> {
        if self.job.cancel.is_cancelled() || self.events.is_closed() {
            Some(EngineError::Cancelled)
        } else if self
            .job
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            Some(EngineError::DeadlineExceeded { started: false })
        } else {
            None
        }
    }
}
