//! Why a model folder cannot be used, by what the user should do about it.

use std::path::PathBuf;

/// A folder is not a usable model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is nothing at the path: check the name.
    #[error("no model at {}: give a folder, or the name of one that `reelsight models list` shows", path.display())]
    NotFound {
        /// What was looked for.
        path: PathBuf,
    },
    /// Files that the graphs or the layout need are absent or too short: download them.
    #[error("{} lacks {}: download the missing files into the same folder", path.display(), files.join(", "))]
    MissingFiles {
        /// The model folder.
        path: PathBuf,
        /// Each missing file, relative to the folder, with a word on what is wrong with it.
        files: Vec<String>,
    },
    /// The folder has no layout that is known here.
    #[error("{} is not a model folder that can be served: {why}", path.display())]
    Unsupported {
        /// The model folder.
        path: PathBuf,
        /// What was found instead.
        why: String,
    },
    /// A model of that name is there already: remove it, or take another name.
    #[error("{} is there already: remove it, or take another name", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Files of different models lie in one folder: download all of them from one place.
    #[error("{} mixes files of different models: {why}; download all of them from one place", path.display())]
    Mixed {
        /// The model folder.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A file is damaged: download it again.
    #[error("{} is damaged: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file system refused.
    #[error("read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl RegistryError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn corrupt(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.into(),
            why: why.into(),
        }
    }
}
