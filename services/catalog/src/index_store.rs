//! Packet indices on disk: a file is indexed once, whoever asks about it.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use reelsight_decode::{INDEX_VERSION, PacketIndex, ffmpeg_version};
use sha2::{Digest as _, Sha256};

use crate::SourceKey;

/// Ends of the names of finished and unfinished entries.
const ENTRY: &str = "idx";
const UNFINISHED: &str = "tmp";
/// Unfinished entries that are older than this were left behind by a process that died.
const ABANDONED: Duration = Duration::from_hours(1);

/// A folder of packet indices, named by the digest of their source's identity, the index's version and FFmpeg's: what
/// another program wrote is never read.
///
/// Bounded by bytes; the entries unused for longest go. Safe for several processes: entries appear and vanish whole.
/// An entry that is damaged is deleted, and its file indexed again.
#[derive(Debug, Clone)]
pub struct IndexStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    max_bytes: u64,
}

impl IndexStore {
    /// A store in `folder`, which is made when it is missing, of at most `max_bytes`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self(Arc::new(Inner {
            folder: folder.to_owned(),
            max_bytes,
        })))
    }

    /// The index of the source with `key`, when it is here and whole. Blocks.
    #[must_use]
    pub fn get(&self, key: &SourceKey) -> Option<PacketIndex> {
        let path = self.path(key);
        let mut file = File::open(&path).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        match PacketIndex::from_bytes(&bytes) {
            Ok(index) => {
                // For eviction; a reader without the right to write reads all the same.
                file.set_modified(SystemTime::now()).ok();
                Some(index)
            }
            Err(error) => {
                tracing::warn!(%error, "a cached packet index cannot be used and is deleted");
                fs::remove_file(path).ok();
                None
            }
        }
    }

    /// Keeps `index`; one that is larger than a quarter of the store is not kept. Blocks.
    ///
    /// # Errors
    /// When the disk fails; nothing is lost but time.
    pub fn put(&self, key: &SourceKey, index: &PacketIndex) -> io::Result<()> {
        let Inner { folder, max_bytes } = &*self.0;
        let bytes = index.to_bytes().map_err(io::Error::other)?;
        if bytes.len() as u64 > max_bytes / 4 {
            return Ok(());
        }
        let suffix = format!(".{UNFINISHED}");
        let mut file = tempfile::Builder::new().suffix(&suffix).tempfile_in(folder)?;
        file.write_all(&bytes)?;
        self.make_room(bytes.len() as u64)?;
        file.persist(self.path(key)).map_err(|failed| failed.error)?;
        Ok(())
    }

    fn path(&self, key: &SourceKey) -> PathBuf {
        let mut name = Sha256::new();
        for part in [key.as_str(), &INDEX_VERSION.to_string(), &ffmpeg_version()] {
            name.update(part);
            name.update([0]);
        }
        let name = hex::encode(name.finalize());
        self.0.folder.join(name).with_extension(ENTRY)
    }

    /// Deletes what was unused for longest until `more` bytes fit.
    fn make_room(&self, more: u64) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.0.folder)? {
            // Another process may delete at the same time.
            let Ok(entry) = entry else { continue };
            let Ok(facts) = entry.metadata() else { continue };
            let Ok(modified) = facts.modified() else { continue };
            let path = entry.path();
            let kind = path.extension().and_then(OsStr::to_str);
            let age = modified.elapsed().unwrap_or_default();
            match kind {
                Some(ENTRY) => entries.push((modified, facts.len(), path)),
                Some(UNFINISHED) if age > ABANDONED => drop(fs::remove_file(path)),
                _ => {}
            }
        }
        entries.sort_unstable();
        let mut bytes: u64 = more + entries.iter().map(|(_, len, _)| len).sum::<u64>();
        for (_, len, path) in entries {
            if bytes <= self.0.max_bytes {
                break;
            }
            fs::remove_file(path).ok();
            bytes = bytes.saturating_sub(len);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use reelsight_decode::{DecodeLimits, Input};
    use reelsight_media::CancelFlag;

    use super::*;

    fn index(folder: &Path) -> PacketIndex {
        let clip = folder.join("clip.mp4");
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=64x48:r=25:d=4",
            "-pix_fmt",
            "yuv420p",
        ]);
        assert!(ffmpeg.arg(&clip).status().unwrap().success());
        let index = reelsight_decode::index(&Input::Path(clip), &DecodeLimits::default(), &CancelFlag::new());
        PacketIndex::clone(&index.unwrap())
    }

    fn key(name: &str) -> SourceKey {
        SourceKey::from_sha256(name)
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    #[test]
    fn an_index_comes_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let index = index(folder.path());
        let path = folder.path().join("a/b");
        let store = IndexStore::open(&path, 1 << 20).unwrap();
        assert_eq!(store.get(&key("a")), None);
        store.put(&key("a"), &index).unwrap();
        assert_eq!(store.get(&key("a")), Some(index.clone()));
        assert_eq!(
            IndexStore::open(&path, 1 << 20).unwrap().get(&key("a")),
            Some(index.clone())
        );
        assert_eq!(store.get(&key("b")), None);

        let [file] = &files(&path)[..] else {
            panic!("one entry")
        };
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
        assert_eq!(store.get(&key("a")), None);
        assert!(files(&path).is_empty(), "it does not stay");
        store.put(&key("a"), &index).unwrap();
        assert!(store.get(&key("a")).is_some());
    }

    #[test]
    fn the_least_recently_used_go() {
        let folder = tempfile::tempdir().unwrap();
        let index = index(folder.path());
        let size = index.to_bytes().unwrap().len() as u64;
        let path = folder.path().join("store");
        let store = IndexStore::open(&path, 5 * size + 10).unwrap();
        for name in ["0", "1", "2", "3", "4"] {
            store.put(&key(name), &index).unwrap();
            std::thread::sleep(Duration::from_millis(15));
        }
        assert!(store.get(&key("0")).is_some(), "and is the youngest now");
        store.put(&key("5"), &index).unwrap();
        let there = |name: &str| store.0.folder.join(store.path(&key(name))).is_file();
        assert!(there("0") && !there("1") && there("2") && there("5"));

        let small = IndexStore::open(&path, size).unwrap();
        small.put(&key("6"), &index).unwrap();
        assert!(!there("6"), "too large a part of the store");
    }

    #[test]
    fn what_a_dead_process_left_goes_and_strangers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let index = index(folder.path());
        let path = folder.path().join("store");
        let store = IndexStore::open(&path, 1 << 20).unwrap();
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        for (name, time) in [
            ("old.tmp", long_ago),
            ("new.tmp", SystemTime::now()),
            ("notes.txt", long_ago),
        ] {
            File::create(path.join(name)).unwrap().set_modified(time).unwrap();
        }
        store.put(&key("a"), &index).unwrap();
        assert!(
            !path.join("old.tmp").is_file()
                && path.join("new.tmp").is_file()
                && path.join("notes.txt").is_file()
        );
    }

    #[test]
    fn many_may_use_it_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let index = index(folder.path());
        let size = index.to_bytes().unwrap().len() as u64;
        let path = folder.path().join("store");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (index, path) = (&index, &path);
                scope.spawn(move || {
                    let store = IndexStore::open(path, 6 * size).unwrap();
                    for round in 0..20 {
                        let key = key(&((thread + round) % 8).to_string());
                        store.put(&key, index).unwrap();
                        let found = store.get(&key);
                        assert!(found.is_none_or(|found| found == *index), "whole or not at all");
                    }
                });
            }
        });
        assert!(files(&path).len() <= 8);
    }
}
