//! From a folder to its family.

use std::{collections::BTreeSet, sync::Arc};

use reelsight_registry::ModelFolder;
use reelsight_text::Tokenizer;
use serde_json::Value;

use crate::{
    Family, FamilyError, llava_onevision::LlavaOnevision, qwen_vl::QwenVl, smolvlm::SmolVlm,
    text_decoder::TextDecoder,
};

/// `model_type`s that [`load`] knows.
pub const SUPPORTED: [&str; 8] = [
    "smolvlm",
    "idefics3",
    "qwen2_vl",
    "qwen2_5_vl",
    "llava_onevision",
    "llama",
    "qwen2",
    "mistral",
];

/// The family of `folder`.
///
/// # Errors
/// [`FamilyError::Unsupported`] for a `model_type` without a module, [`FamilyError::Config`] when its configuration
/// does not say what the family needs.
pub fn load(folder: &ModelFolder, tokenizer: &Arc<Tokenizer>) -> Result<Box<dyn Family>, FamilyError> {
    match folder.family() {
        "smolvlm" | "idefics3" => Ok(Box::new(SmolVlm::load(folder, tokenizer)?)),
        "qwen2_vl" | "qwen2_5_vl" => Ok(Box::new(QwenVl::load(folder, tokenizer)?)),
        "llava_onevision" => Ok(Box::new(LlavaOnevision::load(folder, tokenizer)?)),
        "llama" | "qwen2" | "mistral" => Ok(Box::new(TextDecoder::load(folder, tokenizer)?)),
        other => Err(FamilyError::Unsupported {
            family: other.to_owned(),
        }),
    }
}

/// The tokenizer of `folder`.
///
/// # Errors
/// [`FamilyError::Text`] when it is damaged.
pub fn tokenizer(folder: &ModelFolder) -> Result<Arc<Tokenizer>, FamilyError> {
    Ok(Arc::new(Tokenizer::from_file(
        &folder.root().join("tokenizer.json"),
    )?))
}

/// Ids that end an answer: the union of `generation_config.json`, the configuration and the tokenizer's EOS.
///
/// # Errors
/// [`FamilyError::Config`] when none of them names one: an answer would never end.
pub fn end_tokens(folder: &ModelFolder, tokenizer: &Tokenizer) -> Result<BTreeSet<u32>, FamilyError> {
    let mut ids = BTreeSet::new();
    let generation = folder.json("generation_config.json")?.unwrap_or_default();
    let config = folder.config();
    for value in [
        &generation["eos_token_id"],
        &config["eos_token_id"],
        &config["text_config"]["eos_token_id"],
    ] {
        let values = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        ids.extend(
            values
                .iter()
                .filter_map(Value::as_u64)
                .filter_map(|id| u32::try_from(id).ok()),
        );
    }
    let named = folder.json("tokenizer_config.json")?.unwrap_or_default();
    ids.extend(special_token(&named, "eos_token").and_then(|token| tokenizer.id(&token)));
    if ids.is_empty() {
        return Err(FamilyError::config(
            "generation_config.json",
            "no file names an eos_token_id",
        ));
    }
    Ok(ids)
}

/// A token of `tokenizer_config.json`: a text, or an object with its `content`.
pub(crate) fn special_token(config: &Value, name: &str) -> Option<String> {
    let token = &config[name];
    token
        .as_str()
        .or_else(|| token["content"].as_str())
        .map(ToOwned::to_owned)
}
