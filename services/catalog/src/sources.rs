//! Every kind of source becomes readable bytes with an identity.

use std::{fs::File, io::Write as _, sync::Arc, time::Duration};

use reelsight_decode::{DecodeLimits, Input, PacketIndex};
use reelsight_fetch::{Fetcher, Ranged, Remote, SourceHeaders};
use reelsight_media::{ByteSource, CancelFlag};
use reelsight_proto::{
    time::now_millis,
    v1::{VideoSource, video_source::Source},
};
use reelsight_store::{DataDir, Store};
use reelsight_worker::WorkerPool;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::{
    CatalogError, IndexStore, MediaRoots, chunks::blocking, file_digest::file_digest, index_cache::IndexCache,
};

/// What sources may cost.
#[derive(Debug, Clone)]
pub struct SourceLimits {
    /// Bytes of `inline_content`. Default 4 MiB.
    pub inline_bytes: usize,
    /// Checked while a source is indexed and decoded.
    pub decode: DecodeLimits,
    /// Sources that are indexed at the same time; others wait. Default 4.
    pub indexing: usize,
    /// Longest indexing of one source. Default 2 minutes.
    pub index_time: Duration,
    /// Bytes of packet indices on disk. Default 512 MiB.
    pub index_store_bytes: u64,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            inline_bytes: 4 << 20,
            decode: DecodeLimits::default(),
            indexing: 4,
            index_time: Duration::from_mins(2),
            index_store_bytes: 512 << 20,
        }
    }
}

/// Of URLs whose server does not tell versions apart.
const UNVERSIONED: &str = "url-unversioned";

/// What makes two sources the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceKey(String);

impl SourceKey {
    /// Known content.
    #[must_use]
    pub fn from_sha256(hex: &str) -> Self {
        Self(format!("sha256:{hex}"))
    }

    /// A file that is too large to hash whole for every question. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_file(file: &File) -> std::io::Result<Self> {
        Ok(Self(format!("file:{}", file_digest(file)?)))
    }

    /// A version of a URL.
    #[must_use]
    pub fn from_remote(remote: &Ranged) -> Self {
        let scheme = if remote.versioned { "url" } else { UNVERSIONED };
        Self(format!("{scheme}:{}", remote.identity))
    }

    /// Whether the same key will mean the same bytes tomorrow.
    #[must_use]
    pub fn lasts(&self) -> bool {
        !self.0.starts_with(UNVERSIONED)
    }

    /// For comparison with one that was written down.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An open source. A temporary file behind it has no name any more: it goes with the last handle.
#[derive(Debug)]
pub struct Resolved {
    content: Content,
    key: SourceKey,
}

/// Where the bytes are.
#[derive(Debug)]
enum Content {
    File(File),
    Remote(Arc<dyn ByteSource>),
}

impl Resolved {
    /// A file with a known identity.
    #[must_use]
    pub fn from_file(file: File, key: SourceKey) -> Self {
        let content = Content::File(file);
        Self { content, key }
    }

    /// The identity of the bytes.
    #[must_use]
    pub fn key(&self) -> &SourceKey {
        &self.key
    }

    /// The file, when all bytes are here.
    pub(crate) fn file(&self) -> Option<&File> {
        match &self.content {
            Content::File(file) => Some(file),
            Content::Remote(_) => None,
        }
    }

    /// A handle for the decoder.
    ///
    /// # Errors
    /// [`CatalogError::Io`] when the system has no descriptor left.
    pub fn input(&self) -> Result<Input, CatalogError> {
        Ok(match &self.content {
            Content::File(file) => Input::File(file.try_clone()?),
            Content::Remote(bytes) => Input::Bytes(Arc::clone(bytes)),
        })
    }
}

/// Who decodes, and for whom.
#[derive(Debug, Clone)]
pub struct Decoders {
    /// The processes that see the bytes of sources.
    pub pool: WorkerPool,
    /// What keeps strangers' sources out: a gap in the sandbox that the operator did not accept.
    pub refusal: Option<String>,
}

