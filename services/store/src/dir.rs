//! The data folder: one place for every path in it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::StoreError;

/// `media/` (finished files), `uploads/` (unfinished ones), `index/` (packet indices, which can be made
/// again), `tmp/` (emptied at every start), `reelsight.db`,
/// `page.key`. Locked while any clone lives, so that two servers never share it.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
    _lock: Arc<File>,
}

impl DataDir {
    /// Makes what is missing, takes the lock and empties `tmp/`.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another server has it, [`StoreError::Folder`] when it cannot be written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        make_folder(root)?;
        let root = root.canonicalize().map_err(|source| StoreError::Folder {
            path: root.into(),
            source,
        })?;
        let path = root.join("lock");
        let lock = private_file(&path, |o| o.create(true).write(true).truncate(false))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(root)),
            Err(TryLockError::Error(source)) => return Err(StoreError::Folder { path, source }),
        }
        let dir = Self {
            root,
            _lock: Arc::new(lock),
        };
        let tmp = dir.tmp();
        match fs::remove_dir_all(&tmp) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::Folder { path: tmp, source });
            }
            _ => {}
        }
        for folder in [dir.media(), dir.uploads(), tmp] {
            make_folder(&folder)?;
        }
        Ok(dir)
    }

    /// Finished media files, named by id.
    #[must_use]
    pub fn media(&self) -> PathBuf {
        self.root.join("media")
    }

    /// Unfinished uploads.
    #[must_use]
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// Packet indices.
    #[must_use]
    pub fn indices(&self) -> PathBuf {
        self.root.join("index")
    }

    /// What must not survive a restart.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join("reelsight.db")
    }

    /// The key that signs page tokens; made on first use, readable by the owner only.
    ///
    /// # Errors
    /// [`StoreError::Folder`] when it can be neither read nor written.
    pub fn page_key(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.root.join("page.key");
        let mut key = Vec::new();
        let mut file = private_file(&path, |o| o.create(true).read(true).append(true))?;
        file.read_to_end(&mut key)
            .and_then(|_| {
                if key.len() < 32 {
                    key = [
                        uuid::Uuid::new_v4().into_bytes(),
                        uuid::Uuid::new_v4().into_bytes(),
                    ]
                    .concat();
                    file.set_len(0)?;
                    file.write_all(&key)?;
                }
                Ok(())
            })
            .map_err(|source| StoreError::Folder { path, source })?;
        Ok(key)
    }
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(path).map_err(|source| StoreError::Folder {
        path: path.into(),
        source,
    })
}

fn private_file(
    path: &Path,
    how: impl FnOnce(&mut OpenOptions) -> &mut OpenOptions,
) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    how(options.mode(0o600))
        .open(path)
        .map_err(|source| StoreError::Folder {
            path: path.into(),
            source,
        })
}
