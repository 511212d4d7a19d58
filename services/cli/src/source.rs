//! What a person names as a video: a file, `-` or a pipe, a URL, an object of a bucket.

use std::{
    env,
    fs::{self, File},
    io::{self, Read, Write as _},
    os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, sync_channel},
    time::{Duration, SystemTime},
};

use reelsight_catalog::{IndexStore, SourceKey};
use reelsight_decode::{DecodeError, Input, MediaWarning, PacketIndex};
use reelsight_fetch::{FetchLimits, Fetcher, Remote, SourceHeaders, SystemResolver, UrlPolicy};
use reelsight_media::CancelFlag;
use reelsight_proto::status::{ErrorKind, ServiceError as _};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use crate::{
    args::SourceArgs,
    exit::{Failure, FailureKind},
    serve,
};

/// Bytes of packet indices that are kept.
const STORE_BYTES: u64 = 512 << 20;
/// A file that was written to a shorter time ago is taken to be still growing.
const QUIET: Duration = Duration::from_secs(2);
/// Bytes that are taken from a pipe at a time.
const PIPE_BYTES: usize = 256 << 10;
const POLL: Duration = Duration::from_millis(50);

/// An opened source.
pub(crate) struct Source {
    pub(crate) input: Input,
    /// What the index is kept by; `None` when it is not kept.
    key: Option<SourceKey>,
    store: Option<IndexStore>,
    /// Of a file by name: what it was when it was opened.
    seen: Option<Seen>,
    /// Brings the parts of a URL.
    _runtime: Option<Runtime>,
}

#[derive(Clone, PartialEq)]
struct Seen {
    path: PathBuf,
    len: u64,
    modified: SystemTime,
}

impl Seen {
    fn now(path: &Path) -> Option<Self> {
        let facts = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            path: path.to_owned(),
            len: facts.len(),
            modified: facts.modified().ok()?,
        })
    }

    /// Whether somebody writes to the file, or did a moment ago.
    fn is_growing(&self) -> bool {
        let age = self.modified.elapsed().unwrap_or_default();
        age < QUIET || Self::now(&self.path).is_some_and(|now| now != *self)
    }
}

impl Source {
    /// Opens `name`. A pipe is read to its end first, into a nameless file of at most `max_bytes`.
    pub(crate) fn open(
        name: &Path,
        args: &SourceArgs,
        max_bytes: u64,
        cancel: &CancelFlag,
    ) -> Result<Self, Failure> {
        let store = store(args);
        if let Some(url) = name.to_str().filter(|name| is_url(name)) {
            return Self::remote(url, args, store);
        }
        let local = |input, key| Self {
            input,
            key,
            store: store.clone(),
            seen: None,
            _runtime: None,
        };
        let piped = |pipe| {
            let (file, sha256) = spool(pipe, max_bytes, cancel)?;
            Ok(local(Input::File(file), Some(SourceKey::from_sha256(&sha256))))
        };
        if name == Path::new("-") {
            let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            if !stdin.metadata()?.is_file() {
                return piped(stdin);
            }
            let key = SourceKey::from_file(&stdin).ok();
            return Ok(local(Input::File(stdin), key));
        }
        if fs::metadata(name).is_ok_and(|facts| facts.file_type().is_fifo()) {
            return piped(File::open(name)?);
        }
        // What cannot be opened is explained by the decoder.
        let seen = Seen::now(name);
        let file = seen.as_ref().and_then(|_| File::open(name).ok());
        Ok(Self {
            seen,
            ..local(
                Input::Path(name.to_owned()),
                file.and_then(|file| SourceKey::from_file(&file).ok()),
            )
        })
    }

