//! Where prepared graphs are kept: `graphs/<digest>.onnx` with an `.origin` beside it.
//!
//! The digest is that of the new graph and of the folder of its weights. The origin names that folder, because ONNX
//! Runtime looks for weights beside the graph unless it is told otherwise, and says that the graph was compared with the
//! original.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::GraphError;

const ORIGIN: &str = "origin";
/// Second line of the origin of a graph that was compared.
const EQUAL: &str = "equal";

/// The place of one prepared graph.
pub(crate) struct Slot<'g> {
    pub(crate) path: PathBuf,
    weights: PathBuf,
    graph: &'g [u8],
}

impl<'g> Slot<'g> {
    /// The place under `cache` of `graph`, which was made from the one at `original`.
    pub(crate) fn new(original: &Path, cache: &Path, graph: &'g [u8]) -> Result<Self, GraphError> {
        let whole = original.canonicalize().map_err(GraphError::io(original))?;
        let weights = whole.parent().unwrap_or(Path::new("/")).to_owned();
        let mut hash = Sha256::new();
        hash.update(format!("{}\n", whole.display()));
        hash.update(graph);
        let name = hex::encode(hash.finalize());
        Ok(Self {
            path: cache.join("graphs").join(format!("{}.onnx", &name[..32])),
            weights,
            graph,
        })
    }

    /// Whether the graph lies here whole, and was found to be right.
    pub(crate) fn is_sealed(&self) -> bool {
        let origin = fs::read_to_string(self.origin()).unwrap_or_default();
        origin.lines().nth(1) == Some(EQUAL) && fs::read(&self.path).is_ok_and(|bytes| bytes == self.graph)
    }

    /// Writes the graph, and where its weights are. It counts once [`Slot::seal`] was called.
    pub(crate) fn store(&self) -> Result<(), GraphError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(GraphError::io(folder))?;
        write(&self.path, self.graph)?;
        write(&self.origin(), format!("{}\n", self.weights.display()).as_bytes())
    }

    /// Says that the graph was found to be right.
    pub(crate) fn seal(&self) -> Result<(), GraphError> {
        let text = format!("{}\n{EQUAL}\n", self.weights.display());
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

/// Where prepared graphs are kept: `REELSIGHT_CACHE_DIR`, else the user's cache folder; `None` when there is neither.
pub(crate) fn folder() -> Option<PathBuf> {
    let named = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    named("REELSIGHT_CACHE_DIR")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&named("XDG_CACHE_HOME")?).join("reelsight")))
        .or_else(|| Some(Path::new(&named("HOME")?).join(".cache/reelsight")))
}

/// Whole or not at all: another process may read the same cache.
fn write(path: &Path, bytes: &[u8]) -> Result<(), GraphError> {
    let partial = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&partial, bytes).map_err(GraphError::io(&partial))?;
    fs::rename(&partial, path).map_err(GraphError::io(path))
}
