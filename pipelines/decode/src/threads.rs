//! One budget for the decode threads of a process.

use std::{
    sync::{Arc, OnceLock},
    thread::available_parallelism,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

/// How often a thread that waits for its turn looks whether it should stop.
const POLL: Duration = Duration::from_millis(20);

/// How many threads may decode at a time, shared by everybody who decodes. Cloning is cheap and shares the budget.
///
/// Whoever decodes alone gets all of it. Several get equal parts, and each at least one thread; when another one
/// comes or goes, the parts change with the next interval that is decoded. So no more threads decode than the budget has
/// or, when that is more, than there are readers; for as long as it takes those before it to finish an interval, a new
/// reader's first thread comes on top.
#[derive(Debug, Clone)]
pub struct ThreadBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    total: usize,
    holders: usize,
    running: usize,
    peak: usize,
}

impl ThreadBudget {
    /// A budget of `threads`, at least 1.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                total: threads.max(1),
                holders: 0,
                running: 0,
                peak: 0,
            }),
            changed: Condvar::new(),
        }))
    }

    /// The budget of this process: as many threads as there are cores that it may use.
    #[must_use]
    pub fn process() -> Self {
        static PROCESS: OnceLock<ThreadBudget> = OnceLock::new();
        PROCESS
            .get_or_init(|| Self::new(available_parallelism().map_or(1, std::num::NonZero::get)))
            .clone()
    }

    /// Changes the budget, as when this process shares its cores with others that decode.
    pub fn resize(&self, threads: usize) {
        self.0.state.lock().total = threads.max(1);
        self.0.changed.notify_all();
    }

    /// A place among those who decode, with at most `most` threads. Never waits.
    #[must_use]
    pub fn join(&self, most: usize) -> ThreadShare {
        self.0.state.lock().holders += 1;
        ThreadShare {
            budget: self.clone(),
            most: most.max(1),
            running: Mutex::new(0),
        }
    }

    /// The largest number of threads that have decoded at the same time.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.0.state.lock().peak
    }

    fn part(state: &State) -> usize {
        (state.total / state.holders.max(1)).max(1)
    }
}

/// A reader's part of a [`ThreadBudget`]; given back when dropped.
#[derive(Debug)]
pub struct ThreadShare {
    budget: ThreadBudget,
    most: usize,
    /// Taken after the budget's own lock.
    running: Mutex<usize>,
}

impl ThreadShare {
    /// Threads of this part as things stand.
    #[must_use]
    pub fn threads(&self) -> usize {
        let state = self.budget.0.state.lock();
        ThreadBudget::part(&state).min(self.most)
    }

    /// Waits until another thread of this part may work; `None` once `stop` says so.
    pub(crate) fn enter(&self, stop: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut state = self.budget.0.state.lock();
        loop {
            if stop() {
                return None;
            }
            let part = ThreadBudget::part(&state).min(self.most);
            let mut own = self.running.lock();
            if *own == 0 || (*own < part && state.running < state.total) {
                *own += 1;
                drop(own);
                state.running += 1;
                state.peak = state.peak.max(state.running);
                return Some(Turn(self));
            }
            drop(own);
            self.budget.0.changed.wait_for(&mut state, POLL);
        }
    }
}

impl Drop for ThreadShare {
    fn drop(&mut self) {
        self.budget.0.state.lock().holders -= 1;
        self.budget.0.changed.notify_all();
    }
}

/// The right of one thread to work.
pub(crate) struct Turn<'a>(&'a ThreadShare);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.budget.0.state.lock();
        state.running -= 1;
        *self.0.running.lock() -= 1;
        drop(state);
        self.0.budget.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn one_gets_all_and_several_share() {
        let budget = ThreadBudget::new(8);
        let first = budget.join(usize::MAX);
        assert_eq!(first.threads(), 8);
        let second = budget.join(3);
        assert_eq!((first.threads(), second.threads()), (4, 3));
        let more: Vec<_> = (0..20).map(|_| budget.join(9)).collect();
        assert_eq!((first.threads(), more[7].threads()), (1, 1));
        drop((second, more));
        assert_eq!(first.threads(), 8);
        assert_eq!(ThreadBudget::new(0).join(0).threads(), 1);
        budget.resize(3);
        assert_eq!(first.threads(), 3);
    }

    #[test]
    fn a_part_shrinks_when_others_come_and_grows_when_they_go() {
        let budget = ThreadBudget::new(2);
        let first = budget.join(9);
        let turns = [first.enter(|| false), first.enter(|| false)];
        assert!(turns.iter().all(Option::is_some));
        let full = AtomicBool::new(false);
        let once = || full.swap(true, Ordering::Relaxed);
        assert!(first.enter(once).is_none(), "two of two work");
        let second = budget.join(9);
        let turn = second.enter(|| false);
        assert!(turn.is_some(), "everybody has one");
        drop(turns);
        let _one = first.enter(|| false);
        full.store(false, Ordering::Relaxed);
        assert!(first.enter(once).is_none(), "half of two is one");
        drop(turn);
        drop(second);
        assert!(first.enter(|| false).is_some());
        assert_eq!(budget.peak(), 3);
    }

    #[test]
    fn a_waiting_thread_begins_when_another_ends() {
        let budget = ThreadBudget::new(1);
        let share = budget.join(4);
        let turn = share.enter(|| false);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| share.enter(|| false).is_some());
            thread::sleep(Duration::from_millis(30));
            assert!(!waiting.is_finished());
            drop(turn);
            assert!(waiting.join().unwrap());
        });
    }
}
