//! Opens a source and reads it by position, so that no pass disturbs another.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use reelsight_media::{ByteSource, CancelFlag};

use crate::{error::DecodeError, input::Input, limits::DecodeLimits};

/// Bytes with a cursor of its own. Reading fails at once when the cancel flag is raised.
pub(crate) struct Source {
    bytes: Arc<dyn ByteSource>,
    /// `None` while it is unknown.
    len: Option<u64>,
    max_bytes: u64,
    at: u64,
    cancel: CancelFlag,
    failure: Failure,
    hollow: Hollow,
}

/// Once set, reading gives zeros instead of bytes: for a demuxer that knows from its tables where packets are, when
/// what is in them is not wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hollow(Arc<AtomicBool>);

impl Hollow {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why reading failed. FFmpeg turns errors into numbers, and some demuxers turn them into the end of the file: so the
/// first one is kept here, and whoever drives FFmpeg looks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<DecodeError>>>);

impl Failure {
    fn note(&self, error: DecodeError) {
        self.0.lock().get_or_insert(error);
    }

    /// The failure, when there was one.
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        self.0.lock().clone().map_or(Ok(()), Err)
    }
}

impl Source {
    /// Opens `input` after checking that it holds something, and no more than the limit.
    pub(crate) fn open(
        input: &Input,
        limits: &DecodeLimits,
        cancel: &CancelFlag,
    ) -> Result<Self, DecodeError> {
        let bytes: Arc<dyn ByteSource> = match input {
            Input::Path(path) => Arc::new(open_file(path)?),
            Input::File(file) => Arc::new(duplicate(file)?),
            Input::Bytes(bytes) => Arc::clone(bytes),
        };
        let len = bytes.len().map_err(error_from_io)?;
        if len == Some(0) {
            return Err(DecodeError::Empty);
        }
        let max_bytes = limits.max_bytes;
        if let Some(actual) = len.filter(|&len| len > max_bytes) {
            return Err(too_large(max_bytes, actual));
        }
        Ok(Self {
            bytes,
            len,
            max_bytes,
            at: 0,
            cancel: cancel.clone(),
            failure: Failure::default(),
            hollow: Hollow::default(),
        })
    }

    /// The switch that makes the bytes zeros.
    pub(crate) fn hollow(&self) -> Hollow {
        self.hollow.clone()
    }

    /// Where a failure to read will be found.
    pub(crate) fn failure(&self) -> Failure {
        self.failure.clone()
    }

    fn fail(&self, error: DecodeError) -> io::Error {
        self.failure.note(error);
        io::Error::from_raw_os_error(libc::EIO)
    }
}

/// Opens a regular file. Without `O_NONBLOCK`, opening a named pipe would wait for a writer.
pub(crate) fn open_file(path: &Path) -> Result<File, DecodeError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    checked(opened.map_err(error_from_io)?)
}

/// Another handle to a regular file.
pub(crate) fn duplicate(file: &File) -> Result<File, DecodeError> {
    checked(file.try_clone().map_err(error_from_io)?)
}

fn checked(file: File) -> Result<File, DecodeError> {
    let facts = file.metadata().map_err(error_from_io)?;
    if facts.is_dir() {
        return Err(DecodeError::IsDirectory);
    }
    if !facts.is_file() {
        let detail = "it is a device, pipe or socket: name a regular file".to_owned();
        return Err(DecodeError::Unreadable { detail, source: None });
    }
    Ok(file)
}

fn too_large(limit: u64, actual: u64) -> DecodeError {
    DecodeError::TooLarge { limit, actual }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::from_raw_os_error(libc::ECANCELED));
        }
        if let Some(len) = self.len.filter(|_| self.hollow.is_set()) {
            let rest = usize::try_from(len.saturating_sub(self.at)).unwrap_or(usize::MAX);
            let count = rest.min(buffer.len());
            buffer[..count].fill(0);
            self.at += count as u64;
            return Ok(count);
        }
        match self.bytes.read_at(self.at, buffer, &self.cancel) {
            Ok(count) => {
                self.at += count as u64;
                if self.at > self.max_bytes {
                    return Err(self.fail(too_large(self.max_bytes, self.at)));
                }
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(self.fail(error_from_io(error))),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.len.and_then(|len| len.checked_add_signed(offset)),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = target.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(self.at)
    }
}

impl From<io::Error> for DecodeError {
    /// What a failure to read a source means for the caller.
    fn from(error: io::Error) -> Self {
        error_from_io(error)
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
