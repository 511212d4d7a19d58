//! KV at rest in files, so that it survives a restart.
//!
//! Files are written by a thread of their own (`kv-disk`), from a bounded queue: when it is full, or a disk is, an entry
//! is not written, and whoever wants it later starts from its source. A file that is damaged, or belongs to other
//! weights, is not there. The least recently written or read go first.

mod format;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::Plane;
use crate::{EngineError, KvDisk, KvTier, session::KvSnapshot, session::SessionKv};
use format::Owner;

/// Entries that may wait to be written.
const QUEUE: usize = 8;
const EXTENSION: &str = "kv";

/// See the module.
#[derive(Debug)]
pub(crate) struct Disk {
    shared: Arc<Shared>,
    queue: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    budget: u64,
    owner: Owner,
    /// The loaded model.
    id: u64,
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    /// Bytes and last use by name.
    files: HashMap<String, (u64, u64)>,
    bytes: u64,
    clock: u64,
}

#[derive(Debug)]
enum Task {
    Write(String, Arc<KvSnapshot>),
    Remove(String),
}

impl Disk {
    /// Looks through the folder. `model` identifies the weights, `id` this load of them, `planes` their cache.
    pub(crate) fn open(config: &KvDisk, model: &str, id: u64, planes: &[Plane]) -> Result<Self, EngineError> {
        let failed = |error: io::Error| EngineError::Model {
            message: format!(
                "the folder for KV {} cannot be used: {error}",
                config.dir.display()
            ),
        };
        fs::create_dir_all(&config.dir).map_err(failed)?;
        let shared = Arc::new(Shared {
            dir: config.dir.clone(),
            budget: config.bytes,
            owner: Owner {
                model: model.to_owned(),
                planes: planes.to_vec(),
            },
            id,
            index: Mutex::default(),
        });
        shared.look_through().map_err(failed)?;
        let (queue, tasks) = bounded(QUEUE);
        let worker = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("kv-disk".into())
            .spawn(move || worker.work(&tasks));
        Ok(Self {
            shared,
            queue: Some(queue),
            thread: Some(thread.map_err(failed)?),
        })
    }

    /// Writes `session` soon.
    pub(crate) fn put(&self, name: &str, session: &SessionKv) {
        self.send(Task::Write(name.to_owned(), Arc::clone(&session.0)));
    }

    fn send(&self, task: Task) {
        if let Some(queue) = &self.queue
            && queue.try_send(task).is_err()
        {
            tracing::warn!(
                "the disk is slower than the sessions that are to be kept on it: one is not written"
            );
        }
    }

    /// Reads `name`. A file that cannot be used is removed.
    pub(crate) fn get(&self, name: &str) -> Option<SessionKv> {
        if !self.contains(name) {
            return None;
        }
        match self.shared.read(name) {
            Ok(snapshot) => {
                self.shared.index.lock().touch(name);
                Some(SessionKv(Arc::new(snapshot), KvTier::Disk))
            }
            Err(error) => {
                tracing::warn!(name, %error, "a KV file cannot be used");
                self.shared.remove(name);
                None
            }
        }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.shared.index.lock().files.contains_key(name)
    }

    /// Removes `name`, after whatever is about to be written.
    pub(crate) fn remove(&self, name: &str) {
        self.shared.index.lock().forget(name);
        self.send(Task::Remove(name.to_owned()));
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.shared.index.lock().bytes
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What waits is still written.
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes KV files panicked");
        }
    }
}

impl Index {
    fn add(&mut self, name: &str, bytes: u64) {
        self.forget(name);
        self.clock += 1;
        self.bytes += bytes;
        self.files.insert(name.to_owned(), (bytes, self.clock));
    }

    fn touch(&mut self, name: &str) {
        self.clock += 1;
        if let Some((_, used)) = self.files.get_mut(name) {
            *used = self.clock;
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some((bytes, _)) = self.files.remove(name) {
            self.bytes -= bytes;
        }
    }

    fn oldest(&self) -> Option<String> {
        let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used);
        oldest.map(|(name, _)| name.clone())
    }
}

