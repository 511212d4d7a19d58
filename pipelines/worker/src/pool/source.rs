//! What a worker reads from: an open file, or a socket on which it asks us.

use std::{os::fd::OwnedFd, sync::Arc};

use reelsight_decode::{DecodeError, Input};
use reelsight_media::CancelFlag;

use crate::{asked::Answering, wire::SourceFacts};

/// Our side of a source that a worker reads.
#[derive(Debug)]
pub(super) struct Opened {
    len: Option<u64>,
    remote: bool,
    answering: Option<Answering>,
    stop: CancelFlag,
}

impl Opened {
    /// Opens `input`, because workers cannot; the descriptor is for the worker.
    pub(super) fn new(input: &Input) -> Result<(Self, OwnedFd), DecodeError> {
        let stop = CancelFlag::new();
        let (len, answering, fd) = if let Input::Bytes(bytes) = input {
            let (answering, fd) = Answering::start(Arc::clone(bytes), stop.clone())?;
            (bytes.len()?, Some(answering), fd)
        } else {
            let file = input.to_file()?.ok_or(DecodeError::NotFound)?;
            (Some(file.metadata()?.len()), None, file.into())
        };
        let remote = matches!(input, Input::Bytes(bytes) if bytes.is_remote());
        let opened = Self {
            len,
            remote,
            answering,
            stop,
        };
        Ok((opened, fd))
    }

    /// What the worker must know beside the descriptor.
    pub(super) fn facts(&self) -> SourceFacts {
        SourceFacts {
            asked_for: self.answering.is_some(),
            len: self.len,
            remote: self.remote,
        }
    }

    /// Ends reading that may still go on for the worker.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// What a worker's error is about: when our own reading failed, that.
    pub(super) fn explain(&self, error: DecodeError) -> DecodeError {
        let ours = self.answering.as_ref().and_then(Answering::take_failure);
        match (error, ours) {
            (DecodeError::Cancelled, _) => DecodeError::Cancelled,
            (_, Some(failure)) => failure.into(),
            (error, None) => error,
        }
    }
}
