//! How frames reach an engine without the engine knowing where they come from.

use crate::frame::RgbFrame;

/// A blocking, ordered stream of frames.
///
/// # Contract
/// Frames come in increasing index. After `Ok(None)` or `Err`, every further call gives `Ok(None)`.
/// Dropping the source stops whatever produces the frames. `Err(kind: Cancelled)` when its cancel flag was raised.
pub trait FrameSource: Send {
    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// [`FrameError`] when no further frame can be produced.
    fn next_frame(&mut self) -> Result<Option<RgbFrame>, FrameError>;
}

/// What a consumer can do about a failed source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameErrorKind {
    /// The media is damaged or of a kind that cannot be decoded: ask for another file.
    Media,
    /// The cancel flag was raised.
    Cancelled,
    /// Reading the source failed: trying again may help.
    Io,
}

/// A source failed for good. Cloneable, so that one failure can be told to every waiter.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct FrameError {
    /// What can be done about it.
    pub kind: FrameErrorKind,
    /// Stable `UPPER_SNAKE_CASE` reason, for example `MEDIA_CORRUPT`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Frames that are in memory already.
#[derive(Debug)]
pub struct IterSource<I>(I);

impl<I: Iterator<Item = RgbFrame> + Send> IterSource<I> {
    /// A source over `frames`, which must come in increasing index.
    pub fn new(frames: impl IntoIterator<IntoIter = I>) -> Self {
        Self(frames.into_iter())
    }
}

impl<I: Iterator<Item = RgbFrame> + Send> FrameSource for IterSource<I> {
    fn next_frame(&mut self) -> Result<Option<RgbFrame>, FrameError> {
        Ok(self.0.next())
    }
}
