//! Opens a source as a plain file and reads it by position, so that no pass disturbs another.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    sync::Arc,
};

use reelsight_media::CancelFlag;

use crate::{error::DecodeError, input::Input, limits::DecodeLimits};

/// A file with a cursor of its own. Reading fails at once when the cancel flag is raised.
pub(crate) struct Source {
    file: File,
    len: u64,
    at: u64,
    cancel: CancelFlag,
}

impl Source {
    /// Opens `input` after checking that it is a regular, non-empty file within the limit.
    pub(crate) fn open(
        input: &Input,
        limits: &DecodeLimits,
        cancel: &CancelFlag,
    ) -> Result<Self, DecodeError> {
        let file = match input {
            // Without O_NONBLOCK, opening a named pipe waits for a writer.
            Input::Path(path) => OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(path)
                .map_err(error_from_io)?,
            Input::File(file) => file.try_clone().map_err(error_from_io)?,
        };
        let facts = file.metadata().map_err(error_from_io)?;
        if facts.is_dir() {
            return Err(DecodeError::IsDirectory);
        }
        if !facts.is_file() {
            let detail = "it is a device, pipe or socket: name a regular file".to_owned();
            return Err(DecodeError::Unreadable { detail, source: None });
        }
        let len = facts.len();
        if len == 0 {
            return Err(DecodeError::Empty);
        }
        if len > limits.max_bytes {
            return Err(DecodeError::TooLarge {
                limit: limits.max_bytes,
                actual: len,
            });
        }
        Ok(Self {
            file,
            len,
            at: 0,
            cancel: cancel.clone(),
        })
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::from_raw_os_error(libc::ECANCELED));
        }
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = target.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(self.at)
    }
}

/// What an I/O error means for the caller.
pub(crate) fn error_from_io(error: io::Error) -> DecodeError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => DecodeError::NotFound,
        io::ErrorKind::IsADirectory => DecodeError::IsDirectory,
        io::ErrorKind::PermissionDenied => DecodeError::Unreadable {
            detail: "permission denied: let this user read it".to_owned(),
            source: Some(Arc::new(error)),
        },
        _ => DecodeError::Unreadable {
            detail: error.to_string(),
            source: Some(Arc::new(error)),
        },
    }
}
