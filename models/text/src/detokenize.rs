//! Token by token to text, without ever splitting a character.

use std::ops::Deref;

use crate::{TextError, Tokenizer};

/// A character has at most four bytes, so at most three tokens of it can be pending, each shown as U+FFFD.
const MAX_PENDING: usize = 3;
/// Tokens that are decoded again with each new one, so that joins between tokens come out right.
const CONTEXT: usize = 8;
/// The window is cut back to [`CONTEXT`] tokens when it gets this long.
const MAX_WINDOW: usize = 64;

/// Turns a stream of ids into a stream of text: the pieces joined are what decoding all ids at once gives.
#[derive(Debug)]
pub struct Detokenizer<T> {
    tokenizer: T,
    window: Vec<u32>,
    /// Bytes of the window's text that have been given out.
    given: usize,
}

impl<T: Deref<Target = Tokenizer>> Detokenizer<T> {
    /// A stream that leaves special tokens out; `tokenizer` is borrowed or shared.
    #[must_use]
    pub fn new(tokenizer: T) -> Self {
        Self {
            tokenizer,
            window: Vec::new(),
            given: 0,
        }
    }

    /// The text that `id` completes; empty while a character is incomplete.
    ///
    /// # Errors
    /// [`TextError::Tokenize`].
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window, true)?;
        let stable = stable_len(&text);
        let piece = text.get(self.given..stable).unwrap_or_default().to_owned();
        self.given = self.given.max(stable);
        if self.window.len() >= MAX_WINDOW && self.given == text.len() {
            self.window.drain(..self.window.len() - CONTEXT);
            self.given = self.tokenizer.decode(&self.window, true)?.len();
        }
        Ok(piece)
    }

    /// What is left; an incomplete character comes out as U+FFFD.
    ///
    /// # Errors
    /// [`TextError::Tokenize`].
    pub fn finish(self) -> Result<String, TextError> {
        let text = self.tokenizer.decode(&self.window, true)?;
        Ok(text.get(self.given..).unwrap_or_default().to_owned())
    }
}

/// Length of `text` without what a following token could still turn into a character.
fn stable_len(text: &str) -> usize {
    let mut stable = text;
    for _ in 0..MAX_PENDING {
        stable = stable.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(stable);
    }
    stable.len()
}