/// Opens sources and knows their packet indexes. Cloning is cheap.
#[derive(Clone)]
pub struct Sources {
    dir: DataDir,
    store: Store,
    fetcher: Fetcher,
    roots: MediaRoots,
    limits: SourceLimits,
    decoders: Decoders,
    indexing: Arc<Semaphore>,
    cache: IndexCache,
    /// `None` when its folder cannot be used.
    indices: Option<IndexStore>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("roots", &self.roots)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Raises a flag when dropped, so that blocking work ends with the future that waits for it.
struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Sources {
    /// With everything that sources come from.
    #[must_use]
    pub fn new(
        dir: DataDir,
        store: Store,
        fetcher: Fetcher,
        roots: MediaRoots,
        limits: SourceLimits,
        decoders: Decoders,
    ) -> Self {
        let indexing = Arc::new(Semaphore::new(limits.indexing.max(1)));
        let indices = IndexStore::open(&dir.indices(), limits.index_store_bytes)
            .inspect_err(|error| tracing::warn!(%error, "packet indices are not kept on disk"))
            .ok();
        Self {
            dir,
            store,
            fetcher,
            roots,
            limits,
            decoders,
            indexing,
            cache: IndexCache::default(),
            indices,
        }
    }

    /// What sources may cost.
    #[must_use]
    pub fn limits(&self) -> &SourceLimits {
        &self.limits
    }

    /// The processes that decode sources.
    #[must_use]
    pub fn pool(&self) -> &WorkerPool {
        &self.decoders.pool
    }

    /// Whether bytes that the operator did not choose are decoded here.
    ///
    /// # Errors
    /// [`CatalogError::Unsandboxed`].
    pub(crate) fn admit_strangers(&self) -> Result<(), CatalogError> {
        match self.decoders.refusal.clone() {
            Some(gap) => Err(CatalogError::Unsandboxed { gap }),
            None => Ok(()),
        }
    }

    /// Checks what can be checked without opening anything, so that a malformed source is refused at once.
    ///
    /// # Errors
    /// [`CatalogError::Invalid`], or [`CatalogError::Fetch`] for a URL that will never be fetched.
    pub fn check(&self, source: &VideoSource) -> Result<(), CatalogError> {
        let invalid = |field, message: &str| {
            Err(CatalogError::Invalid {
                field,
                message: message.to_owned(),
            })
        };
        if !matches!(source.source, None | Some(Source::ServerPath(_))) {
            self.admit_strangers()?;
        }
        match &source.source {
            None => invalid(
                "source",
                "name a source: media, uri, server_path or inline_content",
            ),
            Some(Source::Media(name)) => media_id(name).map(drop),
            Some(Source::Uri(uri)) => {
                SourceHeaders::parse(&source.request_headers)?;
                Ok(self.fetcher.check(uri)?)
            }
            Some(_) if !source.request_headers.is_empty() => {
                invalid("source.request_headers", "headers are for source.uri only")
            }
            Some(Source::ServerPath(path)) if path.is_empty() => {
                invalid("source.server_path", "server_path must not be empty")
            }
            Some(Source::InlineContent(bytes)) if bytes.len() > self.limits.inline_bytes => {
                let message = format!(
                    "at most {} bytes: use UploadMedia or AskUpload",
                    self.limits.inline_bytes
                );
                Err(CatalogError::Invalid {
                    field: "source.inline_content",
                    message,
                })
            }
            Some(_) => Ok(()),
        }
    }

    /// Opens `source`, fetching it first when it is a URL.
    ///
    /// # Errors
    /// [`CatalogError`].
    ///
    /// # Cancellation
    /// Dropping the future stops the fetch.
    pub async fn open(&self, source: &VideoSource) -> Result<Resolved, CatalogError> {
        self.check(source)?;
        match source.source.clone() {
            None => Err(CatalogError::Invalid {
                field: "source",
                message: "name a source".into(),
            }),
            Some(Source::Media(name)) => self.open_media(&name).await,
            Some(Source::Uri(uri)) => {
                let headers = SourceHeaders::parse(&source.request_headers)?;
                Ok(match self.fetcher.open(&uri, &headers, &self.dir.tmp()).await? {
                    Remote::Whole(fetched) => {
                        let key = SourceKey::from_sha256(&fetched.sha256);
                        Resolved::from_file(fetched.file.into_file(), key)
                    }
                    Remote::Ranged(remote) => Resolved {
                        key: SourceKey::from_remote(&remote),
                        content: Content::Remote(remote.bytes),
                    },
                })
            }
            Some(Source::ServerPath(path)) => {
                let roots = self.roots.clone();
                blocking(move || {
                    let file = roots.open(&path)?;
                    let key = SourceKey::from_file(&file)?;
                    Ok(Resolved::from_file(file, key))
                })
                .await
            }
            Some(Source::InlineContent(bytes)) => {
                let folder = self.dir.tmp();
                blocking(move || {
                    let mut file = tempfile::tempfile_in(folder)?;
                    file.write_all(&bytes)?;
                    let key = SourceKey::from_sha256(&hex::encode(Sha256::digest(&bytes)));
                    Ok(Resolved::from_file(file, key))
                })
                .await
            }
        }
    }

    async fn open_media(&self, name: &str) -> Result<Resolved, CatalogError> {
        let id = media_id(name)?.to_owned();
        let missing = || CatalogError::NotFound {
            kind: "reelsight.v1.Media",
            name: name.to_owned(),
        };
        let key = id.clone();
        let row = self
            .store
            .run(move |db| db.media(&key))
            .await?
            .filter(|row| row.expires_ms > now_millis());
        let row = row.ok_or_else(missing)?;
        let path = self.dir.media().join(&id);
        let file = blocking(move || Ok(File::open(path)?))
            .await
            .map_err(|_gone| missing())?;
        Ok(Resolved::from_file(file, SourceKey::from_sha256(&row.sha256)))
    }

    /// The packet index of `source`, from memory, from disk or by reading its packets once.
    ///
    /// # Errors
    /// [`CatalogError::Media`].
    ///
    /// # Cancellation
    /// Dropping the future stops the reading.
    pub async fn index(&self, source: &Resolved) -> Result<Arc<PacketIndex>, CatalogError> {
        if let Some(found) = self.cache.get(&source.key) {
            return Ok(found);
        }
        let permit = Arc::clone(&self.indexing)
            .acquire_owned()
            .await
            .map_err(|_closed| CatalogError::Cancelled)?;
        let (input, pool, flag) = (source.input()?, self.decoders.pool.clone(), CancelFlag::new());
        let limits = DecodeLimits {
            max_wall: self.limits.index_time,
            ..self.limits.decode.clone()
        };
        let _stop = CancelOnDrop(flag.clone());
        let (store, key) = (self.indices.clone(), source.key.clone());
        let reading = blocking(move || {
            let _held = permit;
            let store = store.filter(|_| key.lasts());
            if let Some(found) = store.as_ref().and_then(|store| store.get(&key)) {
                return Ok(Arc::new(found));
            }
            let index = pool.index(&input, &limits, &flag)?;
            if let Some(Err(error)) = store.map(|store| store.put(&key, &index)) {
                tracing::warn!(%error, "a packet index could not be kept on disk");
            }
            Ok(index)
        });
        let index = reading.await?;
        self.cache.put(source.key.clone(), Arc::clone(&index));
        Ok(index)
    }
}

/// The id in `media/{id}`.
pub(crate) fn media_id(name: &str) -> Result<&str, CatalogError> {
    let id = name.strip_prefix("media/").filter(|id| {
        !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    });
    id.ok_or_else(|| CatalogError::Invalid {
        field: "name",
        message: "media names have the form media/{id}".into(),
    })
}
