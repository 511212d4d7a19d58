//! Where a file's bytes come from, when they need not lie on a disk.

use std::{fmt, fs::File, io, os::unix::fs::FileExt};

use crate::cancel::CancelFlag;

/// Bytes that are read by position: a file, a remote object behind range requests, a file that is still written.
///
/// # Contract
/// * Positions do not disturb each other: several threads may read at once.
/// * The bytes at a position never change. An implementation that finds that they did (a remote object was replaced)
///   fails instead of mixing two versions.
/// * Reading is blocking; call it from threads that may block.
///
/// # Cancellation
/// `cancel` is the reader's flag: an implementation that may wait longer than a moment polls it at least every 50 ms
/// and then fails with [`cancelled`]. Giving up one reader does not harm the others.
#[expect(
    clippy::len_without_is_empty,
    reason = "the length can be unknown, and reading it can fail"
)]
pub trait ByteSource: Send + Sync + fmt::Debug {
    /// Reads into `buffer` from byte `offset` on and says how many bytes were read; fewer than asked for are fine, and
    /// 0 means that there is nothing at `offset` (yet, when [`ByteSource::len`] is `None`) or that `buffer` is empty.
    ///
    /// # Errors
    /// Any [`io::Error`]; its inner error says what a caller should do (a [`ReadFailure`] has a
    /// stable reason). `Interrupted` is tried again; every other error ends the reading for good.
    fn read_at(&self, offset: u64, buffer: &mut [u8], cancel: &CancelFlag) -> io::Result<usize>;

    /// Bytes in all; `None` when that is unknown or may still grow. Once known, it does not change.
    ///
    /// # Errors
    /// As [`ByteSource::read_at`].
    fn len(&self) -> io::Result<Option<u64>>;

    /// Whether every read costs a journey: then a demuxer reads no more than it must.
    fn is_remote(&self) -> bool {
        false
    }
}

/// Why a [`ByteSource`] failed, as the inner error of its [`io::Error`], for readers that do not know its own errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ReadFailure {
    /// Stable `UPPER_SNAKE_CASE` reason, for example `SOURCE_TIMEOUT`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl ReadFailure {
    /// The failure inside `error`, when there is one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// What a [`ByteSource`] fails with when its reader's flag was raised.
#[must_use]
pub fn cancelled() -> io::Error {
    io::Error::other("reading was cancelled")
}

impl ByteSource for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8], _cancel: &CancelFlag) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn len(&self) -> io::Result<Option<u64>> {
        self.metadata().map(|facts| Some(facts.len()))
    }
}
