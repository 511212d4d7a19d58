//! The layouts that exist in the wild, by which files are there.

use std::{collections::BTreeMap, fmt, path::Path};

/// Who wrote the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// transformers.js: `onnx/{embed_tokens,vision_encoder,decoder_model_merged}{suffix}.onnx`.
    ThreePart,
    /// onnxruntime-genai: `genai_config.json` beside the graphs.
    GenAi,
    /// A text model alone: one decoder graph that takes `input_ids`.
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

    /// The stem of its files.
    #[must_use]
    pub fn stem(self) -> &'static str {
        match self {
            Self::EmbedTokens => "embed_tokens",
            Self::VisionEncoder => "vision_encoder",
            Self::Decoder => "decoder_model_merged",
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
            .filter(|role| graphs.join(format!("{}{suffix}.onnx", role.stem())).is_file())
            .collect();
        if !roles.is_empty() {
            found.insert(rank, (*name, roles));
        }
    }
    found.into_values().collect()
}
