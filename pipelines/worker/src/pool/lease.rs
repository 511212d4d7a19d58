//! Who has which worker.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use reelsight_decode::DecodeError;
use reelsight_media::CancelFlag;

use super::{
    WorkerOptions, WorkerPool,
    process::Process,
    watch::{Halt, Watch},
};
use crate::{
    link::Patience as _,
    wire::{Order, Reply},
};

/// How long a worker may take to obey; then it is killed.
const OBEY: Duration = Duration::from_millis(80);
/// How often workers that nobody uses are looked after.
const ROUND: Duration = Duration::from_secs(1);
/// How often someone who waits for a worker looks whether to go on.
const POLL: Duration = Duration::from_millis(20);

/// What all clones of a pool share.
#[derive(Debug)]
pub(super) struct Shared {
    options: WorkerOptions,
    state: Mutex<State>,
    /// A worker became free, or one is wanted, or the pool was closed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Those that wait for requests, and since when; the one used last is used next.
    idle: Vec<(Process, Instant)>,
    /// Why the last one could not be started; goes to whoever comes next.
    failure: Option<DecodeError>,
    /// Workers that run or are being started.
    alive: usize,
    /// Workers to be started, among those.
    wanted: usize,
    closed: bool,
}

impl Shared {
    pub(super) fn new(options: WorkerOptions) -> Self {
        let wanted = options.ready.min(options.workers.max(1));
        let state = State {
            alive: wanted,
            wanted,
            ..State::default()
        };
        Self {
            options,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// A worker for one request.
    pub(super) fn take(&self, watch: &mut Watch) -> Result<Process, DecodeError> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return Err(DecodeError::Cancelled);
            }
            while let Some((mut process, _)) = state.idle.pop() {
                if !process.is_dead() {
                    return Ok(process);
                }
                state.alive -= 1;
            }
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            if state.alive < self.options.workers.max(1) && state.wanted == 0 {
                state.alive += 1;
                state.wanted += 1;
                self.changed.notify_all();
            }
            let begun = Instant::now();
            self.changed.wait_for(&mut state, POLL);
            watch.go_on(begun.elapsed()).map_err(|halt| match halt {
                Halt::Decode(error) => error,
                Halt::Link(error) => error.into(),
            })?;
        }
    }

    fn give_back(&self, process: Process) {
        let mut state = self.state.lock();
        if state.closed || process.requests >= self.options.uses {
            drop(state);
            drop(process);
            return self.lost();
        }
        state.idle.push((process, Instant::now()));
        self.changed.notify_all();
    }

    /// A worker is gone: another takes its place when too few are left.
    fn lost(&self) {
        let mut state = self.state.lock();
        state.alive -= 1;
        self.refill(&mut state);
        self.changed.notify_all();
    }

    fn refill(&self, state: &mut State) {
        while !state.closed
            && state.failure.is_none()
            && state.alive < self.options.ready.min(self.options.workers)
        {
            state.alive += 1;
            state.wanted += 1;
        }
    }

    /// Starts workers as they are wanted, and looks after those that nobody uses. Ends after the last
    /// worker, because workers die with the thread that started them.
    pub(super) fn keep(&self) {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                state.alive -= std::mem::take(&mut state.wanted);
                if state.alive == 0 {
                    return;
                }
            }
            if state.wanted == 0 {
                self.changed.wait_for(&mut state, ROUND);
                self.look_after(&mut state);
                continue;
            }
            state.wanted -= 1;
            let started = MutexGuard::unlocked(&mut state, || Process::start(&self.options));
            match started {
                Ok(process) if !state.closed => state.idle.push((process, Instant::now())),
                Ok(_unwanted) => state.alive -= 1,
                Err(error) => {
                    state.alive -= 1;
                    state.failure = Some(DecodeError::Internal {
                        detail: format!("no decode worker can be started: {error}"),
                    });
                }
            }
            self.changed.notify_all();
        }
    }

    /// Buries the dead, ends those that nobody needs, and starts those that are missing.
    fn look_after(&self, state: &mut State) {
        let before = state.idle.len();
        state.idle.retain_mut(|(process, _)| !process.is_dead());
        let spare = state.idle.len().saturating_sub(self.options.ready);
        let resting = state.idle.iter().take(spare);
        let resting = resting
            .filter(|(_, since)| since.elapsed() > self.options.rest)
            .count();
        state.idle.drain(..resting);
        state.alive -= before - state.idle.len();
        self.refill(state);
    }

    pub(super) fn idle_pids(&self) -> Vec<u32> {
        let state = self.state.lock();
        state.idle.iter().map(|(process, _)| process.pid()).collect()
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        state.alive -= idle.len();
        self.changed.notify_all();
        drop(state);
        drop(idle);
    }
}

/// A worker, lent to one request. Dropping it kills the worker: only who is sure of it gives it back.
#[derive(Debug)]
pub(super) struct Lease {
    // Dropped in this order: the place is free when the process is gone.
    process: Process,
    place: Place,
}

/// A worker's place in the pool.
#[derive(Debug)]
struct Place {
    pool: WorkerPool,
    kept: bool,
}

impl Lease {
    pub(super) fn new(pool: WorkerPool, process: Process) -> Self {
        let place = Place { pool, kept: false };
        Self { process, place }
    }

    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The request is over, and the worker is ready for the next.
    pub(super) fn give_back(self) {
        let Self { process, mut place } = self;
        place.kept = true;
        place.pool.0.shared.give_back(process);
    }

    /// Ends a request early: the worker is told, and killed when it does not obey.
    pub(super) fn settle(mut self, request: u64) {
        let mut watch = Watch::new(OBEY, &CancelFlag::new());
        if self
            .process
            .tell(Order::Cancel(request), &[], &mut watch)
            .is_err()
        {
            return;
        }
        loop {
            match self.process.hear(&mut watch) {
                Ok(Reply::Ended(ended)) if ended.request == request => return self.give_back(),
                // What was on its way.
                Ok(Reply::Frame(_) | Reply::Part(_)) => {}
                _ => return,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            self.pool.0.shared.lost();
        }
    }
}
