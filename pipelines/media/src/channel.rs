//! A channel bounded by bytes rather than items: one 8K frame weighs as much as hundreds of thumbnails.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::{Condvar, Mutex};

/// How much of the budget an item takes.
pub trait Weighted {
    /// Bytes.
    fn weight(&self) -> usize;
}

impl<T: Weighted, E> Weighted for Result<T, E> {
    fn weight(&self) -> usize {
        self.as_ref().map_or(0, Weighted::weight)
    }
}

/// The other side is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the channel is closed")]
pub struct Closed;

struct State<T> {
    queue: VecDeque<T>,
    bytes: usize,
    senders: usize,
    receiver_alive: bool,
}

struct Shared<T> {
    budget: usize,
    state: Mutex<State<T>>,
    readable: Condvar,
    writable: Condvar,
}

/// Sending half; clone it for several producers.
pub struct ByteSender<T: Weighted>(Arc<Shared<T>>);

/// Receiving half.
pub struct ByteReceiver<T: Weighted>(Arc<Shared<T>>);

/// A channel that holds at most `budget` bytes, and always at least one item however large.
#[must_use]
pub fn byte_channel<T: Weighted>(budget: usize) -> (ByteSender<T>, ByteReceiver<T>) {
    let shared = Arc::new(Shared {
        budget,
        state: Mutex::new(State {
            queue: VecDeque::new(),
            bytes: 0,
            senders: 1,
            receiver_alive: true,
        }),
        readable: Condvar::new(),
        writable: Condvar::new(),
    });
    (ByteSender(Arc::clone(&shared)), ByteReceiver(shared))
}

impl<T: Weighted> ByteSender<T> {
    /// Blocks while the budget is used up.
    ///
    /// # Errors
    /// [`Closed`] when the receiver is gone; a blocked sender learns of it at once.
    pub fn send(&self, item: T) -> Result<(), Closed> {
        let weight = item.weight();
        let mut state = self.0.state.lock();
        while state.receiver_alive && !state.queue.is_empty() && state.bytes + weight > self.0.budget {
            self.0.writable.wait(&mut state);
        }
        if !state.receiver_alive {
            return Err(Closed);
        }
        state.bytes += weight;
        state.queue.push_back(item);
        self.0.readable.notify_one();
        Ok(())
    }
}

impl<T: Weighted> Clone for ByteSender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T: Weighted> Drop for ByteSender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.senders -= 1;
        if state.senders == 0 {
            self.0.readable.notify_all();
        }
    }
}

impl<T: Weighted> ByteReceiver<T> {
    /// Blocks until an item comes; `None` once every sender is gone and the queue is empty.
    #[must_use]
    pub fn recv(&self) -> Option<T> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(item) = state.queue.pop_front() {
                state.bytes -= item.weight();
                self.0.writable.notify_all();
                return Some(item);
            }
            if state.senders == 0 {
                return None;
            }
            self.0.readable.wait(&mut state);
        }
    }
}

impl<T: Weighted> Drop for ByteReceiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.receiver_alive = false;
        state.queue.clear();
        state.bytes = 0;
        self.0.writable.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    struct Item(usize);
    impl Weighted for Item {
        fn weight(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn blocks_at_the_budget_and_goes_on_when_drained() {
        let (tx, rx) = byte_channel(10);
        let sender = thread::spawn(move || (0..100).try_for_each(|_| tx.send(Item(4))));
        thread::sleep(Duration::from_millis(30));
        assert!(rx.0.state.lock().bytes <= 10);
        assert_eq!(std::iter::from_fn(|| rx.recv()).count(), 100);
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn takes_one_item_that_is_larger_than_the_budget() {
        let (tx, rx) = byte_channel(10);
        tx.send(Item(1000)).unwrap();
        drop(tx);
        assert_eq!(rx.recv().unwrap().0, 1000);
        assert!(rx.recv().is_none());
    }

    #[test]
    fn a_blocked_sender_learns_that_the_receiver_is_gone() {
        let (tx, rx) = byte_channel(1);
        tx.send(Item(1)).unwrap();
        let blocked = thread::spawn(move || tx.send(Item(1)));
        thread::sleep(Duration::from_millis(20));
        drop(rx);
        assert_eq!(blocked.join().unwrap(), Err(Closed));
    }
}
