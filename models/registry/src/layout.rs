//! The layouts that exist in the wild, by which files are there.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use crate::RegistryError;

/// Who wrote the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// transformers.js: `onnx/{embed_tokens,vision_encoder,decoder_model_merged}{suffix}.onnx`.
    ThreePart,
    /// onnxruntime-genai: `genai_config.json` beside the graphs.
    GenAi,
    /// transformers.js, a text model: `embed_tokens` and `decoder_model_merged`, or `model` that takes `input_ids`.
    TextOnly,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ThreePart => "three-part",
            Self::GenAi => "onnxruntime-genai",
            Self::TextOnly => "text-only",
        })
    }
}

/// What a graph of the three-part layout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `input_ids` to embeddings.
    EmbedTokens,
    /// Pixels to embeddings.
    VisionEncoder,
    /// Embeddings and cache to logits.
    Decoder,
}

impl Role {
    /// All roles of the three-part layout.
    pub const ALL: [Self; 3] = [Self::EmbedTokens, Self::VisionEncoder, Self::Decoder];

    /// The usual stem of its files.
    #[must_use]
    pub fn stem(self) -> &'static str {
        self.stems()[0]
    }

    /// All stems of its files; text decoders have another.
    fn stems(self) -> &'static [&'static str] {
        match self {
            Self::EmbedTokens => &["embed_tokens"],
            Self::VisionEncoder => &["vision_encoder"],
            Self::Decoder => &["decoder_model_merged", "model"],
        }
    }
}

/// Names of precisions and the suffixes that transformers.js gives their files, in the order in which a CPU likes
/// them best.
const SUFFIXES: [(&str, &str); 12] = [
    ("q4", "_q4"),
    ("q8", "_quantized"),
    ("fp32", ""),
    ("q4f16", "_q4f16"),
    ("fp16", "_fp16"),
    ("int8", "_int8"),
    ("uint8", "_uint8"),
    ("bnb4", "_bnb4"),
    ("q2", "_q2"),
    ("q2f16", "_q2f16"),
    ("q1", "_q1"),
    ("q1f16", "_q1f16"),
];

/// Names of precisions and their suffixes, best for a CPU first.
pub(crate) fn suffixes() -> impl Iterator<Item = (&'static str, &'static str)> {
    SUFFIXES.into_iter()
}

/// The names that a role's file may have, without `.onnx`.
pub(crate) fn stems_with(role: Role, suffix: &str) -> impl Iterator<Item = String> {
    role.stems().iter().map(move |stem| format!("{stem}{suffix}"))
}

/// The suffix of a precision's files; `None` for a name that does not exist.
pub(crate) fn suffix(precision: &str) -> Option<&'static str> {
    SUFFIXES
        .iter()
        .find(|(name, _)| *name == precision)
        .map(|(_, suffix)| *suffix)
}

/// Precisions that are there, best for a CPU first, with the roles that have them.
pub(crate) fn precisions(graphs: &Path) -> Vec<(&'static str, Vec<Role>)> {
    let mut found = BTreeMap::new();
    for (rank, (name, suffix)) in SUFFIXES.iter().enumerate() {
        let roles: Vec<_> = Role::ALL
            .into_iter()
            .filter(|&role| graph_file(graphs, role, suffix).is_file())
            .collect();
        if !roles.is_empty() {
            found.insert(rank, (*name, roles));
        }
    }
    found.into_values().collect()
}

/// The file of a role: the first of its stems that is there, else the usual one.
pub(crate) fn graph_file(graphs: &Path, role: Role, suffix: &str) -> PathBuf {
    let file = |stem: &str| graphs.join(format!("{stem}{suffix}.onnx"));
    let found = role
        .stems()
        .iter()
        .map(|stem| file(stem))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| file(role.stem()))
}

/// Graphs lie in `onnx/`, or beside the configuration.
pub(crate) fn graphs_dir(root: &Path) -> PathBuf {
    let inner = root.join("onnx");
    if inner.is_dir() { inner } else { root.to_owned() }
}

/// The layout of `root`, by which files are there.
pub(crate) fn detect(root: &Path) -> Result<Layout, RegistryError> {
    if root.join(crate::genai::FILE).is_file() {
        return Ok(Layout::GenAi);
    }
    let found = precisions(&graphs_dir(root));
    let has = |role| found.iter().any(|(_, roles)| roles.contains(&role));
    if has(Role::VisionEncoder) {
        return Ok(Layout::ThreePart);
    }
    if has(Role::Decoder) || has(Role::EmbedTokens) {
        return Ok(Layout::TextOnly);
    }
    let why =
        if root.join("model.safetensors").is_file() || root.join("model.safetensors.index.json").is_file() {
            "it holds PyTorch weights only: export it to ONNX first"
        } else {
            "it holds no onnx/decoder_model_merged.onnx or onnx/model.onnx"
        };
    Err(RegistryError::Unsupported {
        path: root.to_owned(),
        why: why.into(),
    })
}
