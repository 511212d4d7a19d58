//! Uploads that survive lost connections and restarts.

use std::{
    fs::{self, OpenOptions},
    path::PathBuf,
    time::Duration,
};

use prost::Message as _;
use reelsight_edge::{KeyGuard, KeyedLocks};
use reelsight_proto::{
    time::{now_millis, std_from_duration},
    v1::UploadStart,
};
use reelsight_store::{DataDir, MediaRow, Store, UploadRow};
use uuid::Uuid;

use crate::{
    CatalogError, ChunkFile, Resolved, SourceKey, Sources, chunks::blocking, info::media_info_from_index,
};

/// What uploads may cost.
#[derive(Debug, Clone)]
pub struct UploadLimits {
    /// Bytes of one upload. Default 4 GiB.
    pub max_bytes: u64,
    /// Bytes of all media together. Default 64 GiB.
    pub max_total_bytes: u64,
    /// How long media live when the uploader does not say. Default one day.
    pub default_ttl: Duration,
    /// How long they live at most. Default 30 days.
    pub max_ttl: Duration,
    /// Longest wait for the next message. Default one minute.
    pub idle: Duration,
    /// How long an unfinished upload is kept. Default one day.
    pub keep_unfinished: Duration,
}

impl Default for UploadLimits {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            max_bytes: 4 << 30,
            max_total_bytes: 64 << 30,
            default_ttl: day,
            max_ttl: 30 * day,
            idle: Duration::from_mins(1),
            keep_unfinished: day,
        }
    }
}

/// Takes uploads. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Uploads {
    dir: DataDir,
    store: Store,
    sources: Sources,
    limits: UploadLimits,
    locks: KeyedLocks,
}

/// An upload after its first message.
pub(crate) enum Begun {
    /// It was finished before.
    Finished(MediaRow),
    /// It wants chunks.
    Open(Box<Upload>),
}

/// An upload that wants chunks; nobody else writes to it meanwhile.
pub(crate) struct Upload {
    row: UploadRow,
    chunks: ChunkFile,
    _lock: KeyGuard,
}

impl Uploads {
    /// Into `dir` and `store`; finished ones are probed with `sources`.
    #[must_use]
    pub fn new(dir: DataDir, store: Store, sources: Sources, limits: UploadLimits) -> Self {
        Self {
            dir,
            store,
            sources,
            limits,
            locks: KeyedLocks::default(),
        }
    }

    pub(crate) fn limits(&self) -> &UploadLimits {
        &self.limits
    }

    pub(crate) async fn begin(&self, start: UploadStart) -> Result<Begun, CatalogError> {
        self.sources.admit_strangers()?;
        let wanted = self.row_from_start(start)?;
        let lock = self
            .locks
            .try_lock(&wanted.request_id)
            .ok_or(CatalogError::InProgress)?;
        let id = wanted.request_id.clone();
        let row = match self.store.run(move |db| db.upload(&id)).await? {
            None => wanted,
            Some(found) => {
                let same = (&found.display_name, found.total, &found.sha256, found.ttl_ms)
                    == (&wanted.display_name, wanted.total, &wanted.sha256, wanted.ttl_ms);
                if !same {
                    return Err(CatalogError::RequestIdReused(found.request_id));
                }
                if let Some(media) = self.finished(&found).await? {
                    return Ok(Begun::Finished(media));
                }
                UploadRow {
                    updated_ms: now_millis(),
                    media_id: None,
                    ..found
                }
            }
        };
        let room = self.room_for(row.total).await?;
        let stored = row.clone();
        self.store.run(move |db| db.put_upload(&stored)).await?;
        let path = self.dir.uploads().join(&row.file);
        let file = blocking(move || {
            Ok(OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(path)?)
        })
        .await?;
        let limit = if row.total > 0 {
            row.total
        } else {
            self.limits.max_bytes.min(room)
        };
        let chunks = ChunkFile::resume(file, limit).await?;
        Ok(Begun::Open(Box::new(Upload {
            row,
            chunks,
            _lock: lock,
        })))
    }

