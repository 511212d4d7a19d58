//! From a job thread to whoever asked, without ever blocking past the job's end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{EngineError, EngineEvent, control::Control};

/// Events that may wait for the reader.
pub(crate) const EVENT_QUEUE: usize = 64;
/// How often a full queue is tried again.
const RETRY: Duration = Duration::from_millis(2);
/// How long the last word of a failed job waits for a slow reader.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What travels to the asker.
pub(crate) type Item = Result<EngineEvent, Arc<EngineError>>;

/// The sending side of an [`crate::AskHandle`].
#[derive(Debug)]
pub(crate) struct Events(mpsc::Sender<Item>);

impl Events {
    /// A bounded queue and its reader's end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Item>) {
        let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
        (Self(sender), receiver)
    }

    /// Waits for a place. Fails when nobody reads any more, or when the job must stop.
    pub(crate) fn send(&self, event: EngineEvent, control: &Control) -> Result<(), EngineError> {
        let mut item = Ok(event);
        loop {
            match self.0.try_send(item) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(EngineError::Cancelled),
                Err(TrySendError::Full(back)) => item = back,
            }
            control.check()?;
            std::thread::sleep(RETRY);
        }
    }

    /// Leaves the event out when there is no place: a newer one of its kind will come.
    pub(crate) fn offer(&self, event: EngineEvent) {
        self.0.try_send(Ok(event)).ok();
    }

    /// Waits until the last event has a place, so that [`Events::finish`] will not have to.
    pub(crate) fn wait_for_place(&self, control: &Control) -> Result<(), EngineError> {
        while self.0.capacity() == 0 && !self.0.is_closed() {
            control.check()?;
            std::thread::sleep(RETRY);
        }
        Ok(())
    }

    /// Ends the stream; gives up on a reader that does not read.
    pub(crate) fn finish(self, last: Result<EngineEvent, EngineError>) {
        let start = Instant::now();
        let mut item = last.map_err(Arc::new);
        while let Err(TrySendError::Full(back)) = self.0.try_send(item) {
            if start.elapsed() > LAST_WORD {
                return;
            }
            item = back;
            std::thread::sleep(RETRY);
        }
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}
