//! From the scheduler to whoever asked, without ever waiting.

use std::sync::Arc;

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{EngineError, EngineEvent};

/// Events that may wait for the reader.
pub(crate) const EVENT_QUEUE: usize = 64;
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

    /// Events that can be sent now.
    pub(crate) fn room(&self) -> usize {
        self.0.capacity()
    }

    /// Sends an event that must not get lost; whoever sends has looked for [`Events::room`]. Fails when nobody reads any
    /// more.
    pub(crate) fn tell(&self, event: EngineEvent) -> Result<(), EngineError> {
        match self.0.try_send(Ok(event)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(EngineError::Cancelled),
            Err(TrySendError::Full(_)) => Err(EngineError::Internal {
                message: "an event was sent without room for it".into(),
            }),
        }
    }

    /// Leaves the event out when there is no place: a newer one of its kind will come.
    pub(crate) fn offer(&self, event: EngineEvent) {
        self.0.try_send(Ok(event)).ok();
    }

    /// Ends the stream. The end is lost on a reader that has left no room for it.
    pub(crate) fn finish(self, last: Result<EngineEvent, EngineError>) {
        self.0.try_send(last.map_err(Arc::new)).ok();
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}