    fn row_from_start(&self, start: UploadStart) -> Result<UploadRow, CatalogError> {
        let invalid = |field, message: String| Err(CatalogError::Invalid { field, message });
        if start.request_id.is_empty() || start.request_id.len() > 128 {
            return invalid(
                "start.request_id",
                "request_id is the resume key: send 1 to 128 bytes".into(),
            );
        }
        if start.display_name.len() > 512 {
            return invalid("start.display_name", "display_name has at most 512 bytes".into());
        }
        if start.total_bytes > self.limits.max_bytes {
            return Err(CatalogError::TooLarge {
                limit: self.limits.max_bytes,
            });
        }
        let sha256 = start.sha256.to_ascii_lowercase();
        if !sha256.is_empty() && hex::decode(&sha256).map_or(true, |bytes| bytes.len() != 32) {
            return invalid("start.sha256", "sha256 has 64 hexadecimal digits".into());
        }
        let ttl = start
            .ttl
            .map_or(Some(Duration::ZERO), |ttl| std_from_duration(&ttl));
        let Some(ttl) = ttl.filter(|ttl| *ttl <= self.limits.max_ttl) else {
            return invalid(
                "start.ttl",
                format!("ttl is between 0 and {:?}", self.limits.max_ttl),
            );
        };
        Ok(UploadRow {
            request_id: start.request_id,
            file: Uuid::new_v4().to_string(),
            display_name: start.display_name,
            total: start.total_bytes,
            sha256,
            ttl_ms: i64::try_from(ttl.as_millis()).unwrap_or(0),
            media_id: None,
            updated_ms: now_millis(),
        })
    }

    /// Bytes that the server still takes; there must be at least `wanted`.
    async fn room_for(&self, wanted: u64) -> Result<u64, CatalogError> {
        let limit = self.limits.max_total_bytes;
        let room = self
            .store
            .run(move |db| Ok(limit.saturating_sub(db.media_bytes()?)))
            .await?;
        if wanted > room {
            return Err(CatalogError::Quota { limit });
        }
        Ok(room)
    }

    async fn finished(&self, upload: &UploadRow) -> Result<Option<MediaRow>, CatalogError> {
        let Some(id) = upload.media_id.clone() else {
            return Ok(None);
        };
        Ok(self.store.run(move |db| db.media(&id)).await?)
    }

    /// Verifies, probes and keeps a complete upload. A broken one is forgotten, so that it can be sent anew.
    pub(crate) async fn finish(&self, upload: Upload) -> Result<MediaRow, CatalogError> {
        let Upload { row, chunks, _lock } = upload;
        let committed = chunks.committed();
        if committed < row.total {
            return Err(CatalogError::Incomplete {
                committed,
                total: row.total,
            });
        }
        let kept = self.keep(&row, chunks).await;
        if matches!(kept, Err(CatalogError::Media(_) | CatalogError::Digest { .. })) {
            let (path, id) = (self.dir.uploads().join(&row.file), row.request_id.clone());
            blocking(move || Ok(fs::remove_file(path)?)).await?;
            self.store.run(move |db| db.delete_upload(&id)).await?;
        }
        kept
    }

    async fn keep(&self, row: &UploadRow, mut chunks: ChunkFile) -> Result<MediaRow, CatalogError> {
        let (file, size, sha256) = chunks.finish().await?;
        if !row.sha256.is_empty() && row.sha256 != sha256 {
            return Err(CatalogError::Digest { what: "start.sha256" });
        }
        let source = Resolved::from_file(file, SourceKey::from_sha256(&sha256));
        let index = self.sources.index(&source).await?;
        let ttl = if row.ttl_ms > 0 {
            Duration::from_millis(row.ttl_ms.unsigned_abs())
        } else {
            self.limits.default_ttl
        };
        let media = self
            .insert(
                self.dir.uploads().join(&row.file),
                &row.display_name,
                size,
                sha256,
                &index,
                ttl,
            )
            .await?;
        let done = UploadRow {
            media_id: Some(media.id.clone()),
            updated_ms: now_millis(),
            ..row.clone()
        };
        self.store.run(move |db| db.put_upload(&done)).await?;
        Ok(media)
    }

