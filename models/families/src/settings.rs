//! Reading a folder's configuration files.

use reelsight_preprocess::{Backend, Filter, Normalise};
use reelsight_registry::ModelFolder;
use reelsight_text::{ChatTemplate, Tokenizer, chat_template_source};
use serde_json::Value;

use crate::{FamilyError, load::special_token};

/// Sizes that every decoder has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextSizes {
    pub(crate) hidden: usize,
    pub(crate) context: usize,
}

impl TextSizes {
    /// From `text_config`, or from the top of older configurations; refuses a tokenizer with more tokens than the
    /// model embeds.
    pub(crate) fn read(folder: &ModelFolder, tokenizer: &Tokenizer) -> Result<Self, FamilyError> {
        let config = folder.config();
        let text = Some(&config["text_config"]).filter(|text| text["hidden_size"].is_u64());
        let text = text.unwrap_or(config);
        let vocabulary = size(text, "vocab_size", "config.json")?;
        if tokenizer.vocab_size() > vocabulary {
            let why = format!(
                "{} tokens, but the model embeds {vocabulary}: tokenizer and graphs are of different models",
                tokenizer.vocab_size()
            );
            return Err(FamilyError::config("tokenizer.json", why));
        }
        Ok(Self {
            hidden: size(text, "hidden_size", "config.json")?,
            context: size(text, "max_position_embeddings", "config.json")?,
        })
    }
}

/// A number above 0.
pub(crate) fn size(value: &Value, name: &str, file: &'static str) -> Result<usize, FamilyError> {
    value[name]
        .as_u64()
        .and_then(|size| usize::try_from(size).ok())
        .filter(|&size| size > 0)
        .ok_or_else(|| FamilyError::config(file, format!("it has no {name}")))
}

/// [`size`] that fits a picture.
pub(crate) fn side(value: &Value, name: &str, file: &'static str) -> Result<u32, FamilyError> {
    let size = size(value, name, file)?;
    u32::try_from(size)
        .ok()
        .filter(|&side| side <= 1 << 16)
        .ok_or_else(|| FamilyError::config(file, format!("its {name} is too large")))
}

/// Settings of the image processor: inside `processor_config.json` in new folders, else a file of their own.
pub(crate) fn image_processor(folder: &ModelFolder) -> Result<Value, FamilyError> {
    processor(folder, "image_processor", &["preprocessor_config.json"])
}

/// Settings of the video processor; older folders have one file for both kinds.
pub(crate) fn video_processor(folder: &ModelFolder) -> Result<Value, FamilyError> {
    let files = ["video_preprocessor_config.json", "preprocessor_config.json"];
    processor(folder, "video_processor", &files)
}

fn processor(folder: &ModelFolder, nested: &str, files: &[&str]) -> Result<Value, FamilyError> {
    let mut whole = folder.json("processor_config.json")?.unwrap_or_default();
    if whole[nested].is_object() {
        return Ok(whole[nested].take());
    }
    for file in files {
        if let Some(settings) = folder.json(file)? {
            return Ok(settings);
        }
    }
    Ok(Value::Null)
}

/// The model's own chat template; `None` when it has none.
pub(crate) fn template(folder: &ModelFolder) -> Result<Option<ChatTemplate>, FamilyError> {
    let named = folder.json("tokenizer_config.json")?;
    let configs = [
        folder.json("chat_template.json")?,
        folder.json("processor_config.json")?,
        named.clone(),
    ];
    let Some(source) = chat_template_source(folder.text("chat_template.jinja")?, &configs) else {
        return Ok(None);
    };
    let named = named.unwrap_or_default();
    let specials = ["bos_token", "eos_token", "pad_token", "unk_token"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), special_token(&named, name)?)));
    Ok(Some(ChatTemplate::new(source, specials.collect())?))
}

/// Id of `token`, which the model cannot do without.
pub(crate) fn token_id(tokenizer: &Tokenizer, token: &str) -> Result<u32, FamilyError> {
    tokenizer
        .id(token)
        .ok_or_else(|| FamilyError::config("tokenizer.json", format!("it has no token {token}")))
}

/// `resample`, by Pillow's number.
pub(crate) fn filter(settings: &Value, default: Filter) -> Result<Filter, FamilyError> {
    match settings["resample"].as_u64() {
        None => Ok(default),
        Some(1) => Ok(Filter::Lanczos),
        Some(2) => Ok(Filter::Bilinear),
        Some(3) => Ok(Filter::Bicubic),
        Some(4) => Ok(Filter::Box),
        Some(5) => Ok(Filter::Hamming),
        Some(other) => Err(FamilyError::config(
            "preprocessor_config.json",
            format!("resample {other} is not supported"),
        )),
    }
}

/// `rescale_factor`, `image_mean` and `image_std`.
pub(crate) fn normalise(settings: &Value, default: Normalise) -> Normalise {
    let triple = |name: &str, default: [f64; 3]| {
        let values = settings[name].as_array();
        let values: Option<Vec<f64>> = values.map(|all| all.iter().filter_map(Value::as_f64).collect());
        values
            .and_then(|values| values.try_into().ok())
            .unwrap_or(default)
    };
    Normalise {
        rescale_factor: settings["rescale_factor"]
            .as_f64()
            .filter(|&factor| factor > 0.0)
            .unwrap_or(default.rescale_factor),
        mean: triple("image_mean", default.mean),
        std: triple("image_std", default.std),
    }
}

/// Which reference's bytes the manifest asks for.
pub(crate) fn backend(folder: &ModelFolder) -> Backend {
    match folder.manifest().image_backend {
        reelsight_registry::ImageBackend::Torchvision => Backend::Torchvision,
        reelsight_registry::ImageBackend::Pillow => Backend::Pillow,
    }
}
