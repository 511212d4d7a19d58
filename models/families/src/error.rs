//! What goes wrong between a model's files and a prompt.

use reelsight_preprocess::PreprocessError;
use reelsight_registry::RegistryError;
use reelsight_text::TextError;

/// A folder is of no known family, or a prompt cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FamilyError {
    /// There is no module for this `model_type`: use another model.
    #[error("model family {family:?} is not supported; supported: {}", crate::SUPPORTED.join(", "))]
    Unsupported {
        /// The `model_type` of the configuration.
        family: String,
    },
    /// A configuration file does not say what the family needs.
    #[error("{file}: {why}")]
    Config {
        /// Which file.
        file: &'static str,
        /// What is missing or wrong.
        why: String,
    },
    /// Text from a user holds a control token of the model.
    #[error("the text contains the model's control token {token}: remove it")]
    ControlToken {
        /// Which one.
        token: String,
    },
    /// The model, or this export of it, cannot take that.
    #[error("{what} cannot be shown to this model: {why}")]
    Refused {
        /// What was shown.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// A file of the folder cannot be read.
    #[error(transparent)]
    Folder(#[from] RegistryError),
    /// Tokenizer or template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A frame is not a picture.
    #[error(transparent)]
    Frame(#[from] PreprocessError),
}

impl FamilyError {
    pub(crate) fn config(file: &'static str, why: impl Into<String>) -> Self {
        Self::Config {
            file,
            why: why.into(),
        }
    }
}