    async fn insert(
        &self,
        from: PathBuf,
        display_name: &str,
        size: u64,
        sha256: String,
        index: &reelsight_decode::PacketIndex,
        ttl: Duration,
    ) -> Result<MediaRow, CatalogError> {
        let now = now_millis();
        let media = MediaRow {
            id: Uuid::new_v4().to_string(),
            display_name: display_name.to_owned(),
            size,
            sha256,
            info: media_info_from_index(index).encode_to_vec(),
            created_ms: now,
            expires_ms: now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
        };
        let to = self.dir.media().join(&media.id);
        blocking(move || Ok(fs::rename(from, to)?)).await?;
        let row = media.clone();
        self.store.run(move |db| db.insert_media(&row)).await?;
        Ok(media)
    }

    /// Keeps bytes that came inside an ask, so that its session can be rebuilt. They expire like an upload.
    ///
    /// # Errors
    /// [`CatalogError::Quota`], or when the disk fails.
    pub async fn keep_source(
        &self,
        source: &Resolved,
        index: &reelsight_decode::PacketIndex,
        ttl: Duration,
    ) -> Result<MediaRow, CatalogError> {
        let file = source
            .file()
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::Unsupported))?;
        let (mut from, sha256) = (
            file.try_clone()?,
            source.key().as_str().trim_start_matches("sha256:").to_owned(),
        );
        let size = from.metadata()?.len();
        self.room_for(size).await?;
        let path = self.dir.uploads().join(Uuid::new_v4().to_string());
        let to = path.clone();
        blocking(move || {
            use std::io::{Seek as _, SeekFrom};
            from.seek(SeekFrom::Start(0))?;
            let mut copy = fs::File::create(&to)?;
            std::io::copy(&mut from, &mut copy)?;
            Ok(copy.sync_all()?)
        })
        .await?;
        self.insert(path, "bytes of an ask", size, sha256, index, ttl)
            .await
    }

    /// A nameless file for bytes that come inside an ask.
    ///
    /// # Errors
    /// [`CatalogError::Io`].
    pub async fn spool(&self) -> Result<ChunkFile, CatalogError> {
        self.sources.admit_strangers()?;
        let folder = self.dir.tmp();
        let file = blocking(move || Ok(tempfile::tempfile_in(folder)?)).await?;
        ChunkFile::resume(file, self.limits.max_bytes).await
    }

    /// Where an upload stands.
    pub(crate) async fn progress(&self, request_id: &str) -> Result<(u64, Option<MediaRow>), CatalogError> {
        let id = request_id.to_owned();
        let missing = || CatalogError::NotFound {
            kind: "upload",
            name: request_id.to_owned(),
        };
        let row = self
            .store
            .run(move |db| db.upload(&id))
            .await?
            .ok_or_else(missing)?;
        if let Some(media) = self.finished(&row).await? {
            return Ok((media.size, Some(media)));
        }
        let path = self.dir.uploads().join(&row.file);
        let committed = blocking(move || Ok(fs::metadata(path).map_or(0, |stat| stat.len()))).await?;
        Ok((committed, None))
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<bool, CatalogError> {
        let key = id.to_owned();
        let found = self.store.run(move |db| db.delete_media(&key)).await?;
        let path = self.dir.media().join(id);
        // Whoever has it open keeps reading; a file that is gone already is as good.
        blocking(move || Ok(fs::remove_file(path).ok())).await?;
        Ok(found)
    }

    /// Deletes what has expired.
    ///
    /// # Errors
    /// [`CatalogError::Store`].
    pub async fn sweep(&self) -> Result<(), CatalogError> {
        let now = now_millis();
        for id in self.store.run(move |db| db.expired_media(now)).await? {
            self.delete(&id).await?;
        }
        let before = now - i64::try_from(self.limits.keep_unfinished.as_millis()).unwrap_or(0);
        for file in self.store.run(move |db| db.sweep_uploads(before)).await? {
            let path = self.dir.uploads().join(file);
            blocking(move || Ok(fs::remove_file(path).ok())).await?;
        }
        Ok(())
    }
}

impl Upload {
    pub(crate) async fn push(&mut self, chunk: reelsight_proto::v1::UploadChunk) -> Result<(), CatalogError> {
        self.chunks.push(chunk).await
    }
}
