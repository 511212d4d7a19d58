//! Passes over the ONNX protobuf: a published decoder graph becomes one that serves.
//!
//! [`prepare`] reads a graph without its weights, applies [`Passes`], checks the result against the original on a small
//! prompt and keeps it under the cache folder, named by its digest. Weights are never copied: the new
//! graph refers to the files of the model folder, to the graph file itself where weights lie inside.
//!
//! * static KV: `Concat` caches become buffers of fixed capacity that are written in place;
//! * explicit positions: rotation moves out of the attention operator, to an input `position_ids`;
//! * [`Instrument`]: outputs that say what the decoder did.

mod attention;
mod cache;
mod edit;
mod instrument;
mod proto;
mod sizes;
mod static_kv;
mod verify;

use std::path::{Path, PathBuf};

use prost::{Message, bytes::Bytes};

pub use instrument::{HIDDEN_LAST, Instrument, KEPT_ROWS, OBSERVED_ROWS};

pub(crate) use cache::weights_dir;

use edit::Editor;
use proto::{Entry, Model};
use verify::Check;

/// Tensors of at least this many bytes stay in the file that has them.
const REFERRED_FROM: usize = 1024;

/// Why a pass does not apply to a graph. The graph as published still works.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not convertible because {why}")]
pub struct Unsupported {
    /// What about the graph is not understood, or differs.
    pub why: String,
}

impl Unsupported {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// A graph file that cannot be read, or a cache that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The file cannot be read or written: check the path and its permissions.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is no ONNX graph: get it again.
    #[error("{} is not an ONNX graph: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where reading it ended.
        why: String,
    },
    /// The pass does not apply: use the graph as it is.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// ONNX Runtime refused the graph as published.
    #[error(transparent)]
    Ort(#[from] crate::OrtError),
}

impl GraphError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// What to do to a graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passes {
    /// Caches of fixed capacity, written in place.
    pub static_kv: bool,
    /// Positions from an input, not from the length of the cache.
    pub explicit_positions: bool,
    /// Outputs to add.
    pub instrument: Instrument,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The graph to load; the original when nothing had to change.
    pub path: PathBuf,
    /// Layers whose attention was rewritten to write in place; 0 when it did already.
    pub rewritten_layers: usize,
    /// Layers whose positions were moved out of the attention.
    pub moved_positions: usize,
}

/// Applies `passes` to the graph at `path` and keeps the result in `cache`.
///
/// The first time, the result is run against the original on a small prompt in several pieces; later it is enough that
/// the pass makes the same bytes as then.
///
/// # Errors
/// [`GraphError::Unsupported`] when a pass does not apply or its result differs: the caller goes on with the original.
pub fn prepare(path: &Path, cache: &Path, passes: Passes) -> Result<Prepared, GraphError> {
    let bytes = Bytes::from(std::fs::read(path).map_err(GraphError::io(path))?);
    let (graph, mut prepared) = transform(path, &bytes, passes)?;
    if prepared.rewritten_layers + prepared.moved_positions == 0 && passes.instrument == Instrument::default()
    {
        return Ok(prepared);
    }
    let slot = cache::Slot::new(path, cache, &graph)?;
    prepared.path.clone_from(&slot.path);
    if slot.is_sealed() {
        return Ok(prepared);
    }
    slot.store()?;
    drop(bytes);
    if let Err(error) = Check::default().equal(path, &prepared.path, passes.static_kv) {
        slot.discard();
        return Err(error);
    }
    slot.seal()?;
    Ok(prepared)
}

/// A decoder graph as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The graph to load.
    pub path: PathBuf,
    /// What became of its cache, in words.
    pub cache: String,
}

/// The decoder graph at `path` with its cache in place where that can be had, else as it was published.
///
/// Kept under `REELSIGHT_CACHE_DIR`, else the user's cache folder.
#[must_use]
pub fn for_serving(path: &Path) -> Served {
    let passes = Passes {
        static_kv: true,
        explicit_positions: true,
        ..Passes::default()
    };
    let made = cache::folder().map_or_else(
        || Err(Unsupported::new("there is no cache folder: set REELSIGHT_CACHE_DIR").into()),
        |folder| prepare(path, &folder, passes),
    );
    let described = |words: String, path: &Path| Served {
        path: path.to_owned(),
        cache: words,
    };
    match made {
        Ok(made) => {
            let mut words = match made.rewritten_layers {
                0 => "written in place as published".to_owned(),
                count => format!("written in place after converting {count} layers"),
            };
            if made.moved_positions > 0 {
                words.push_str(", positions from the host");
            }
            described(words, &made.path)
        }
        Err(error) => {
            tracing::info!(path = %path.display(), %error, "the decoder is served as published");
            described(format!("as published: {error}"), path)
        }
    }
}

/// What [`prepare`] writes, neither kept nor compared with the original: the graph's bytes, its weights references into
/// the folder of `path`. For looking at a graph whose weights are not there.
///
/// # Errors
/// [`GraphError::Unsupported`] when a pass does not apply.
pub fn rewrite(path: &Path, passes: Passes) -> Result<(Vec<u8>, Prepared), GraphError> {
    let bytes = Bytes::from(std::fs::read(path).map_err(GraphError::io(path))?);
    transform(path, &bytes, passes)
}

fn transform(path: &Path, bytes: &Bytes, passes: Passes) -> Result<(Vec<u8>, Prepared), GraphError> {
    let mut model = Model::decode(bytes.clone()).map_err(|error| GraphError::Corrupt {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    refer(&mut model, path, bytes)?;
    let mut editor = Editor::new(model)?;
    let mut prepared = Prepared {
        path: path.to_owned(),
        rewritten_layers: 0,
        moved_positions: 0,
    };
    if passes.static_kv {
        prepared.rewritten_layers = static_kv::convert(&mut editor)?;
    }
    if passes.explicit_positions {
        prepared.moved_positions = static_kv::explicit_positions(&mut editor)?;
    }
    instrument::instrument(&mut editor, passes.instrument)?;
    Ok((editor.finish()?.encode_to_vec(), prepared))
}

/// Weights inside the file become references to their place in it.
fn refer(model: &mut Model, path: &Path, file: &Bytes) -> Result<(), GraphError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let (Some(name), Some(graph)) = (name, &mut model.graph) else {
        return Err(Unsupported::new("it holds no graph").into());
    };
    for tensor in &mut graph.initializer {
        let len = tensor.raw_data.len();
        if tensor.data_location != 0 || len < REFERRED_FROM {
            continue;
        }
        let offset = (tensor.raw_data.as_ptr() as usize).checked_sub(file.as_ptr() as usize);
        let Some(offset) = offset.filter(|offset| offset + len <= file.len()) else {
            continue;
        };
        let entry = |key: &str, value: String| Entry {
            key: key.to_owned(),
            value,
        };
        tensor.external_data = vec![
            entry("location", name.clone()),
            entry("offset", offset.to_string()),
            entry("length", len.to_string()),
        ];
        tensor.data_location = 1;
        tensor.raw_data = Bytes::new();
    }
    Ok(())
}
