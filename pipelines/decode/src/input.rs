//! Where bytes come from.

use std::{fs::File, path::PathBuf, sync::Arc};

use reelsight_media::ByteSource;

use crate::{
    error::DecodeError,
    source::{duplicate, open_file},
};

/// A seekable source. URLs never get here: FFmpeg opens nothing by itself.
#[derive(Debug)]
pub enum Input {
    /// A file by name, opened afresh for every pass.
    Path(PathBuf),
    /// An open file. Its cursor is neither used nor moved, so one file can be read from several threads.
    File(File),
    /// Bytes from elsewhere: a remote object, a file that is still written.
    Bytes(Arc<dyn ByteSource>),
}

impl Input {
    /// Another handle to the same source.
    ///
    /// # Errors
    /// When the system refuses to duplicate a file descriptor.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        match self {
            Self::Path(path) => Ok(Self::Path(path.clone())),
            Self::File(file) => file.try_clone().map(Self::File),
            Self::Bytes(bytes) => Ok(Self::Bytes(Arc::clone(bytes))),
        }
    }

    /// The regular file behind the input, opened; `None` when its bytes come from elsewhere.
    ///
    /// # Errors
    /// [`DecodeError`] when there is no such file, or when it is not a regular one.
    pub fn to_file(&self) -> Result<Option<File>, DecodeError> {
        match self {
            Self::Path(path) => open_file(path).map(Some),
            Self::File(file) => duplicate(file).map(Some),
            Self::Bytes(_) => Ok(None),
        }
    }
}
