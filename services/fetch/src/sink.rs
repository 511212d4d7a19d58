//! Bytes of a body into a temporary file, hashed on the way, on a thread that may block.

use std::{io::Write as _, path::Path};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::FetchError;

/// Chunks that wait for the disk.
const CHUNKS: usize = 16;

/// A fetched body. The file is deleted when this is dropped.
#[derive(Debug)]
pub struct Fetched {
    /// The bytes.
    pub file: NamedTempFile,
    /// How many.
    pub bytes: u64,
    /// Their digest, hex.
    pub sha256: String,
}

pub(crate) struct Sink {
    chunks: mpsc::Sender<Bytes>,
    writer: JoinHandle<Result<Fetched, FetchError>>,
}

impl Sink {
    /// Starts the writer. Dropping the sink ends it, and the file goes.
    pub(crate) fn start(folder: &Path) -> Result<Self, FetchError> {
        let file = NamedTempFile::with_prefix_in("fetch-", folder).map_err(disk)?;
        let (chunks, waiting) = mpsc::channel(CHUNKS);
        let writer = tokio::task::spawn_blocking(move || write(file, waiting));
        Ok(Self { chunks, writer })
    }

    /// Hands over a chunk; waits while the disk is behind. False when the writer failed: see [`Sink::finish`].
    pub(crate) async fn push(&self, chunk: Bytes) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    pub(crate) async fn finish(self) -> Result<Fetched, FetchError> {
        drop(self.chunks);
        self.writer.await.unwrap_or_else(|error| {
            Err(FetchError::Disk {
                what: error.to_string(),
            })
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used by map_err")]
fn disk(error: std::io::Error) -> FetchError {
    FetchError::Disk {
        what: error.to_string(),
    }
}

fn write(mut file: NamedTempFile, mut chunks: mpsc::Receiver<Bytes>) -> Result<Fetched, FetchError> {
    let (mut digest, mut bytes) = (Sha256::new(), 0);
    while let Some(chunk) = chunks.blocking_recv() {
        digest.update(&chunk);
        file.write_all(&chunk).map_err(disk)?;
        bytes += chunk.len() as u64;
    }
    file.flush().map_err(disk)?;
    Ok(Fetched {
        file,
        bytes,
        sha256: hex::encode(digest.finalize()),
    })
}
