//! Bytes that come in chunks: checked, written and hashed in order.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

use reelsight_proto::v1::UploadChunk;
use sha2::{Digest as _, Sha256};

use crate::CatalogError;

/// Largest chunk.
pub const MAX_CHUNK: usize = 1 << 20;

/// A file that grows by chunks.
#[derive(Debug)]
pub struct ChunkFile {
    limit: u64,
    state: Option<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    committed: u64,
    digest: Sha256,
}

impl ChunkFile {
    /// Goes on with what `file` has already. `limit` is the most bytes that it may have.
    ///
    /// # Errors
    /// [`CatalogError::Io`].
    pub async fn resume(file: File, limit: u64) -> Result<Self, CatalogError> {
        let state = blocking(move || {
            let mut state = State {
                file,
                committed: 0,
                digest: Sha256::new(),
            };
            state.file.seek(SeekFrom::Start(0))?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let read = state.file.read(&mut buffer)?;
                if read == 0 {
                    return Ok(state);
                }
                state.digest.update(&buffer[..read]);
                state.committed += read as u64;
            }
        })
        .await?;
        Ok(Self {
            limit,
            state: Some(state),
        })
    }

    /// Bytes there are.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.committed)
    }

    /// Appends a chunk after checking its offset, size and crc32c.
    ///
    /// # Errors
    /// [`CatalogError`] by what is wrong; after an I/O error the file takes nothing more.
    pub async fn push(&mut self, chunk: UploadChunk) -> Result<(), CatalogError> {
        if chunk.data.len() > MAX_CHUNK {
            let message = format!("a chunk has at most {MAX_CHUNK} bytes");
            return Err(CatalogError::Invalid {
                field: "chunk.data",
                message,
            });
        }
        let expected = self.committed();
        if chunk.offset != expected {
            return Err(CatalogError::Offset {
                expected,
                actual: chunk.offset,
            });
        }
        if expected + chunk.data.len() as u64 > self.limit {
            return Err(CatalogError::TooLarge { limit: self.limit });
        }
        let Some(mut state) = self.state.take() else {
            return Err(io::Error::other("the file failed before").into());
        };
        // A checksum error leaves the state as it was; an I/O error gives it up.
        let (state, result) = blocking(move || {
            if crc32c::crc32c(&chunk.data) != chunk.crc32c {
                return Ok((state, Err(CatalogError::Digest { what: "chunk.crc32c" })));
            }
            state.file.write_all(&chunk.data)?;
            state.digest.update(&chunk.data);
            state.committed += chunk.data.len() as u64;
            Ok((state, Ok(())))
        })
        .await?;
        self.state = Some(state);
        result
    }

    /// The synced file, its length and its sha256 in hex.
    ///
    /// # Errors
    /// [`CatalogError::Io`].
    pub async fn finish(&mut self) -> Result<(File, u64, String), CatalogError> {
        let state = self
            .state
            .take()
            .ok_or_else(|| io::Error::other("the file failed before"))?;
        blocking(move || {
            state.file.sync_all()?;
            Ok((state.file, state.committed, hex::encode(state.digest.finalize())))
        })
        .await
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, CatalogError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reelsight_proto::status::ServiceError as _;

    use super::*;

    fn chunk(offset: u64, data: &'static [u8]) -> UploadChunk {
        UploadChunk {
            offset,
            data: Bytes::from_static(data),
            crc32c: crc32c::crc32c(data),
        }
    }

    #[tokio::test]
    async fn chunks_must_be_whole_and_in_order_and_a_bad_one_changes_nothing() {
        let file = tempfile::tempfile().unwrap();
        let mut chunks = ChunkFile::resume(file.try_clone().unwrap(), 8).await.unwrap();
        chunks.push(chunk(0, b"hel")).await.unwrap();
        let torn = UploadChunk {
            crc32c: 1,
            ..chunk(3, b"lo")
        };
        for (bad, reason) in [
            (chunk(0, b"hel"), "UPLOAD_OFFSET_MISMATCH"),
            (chunk(4, b"o"), "UPLOAD_OFFSET_MISMATCH"),
            (torn, "DIGEST_MISMATCH"),
            (chunk(3, b"too long"), "SOURCE_TOO_LARGE"),
        ] {
            assert_eq!(chunks.push(bad).await.unwrap_err().reason(), reason);
            assert_eq!(chunks.committed(), 3);
        }
        drop(chunks);
        let mut chunks = ChunkFile::resume(file, 8).await.unwrap();
        assert_eq!(chunks.committed(), 3);
        chunks.push(chunk(3, b"lo")).await.unwrap();
        let (_, bytes, sha256) = chunks.finish().await.unwrap();
        assert_eq!(bytes, 5);
        assert_eq!(
            sha256,
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
    }
}
