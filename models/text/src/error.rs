//! What goes wrong with a model's text files.

/// A tokenizer or a template cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The file is damaged: download it again.
    #[error("{file} is damaged: {why}")]
    Corrupt {
        /// Which file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// The model's own chat template refused the conversation, or ran too long.
    #[error("the model's chat template refuses the conversation: {why}")]
    Template {
        /// What the template or its interpreter says.
        why: String,
    },
    /// The tokenizer cannot encode or decode this.
    #[error("tokenize: {why}")]
    Tokenize {
        /// What the tokenizer says.
        why: String,
    },
}