impl Shared {
    fn work(&self, tasks: &Receiver<Task>) {
        for task in tasks {
            match task {
                Task::Remove(name) => self.remove(&name),
                Task::Write(name, session) => {
                    if let Err(error) = self.write(&name, &session) {
                        tracing::warn!(name, %error, "KV cannot be written");
                        self.remove(&name);
                    }
                }
            }
            self.shrink();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let mut hasher = Sha256::new();
        hasher.update(self.owner.model.as_bytes());
        hasher.update([0]);
        hasher.update(name.as_bytes());
        self.dir
            .join(hex::encode(hasher.finalize()))
            .with_extension(EXTENSION)
    }

    fn write(&self, name: &str, session: &KvSnapshot) -> io::Result<()> {
        if (session.pages.len() * session.token_bytes) as u64 > self.budget {
            return Ok(());
        }
        let path = self.path(name);
        let part = path.with_extension("part");
        let mut out = BufWriter::new(File::create(&part)?);
        format::write(&mut out, name, &self.owner, session)?;
        out.flush()?;
        let bytes = out.get_ref().metadata()?.len();
        // Whoever reads sees the whole file or none.
        fs::rename(&part, &path)?;
        self.index.lock().add(name, bytes);
        Ok(())
    }

    fn read(&self, name: &str) -> io::Result<KvSnapshot> {
        let mut file = BufReader::new(File::open(self.path(name))?);
        let header = format::read_header(&mut file)?;
        if !header.is_of(&self.owner) || header.name() != Some(name) {
            return Err(io::Error::other("it belongs to another model or name"));
        }
        format::read(&mut file, &header, &self.owner, self.id)
    }

    fn remove(&self, name: &str) {
        self.index.lock().forget(name);
        remove_file(&self.path(name));
    }

    fn shrink(&self) {
        loop {
            let oldest = {
                let index = self.index.lock();
                if index.bytes <= self.budget {
                    return;
                }
                index.oldest()
            };
            let Some(name) = oldest else { return };
            self.remove(&name);
        }
    }

    /// Takes the files of this model into the index, oldest first; removes what an interrupted write has left.
    fn look_through(&self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("part") => remove_file(&path),
                Some(EXTENSION) => match self.look_at(&path) {
                    Ok(file) => found.extend(file),
                    Err(error) => {
                        tracing::warn!(file = %path.display(), %error, "a KV file cannot be used");
                        remove_file(&path);
                    }
                },
                _ => {}
            }
        }
        found.sort();
        let mut index = self.index.lock();
        for (_, name, bytes) in found {
            index.add(&name, bytes);
        }
        drop(index);
        self.shrink();
        Ok(())
    }

    /// When a file was written, its name and size; `None` for one of another model.
    fn look_at(&self, path: &Path) -> io::Result<Option<(std::time::SystemTime, String, u64)>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let header = format::read_header(&mut BufReader::new(file))?;
        let Some(name) = header.name().filter(|_| header.is_of(&self.owner)) else {
            return Ok(None);
        };
        Ok(Some((metadata.modified()?, name.to_owned(), metadata.len())))
    }
}

