//! `tokenizer.json` of a model.

use std::path::Path;

use crate::TextError;

/// Start and end of a token in the text, in bytes.
pub type Offsets = (usize, usize);

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    specials: Vec<String>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// [`TextError::Corrupt`] when it is not a tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, TextError> {
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(|error| TextError::Corrupt {
            file: path.display().to_string(),
            why: error.to_string(),
        })?;
        // Limits that were saved with a training run must not cut a prompt in silence.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| TextError::Corrupt {
            file: path.display().to_string(),
            why: error.to_string(),
        })?;
        let mut specials: Vec<_> = inner
            .get_added_tokens_decoder()
            .into_values()
            .filter(|token| token.special)
            .map(|token| token.content)
            .collect();
        specials.sort();
        Ok(Self { inner, specials })
    }

    /// The library's own tokenizer.
    pub(crate) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// Ids of `text`. `add_special` adds what the post-processor adds (a BOS token, for example).
    ///
    /// # Errors
    /// [`TextError::Tokenize`].
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        let encoding = self.inner.encode_fast(text, add_special);
        Ok(encoding
            .map_err(|error| TextError::Tokenize {
                why: error.to_string(),
            })?
            .get_ids()
            .to_vec())
    }

    /// Ids of `text` as [`Tokenizer::encode`] gives them, each with the byte range of `text` that it stands for.
    ///
    /// # Errors
    /// [`TextError::Tokenize`].
    pub fn encode_with_offsets(
        &self,
        text: &str,
        add_special: bool,
    ) -> Result<(Vec<u32>, Vec<Offsets>), TextError> {
        let encoding = self.inner.encode(text, add_special);
        let encoding = encoding.map_err(|error| TextError::Tokenize {
            why: error.to_string(),
        })?;
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().to_vec()))
    }

    /// Text of `ids`; bytes that are not UTF-8 come out as U+FFFD.
    ///
    /// # Errors
    /// [`TextError::Tokenize`].
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|error| TextError::Tokenize {
                why: error.to_string(),
            })
    }

    /// Id of a token; `None` when the vocabulary has no such token.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Tokens in the vocabulary, added ones included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The first control token that occurs literally in `text`. Text from users must hold none: it would speak with
    /// the authority of the prompt's frame.
    #[must_use]
    pub fn control_token_in(&self, text: &str) -> Option<&str> {
        self.specials
            .iter()
            .map(String::as_str)
            .find(|special| text.contains(special))
    }
}
