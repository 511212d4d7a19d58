//! The wall-clock watchdog: how long a caller waits for a worker.

use std::{io, time::Duration};

use reelsight_decode::DecodeError;
use reelsight_media::CancelFlag;

use crate::link::Patience;

/// Why waiting ended.
#[derive(Debug)]
pub(super) enum Halt {
    /// The caller's flag, or its time.
    Decode(DecodeError),
    /// The socket.
    Link(io::Error),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Link(error)
    }
}

/// Counts the time that is spent waiting; what the caller does between two calls does not count.
#[derive(Debug)]
pub(super) struct Watch {
    cancel: CancelFlag,
    limit: Duration,
    left: Duration,
}

impl Watch {
    pub(super) fn new(limit: Duration, cancel: &CancelFlag) -> Self {
        Self {
            cancel: cancel.clone(),
            limit,
            left: limit,
        }
    }

    /// All the time there was.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

impl Patience for Watch {
    type Stop = Halt;
    const EVERY: Option<Duration> = Some(Duration::from_millis(20));

    fn go_on(&mut self, waited: Duration) -> Result<(), Halt> {
        if self.cancel.is_cancelled() {
            return Err(Halt::Decode(DecodeError::Cancelled));
        }
        self.left = self.left.saturating_sub(waited);
        if self.left.is_zero() {
            return Err(Halt::Decode(DecodeError::TimedOut { limit: self.limit }));
        }
        Ok(())
    }
}