fn remove_file(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "a KV file cannot be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::FileExt, time::Duration};

    use reelsight_families::{Prompt, Turn, VideoShown};
    use reelsight_ort::Element;

    use super::*;
    use crate::{
        evidence::ShownFrame,
        kv::{Pages, ledger::Ledger, pages::Segment},
    };

    const PLANES: [Plane; 2] = [
        Plane {
            outer: 2,
            inner: 3,
            element: Element::F32,
        },
        Plane {
            outer: 1,
            inner: 4,
            element: Element::F16,
        },
    ];
    const TOKEN: usize = 32;

    fn session(seed: u8, tokens: u8) -> SessionKv {
        let mut pages = Pages::default();
        let half = usize::from(tokens / 2);
        for len in [half, usize::from(tokens) - half] {
            let plane = |plane: &Plane| {
                (0..plane.token_bytes() * len)
                    .map(|at| seed ^ u8::try_from(at % 251).unwrap())
                    .collect()
            };
            pages.push(Segment::new(len, PLANES.iter().map(plane).collect()), len);
        }
        let prompt = Prompt {
            ids: (0..u32::from(tokens)).collect(),
            ..Prompt::default()
        };
        let mut ledger = Ledger::default();
        ledger.extend(&prompt, 0..usize::from(tokens) - 1);
        ledger.push(7, [9, 8, 7]);
        let snapshot = KvSnapshot {
            model: 3,
            video: Some(VideoShown {
                stamps_secs: vec![0.1, 1.0 / 3.0],
                duration_secs: 2.5,
                size: Some((640, 360)),
            }),
            frames: vec![ShownFrame {
                index: u64::MAX,
                start_secs: 0.1,
                end_secs: 0.7,
            }],
            damaged: 1,
            turns: vec![Turn {
                question: "what?\n\"".into(),
                answer: Some("\u{1f642}".into()),
            }],
            ledger,
            pages,
            token_bytes: TOKEN,
        };
        SessionKv(Arc::new(snapshot), KvTier::Host)
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("reelsight-kv-{name}-{}", std::process::id()));
            fs::remove_dir_all(&dir).ok();
            Self(dir)
        }

        fn open(&self, bytes: u64, model: &str) -> Disk {
            let config = KvDisk {
                dir: self.0.clone(),
                bytes,
            };
            Disk::open(&config, model, 3, &PLANES).unwrap()
        }

        fn files(&self) -> Vec<PathBuf> {
            fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart_for_the_same_weights_alone() {
        let folder = Folder::new("restart");
        let disk = folder.open(1 << 20, "a");
        disk.put("one", &session(1, 9));
        disk.put("two", &session(2, 6));
        drop(disk);
        let disk = folder.open(1 << 20, "a");
        let one = disk.get("one").unwrap();
        assert!(format::same(&one.0, &session(1, 9).0, &disk.shared.owner));
        assert_eq!(
            (one.tier(), one.tokens(), one.bytes()),
            (KvTier::Disk, 9, 9 * TOKEN)
        );
        disk.remove("one");
        assert!(disk.get("one").is_none() && disk.contains("two"));
        drop(disk);
        let other = folder.open(1 << 20, "b");
        assert!(!other.contains("two") && other.bytes() == 0);
        drop(other);
        assert_eq!(folder.files().len(), 1, "files of another model stay");
        assert!(folder.open(1 << 20, "a").get("two").is_some());
    }

    #[test]
    fn a_damaged_file_is_no_file() {
        let folder = Folder::new("damaged");
        let disk = folder.open(1 << 20, "a");
        disk.put("one", &session(1, 9));
        drop(disk);
        let path = folder.files().remove(0);
        let bytes = fs::read(&path).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        // One bit of the payload; found when it is read.
        file.write_all_at(&[bytes[bytes.len() - 5] ^ 1], bytes.len() as u64 - 5)
            .unwrap();
        let disk = folder.open(1 << 20, "a");
        assert!(disk.contains("one") && disk.get("one").is_none() && !disk.contains("one"));
        drop(disk);
        assert!(folder.files().is_empty());
        // The start, and a file that ends early; found at once.
        for wrong in [
            [b"RSKV\0\0\0\x02", &bytes[8..]].concat(),
            bytes[..40].to_vec(),
            Vec::new(),
        ] {
            fs::write(&path, wrong).unwrap();
            assert!(!folder.open(1 << 20, "a").contains("one"));
            assert!(folder.files().is_empty());
        }
    }

    #[test]
    fn the_budget_holds_and_the_least_recently_used_goes_first() {
        let folder = Folder::new("budget");
        let disk = folder.open(8000, "a");
        for name in ["one", "two", "three"] {
            disk.put(name, &session(1, 60));
            let begun = std::time::Instant::now();
            while !disk.contains(name) && begun.elapsed() < Duration::from_secs(5) {
                thread::sleep(Duration::from_millis(2));
            }
            if name == "two" {
                assert!(disk.get("one").is_some());
            }
        }
        drop(disk);
        let disk = folder.open(8000, "a");
        assert!(disk.contains("one") && !disk.contains("two") && disk.contains("three"));
        assert!(disk.bytes() <= 8000 && folder.files().len() == 2);
        disk.put("huge", &session(1, 255));
        drop(disk);
        assert_eq!(folder.files().len(), 2);
    }
}
