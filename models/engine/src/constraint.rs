//! Answers that must be JSON of a given schema: before each token, which tokens keep the answer valid.
//!
//! The grammar comes from `llguidance`, over the bytes of the model's own vocabulary, so it holds for tokens that are
//! parts of characters, too. Between tokens of JSON at most one space or line break is allowed: a model that likes white
//! space cannot fill its answer with it. What a schema says that the grammar cannot enforce is refused
//! ([`EngineError::SchemaInvalid`]), never ignored.

mod compile;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub(crate) use compile::Grammars;
use llguidance::Matcher;

use crate::{EngineError, sampling::TokenMask};

/// A JSON schema that is ready for one model's vocabulary; made by [`crate::Engine::schema`]. Cloning is cheap.
#[derive(Clone)]
pub struct Schema(Arc<Compiled>);

struct Compiled {
    source: String,
    /// Before the first token; each answer takes a copy.
    start: Matcher,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("bytes", &self.0.source.len())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

/// How far one answer has got in its grammar.
pub(crate) struct Constraint(Matcher);

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint")
            .field("complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

impl Constraint {
    /// Before the first token.
    pub(crate) fn new(schema: &Schema) -> Self {
        // Lexer states are made as they are needed; sharing them would share a lock between answers.
        Self(schema.0.start.deep_clone())
    }

    /// Tokens that may come next: text, or an end of turn where the answer can end.
    pub(crate) fn mask(&mut self) -> Result<TokenMask, EngineError> {
        let mask = self.0.compute_mask_or_eos().map_err(|error| too_hard(&error))?;
        Ok(TokenMask(mask.as_slice().to_vec()))
    }

    /// Takes the next token.
    pub(crate) fn accept(&mut self, id: u32) -> Result<(), EngineError> {
        self.0.consume_token(id).map_err(|error| too_hard(&error))
    }

    /// How many of `ids` may come next, one after the other.
    pub(crate) fn valid_prefix(&mut self, ids: &[u32]) -> Result<usize, EngineError> {
        self.0.validate_tokens(ids).map_err(|error| too_hard(&error))
    }

    /// Whether nothing but the end of the turn can follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.is_stopped()
    }

    /// Whether the answer is valid as it stands.
    pub(crate) fn is_satisfied(&mut self) -> Result<bool, EngineError> {
        if self.is_complete() {
            return Ok(true);
        }
        self.0.is_accepting().map_err(|error| too_hard(&error))
    }
}

/// The grammar ran into its limits of work per token.
fn too_hard(error: &dyn fmt::Display) -> EngineError {
    EngineError::SchemaInvalid {
        pointer: String::new(),
        message: format!("the schema takes too much work per token; simplify it ({error})"),
    }
}
