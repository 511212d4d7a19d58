//! What goes wrong with ONNX Runtime, by what the caller should do.

use std::path::PathBuf;

/// ONNX Runtime is missing, refused a graph, or failed to run it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OrtError {
    /// The library is not there or is too old: install it.
    #[error(
        "ONNX Runtime 1.23 or later was not found ({why}): run `make setup`, or point ORT_DYLIB_PATH to libonnxruntime.so"
    )]
    Library {
        /// Where it was looked for and what was found.
        why: String,
    },
    /// The graph cannot be loaded: get another file.
    #[error("load {}: {why}", path.display())]
    Load {
        /// The graph.
        path: PathBuf,
        /// What ONNX Runtime says.
        why: String,
    },
    /// An execution provider was asked for that cannot be used: install it, or choose another.
    #[error(
        "the {name} provider cannot be used ({why}): put the files of the onnxruntime-gpu wheel of the same version, \
         CUDA 13 and cuDNN 9 where libonnxruntime.so finds them, or choose `--provider cpu`"
    )]
    Provider {
        /// `CUDA`...
        name: &'static str,
        /// What ONNX Runtime says.
        why: String,
    },
    /// An allocation failed: ask for less, or wait.
    #[error("out of memory in {session}: {why}")]
    OutOfMemory {
        /// Name of the session.
        session: String,
        /// What ONNX Runtime says.
        why: String,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
    /// ONNX Runtime failed, or was fed what the graph does not take: a bug here or a broken graph.
    #[error("run {session}: {why}")]
    Run {
        /// Name of the session.
        session: String,
        /// What ONNX Runtime says.
        why: String,
    },
}

impl OrtError {
    pub(crate) fn run(session: &str, error: &ort::Error) -> Self {
        Self::said(session, error.message().to_owned())
    }

    /// What a message of ONNX Runtime means.
    pub(crate) fn said(session: &str, why: String) -> Self {
        let (session, lower) = (session.to_owned(), why.to_ascii_lowercase());
        if lower.contains("terminate flag") {
            return Self::Stopped;
        }
        if ["failed to allocate", "bad_alloc", "out of memory"]
            .iter()
            .any(|words| lower.contains(words))
        {
            Self::OutOfMemory { session, why }
        } else {
            Self::Run { session, why }
        }
    }
}
