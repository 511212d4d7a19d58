//! `genai_config.json`: which files are which graph in the layout of onnxruntime-genai.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{RegistryError, Role, choose::Graphs, files::read_json};

pub(crate) const FILE: &str = "genai_config.json";
/// The names that its builder gives by default, and the only ones that are known here.
const NAMES: [(&str, &str, &str); 4] = [
    ("inputs", "past_key_names", "past_key_values.%d.key"),
    ("inputs", "past_value_names", "past_key_values.%d.value"),
    ("outputs", "present_key_names", "present.%d.key"),
    ("outputs", "present_value_names", "present.%d.value"),
];

/// What is read of it.
#[derive(Debug)]
pub(crate) struct GenAi {
    model: Value,
    files: BTreeMap<Role, PathBuf>,
}

impl GenAi {
    pub(crate) fn read(root: &Path) -> Result<Self, RegistryError> {
        let path = root.join(FILE);
        let model = read_json(&path)?["model"].take();
        let decoder = &model["decoder"];
        if decoder["pipeline"].is_array() {
            return Err(RegistryError::Unsupported {
                path: root.to_owned(),
                why: "its decoder is split into a pipeline of graphs: export it as one".into(),
            });
        }
        for (side, name, default) in NAMES {
            if decoder[side][name].as_str().is_some_and(|given| given != default) {
                let why = format!("{name} is {}, only {default} is known", decoder[side][name]);
                return Err(RegistryError::Unsupported {
                    path: root.to_owned(),
                    why,
                });
            }
        }
        let mut files = BTreeMap::new();
        for (part, role) in [
            ("decoder", Role::Decoder),
            ("vision", Role::VisionEncoder),
            ("embedding", Role::EmbedTokens),
        ] {
            let Some(name) = model[part]["filename"].as_str() else {
                continue;
            };
            let inside = Path::new(name)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !inside {
                return Err(RegistryError::corrupt(path, format!("{name:?} lies outside")));
            }
            files.insert(role, PathBuf::from(name));
        }
        if !files.contains_key(&Role::Decoder) {
            return Err(RegistryError::corrupt(path, "it names no decoder"));
        }
        Ok(Self { model, files })
    }

    /// The graphs' files.
    pub(crate) fn graphs(&self, root: &Path) -> BTreeMap<Role, PathBuf> {
        self.files
            .iter()
            .map(|(&role, name)| (role, root.join(name)))
            .collect()
    }

    /// What stands in for `config.json`; that of a model with eyes says more than is known here.
    pub(crate) fn config(&self) -> Result<Value, RegistryError> {
        if self.files.contains_key(&Role::VisionEncoder) {
            return Err(RegistryError::MissingFiles {
                path: PathBuf::from("the folder"),
                files: vec!["config.json (of the model that was exported)".into()],
            });
        }
        let (model, decoder) = (&self.model, &self.model["decoder"]);
        Ok(json!({
            "model_type": model["type"],
            "vocab_size": model["vocab_size"],
            "max_position_embeddings": model["context_length"],
            "eos_token_id": model["eos_token_id"],
            "hidden_size": decoder["hidden_size"],
            "num_hidden_layers": decoder["num_hidden_layers"],
            "num_attention_heads": decoder["num_attention_heads"],
            "num_key_value_heads": decoder["num_key_value_heads"],
        }))
    }

    /// What the decoder's weights are, as its operators and its cache tell.
    pub(crate) fn precision(graphs: &Graphs) -> &'static str {
        let decoder = &graphs[&Role::Decoder].summary;
        let cache = decoder
            .inputs
            .iter()
            .find(|port| port.name.starts_with("past_key_values."));
        match cache.map(|port| port.elem_type) {
            _ if decoder.ops.contains("MatMulNBits") => "nbits",
            Some(10) => "fp16",
            _ => "fp32",
        }
    }
}