    fn remote(url: &str, args: &SourceArgs, store: Option<IndexStore>) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let policy = UrlPolicy::new(serve::url_allow(&args.url_allow)?);
        let authorities = serve::url_authorities(args.url_ca.as_deref())?;
        let stores = serve::s3_stores(args.s3_config.as_deref())?;
        let resolver = std::sync::Arc::new(SystemResolver);
        let fetcher = Fetcher::with(policy, FetchLimits::default(), resolver, &authorities).with_s3(stores);
        let (headers, folder) = (SourceHeaders::default(), env::temp_dir());
        let opening = fetcher.open(url, &headers, &folder);
        let remote = runtime.block_on(opening).map_err(|error| {
            let kind = match error.kind() {
                ErrorKind::Unavailable => FailureKind::Unavailable,
                _ => FailureKind::Input,
            };
            Failure::new(kind, error.reason(), error)
        })?;
        let (input, key) = match remote {
            Remote::Whole(whole) => {
                let key = SourceKey::from_sha256(&whole.sha256);
                (Input::File(whole.file.into_file()), Some(key))
            }
            Remote::Ranged(remote) => {
                let key = Some(SourceKey::from_remote(&remote)).filter(SourceKey::lasts);
                (Input::Bytes(remote.bytes), key)
            }
        };
        Ok(Self {
            input,
            key,
            store,
            seen: None,
            _runtime: Some(runtime),
        })
    }

    /// The index that is kept, if it is.
    pub(crate) fn kept_index(&self) -> Option<PacketIndex> {
        self.store.as_ref()?.get(self.key.as_ref()?)
    }

    /// Keeps a new index for the next time; one of a growing file would be of no use, and gets a warning instead.
    pub(crate) fn keep(&self, index: &mut PacketIndex) {
        if self.seen.as_ref().is_some_and(Seen::is_growing) {
            let end = index.timeline.duration_secs();
            let message = format!(
                "the file may still be growing: this is what is there now, {end:.3} s; ask again for the rest"
            );
            index.warnings.push(MediaWarning {
                reason: "MEDIA_GROWING".into(),
                message,
            });
        } else if let (Some(store), Some(key)) = (&self.store, &self.key)
            && let Err(error) = store.put(key, index)
        {
            tracing::debug!(%error, "the packet index could not be kept");
        }
    }
}

/// Whether `name` is fetched rather than opened.
pub(crate) fn is_url(name: &str) -> bool {
    ["http://", "https://", "s3://"]
        .iter()
        .any(|scheme| name.starts_with(scheme))
}

/// Where indices are kept; `None` when nobody wants it, or nothing can be written there.
fn store(args: &SourceArgs) -> Option<IndexStore> {
    if args.no_index_cache {
        return None;
    }
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let user = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let folder = args
        .index_cache
        .clone()
        .or_else(|| user.map(|user| user.join("reelsight/index")))?;
    IndexStore::open(&folder, STORE_BYTES)
        .inspect_err(|error| tracing::debug!(%error, "packet indices are not kept"))
        .ok()
}

/// Reads a pipe to its end into a nameless file. The reading thread may wait for a writer for ever; when the flag is
/// raised it is left behind, and ends with the process.
fn spool(
    pipe: impl Read + Send + 'static,
    max_bytes: u64,
    cancel: &CancelFlag,
) -> Result<(File, String), Failure> {
    let (done, waiting) = sync_channel(1);
    let read = move || done.send(copy(pipe, max_bytes)).ok();
    std::thread::Builder::new().name("spool".to_owned()).spawn(read)?;
    loop {
        match waiting.recv_timeout(POLL) {
            Ok(outcome) => return outcome.map_err(Failure::from),
            Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => {
                return Err(DecodeError::Cancelled.into());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let detail = "the thread that reads the pipe died".to_owned();
                return Err(DecodeError::Internal { detail }.into());
            }
        }
    }
}

fn copy(mut pipe: impl Read, limit: u64) -> Result<(File, String), DecodeError> {
    let mut file = tempfile::tempfile()?;
    let (mut buffer, mut digest, mut actual) = (vec![0; PIPE_BYTES], Sha256::new(), 0);
    loop {
        let count = match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        actual += count as u64;
        if actual > limit {
            return Err(DecodeError::TooLarge { limit, actual });
        }
        digest.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
    }
    Ok((file, hex::encode(digest.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_bounded_and_hashed() {
        let pipe = |len: usize| io::Cursor::new(vec![b'x'; len]);
        let (file, sha256) = spool(pipe(700_000), 1 << 20, &CancelFlag::new()).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 700_000);
        assert_eq!(sha256, hex::encode(Sha256::digest(vec![b'x'; 700_000])));
        let error = copy(pipe(700_000), 600_000).unwrap_err();
        assert!(
            matches!(error, DecodeError::TooLarge { limit: 600_000, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_silent_pipe_can_be_left() {
        struct Silent;
        impl Read for Silent {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_hours(1));
                Ok(0)
            }
        }
        let cancel = CancelFlag::new();
        cancel.cancel();
        assert!(spool(Silent, 1, &cancel).is_err());
    }
}
