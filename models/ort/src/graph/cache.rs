//! Where prepared graphs are kept: `graphs/<digest>.onnx` with an `.origin` beside it.
//!
//! The origin says which folder the weights lie in and what the graph's bytes hash to, so that a damaged file is made
//! again and ONNX Runtime finds weights that are in another folder than the graph.

use std::{
    fs,
    path::{Path, PathBuf},
};

use prost::bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{GraphError, Passes, Prepared};

/// Part of every digest: a pass that writes other graphs than before has to count this up.
const VERSION: u32 = 1;
const ORIGIN: &str = "origin";

/// The place of one prepared graph.
pub(crate) struct Slot {
    path: PathBuf,
    weights: PathBuf,
}

impl Slot {
    /// The place of what `passes` make of the graph at `path` with these `bytes`.
    pub(crate) fn new(path: &Path, cache: &Path, bytes: &Bytes, passes: Passes) -> Result<Self, GraphError> {
        let whole = path.canonicalize().map_err(GraphError::io(path))?;
        let weights = whole.parent().unwrap_or(Path::new("/")).to_owned();
        let mut hash = Sha256::new();
        hash.update(format!("{VERSION} {passes:?} {}\n", whole.display()));
        hash.update(bytes);
        let name = hex::encode(hash.finalize());
        Ok(Self {
            path: cache.join("graphs").join(format!("{}.onnx", &name[..32])),
            weights,
        })
    }

    /// What was sealed here, if it is still whole.
    pub(crate) fn load(&self) -> Option<Prepared> {
        let origin = fs::read_to_string(self.origin()).ok()?;
        let bytes = fs::read(&self.path).ok()?;
        let lines: Vec<_> = origin.lines().collect();
        let [_, digest, rewritten, moved] = lines.as_slice() else {
            return None;
        };
        let (Ok(rewritten_layers), Ok(moved_positions)) = (rewritten.parse(), moved.parse()) else {
            return None;
        };
        let is_whole = *digest == hex::encode(Sha256::digest(&bytes));
        is_whole.then(|| Prepared {
            path: self.path.clone(),
            rewritten_layers,
            moved_positions,
        })
    }

    /// Writes the graph, and where its weights are. It counts once [`Slot::seal`] was called.
    pub(crate) fn store(&self, graph: &[u8]) -> Result<PathBuf, GraphError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(GraphError::io(folder))?;
        write(&self.path, graph)?;
        write(&self.origin(), format!("{}\n", self.weights.display()).as_bytes())?;
        Ok(self.path.clone())
    }

    /// Says that the graph was found to be right.
    pub(crate) fn seal(&self, prepared: &Prepared) -> Result<(), GraphError> {
        let bytes = fs::read(&self.path).map_err(GraphError::io(&self.path))?;
        let text = format!(
            "{}\n{}\n{}\n{}\n",
            self.weights.display(),
            hex::encode(Sha256::digest(&bytes)),
            prepared.rewritten_layers,
            prepared.moved_positions
        );
        write(&self.origin(), text.as_bytes())
    }

    /// Takes back what [`Slot::store`] wrote.
    pub(crate) fn discard(&self) {
        for path in [&self.path, &self.origin()] {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "could not remove a graph that differs");
            }
        }
    }

    fn origin(&self) -> PathBuf {
        self.path.with_extension(ORIGIN)
    }
}

/// The folder of a prepared graph's weights; `None` for a graph that has them beside it.
pub(crate) fn weights_dir(graph: &Path) -> Option<String> {
    let origin = fs::read_to_string(graph.with_extension(ORIGIN)).ok()?;
    origin.lines().next().map(str::to_owned)
}

/// Whole or not at all: another process may read the same cache.
fn write(path: &Path, bytes: &[u8]) -> Result<(), GraphError> {
    let partial = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&partial, bytes).map_err(GraphError::io(&partial))?;
    fs::rename(&partial, path).map_err(GraphError::io(path))
}
