//! `shots.json`: what a graph that finds shots takes.

use std::path::{Path, PathBuf};

use reelsight_ort::OrtError;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// File name of the manifest in a model folder.
pub const MANIFEST_FILE: &str = "shots.json";

/// A shot detector's folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShotsError {
    /// There is no such model: install it.
    #[error("no shot detector in {}: run `make shots`", folder.display())]
    NotInstalled {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The folder is damaged: install it again.
    #[error("{} is damaged ({why}): run `make shots` again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// ONNX Runtime is missing or refuses the graph.
    #[error(transparent)]
    Ort(#[from] OrtError),
}

/// The facts of a graph.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    graph: String,
    sha256: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Pictures in one run.
    pub(crate) window: usize,
    /// Of them, how many at each end only lend context.
    pub(crate) margin: usize,
}

impl Manifest {
    pub(crate) fn read(folder: &Path) -> Result<Self, ShotsError> {
        let path = folder.join(MANIFEST_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let folder = folder.to_owned();
                return Err(ShotsError::NotInstalled { folder });
            }
            Err(error) => return Err(corrupt(path, error.to_string())),
        };
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|error| corrupt(path.clone(), error.to_string()))?;
        let sides = [manifest.width, manifest.height];
        let fits = manifest.window > 2 * manifest.margin && manifest.window <= 4096;
        if !fits || sides.iter().any(|side| !(1..=1024).contains(side)) {
            return Err(corrupt(path, "its sizes make no sense".to_owned()));
        }
        Ok(manifest)
    }

    /// The graph's file, after its digest was checked.
    pub(crate) fn graph(&self, folder: &Path) -> Result<PathBuf, ShotsError> {
        let path = folder.join(&self.graph);
        let bytes = std::fs::read(&path).map_err(|error| corrupt(path.clone(), error.to_string()))?;
        let found = hex::encode(Sha256::digest(&bytes));
        if found == self.sha256 {
            Ok(path)
        } else {
            Err(corrupt(
                path,
                format!("its sha256 is {found}, not {}", self.sha256),
            ))
        }
    }
}

fn corrupt(path: PathBuf, why: String) -> ShotsError {
    ShotsError::Corrupt { path, why }
}
