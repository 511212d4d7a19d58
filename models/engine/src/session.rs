//! The KV cache between asks: an immutable value behind a cheap handle.
//!
//! A follow-up starts from it and yields a new one, so a failed or cancelled ask leaves the session as it was.

use std::sync::Arc;

/// KV cache and ledger after some turns. Cloning is cheap; the memory is freed with the last clone.
#[derive(Debug, Clone)]
pub struct SessionKv(Arc<KvSnapshot>);

#[derive(Debug)]
pub(crate) struct KvSnapshot {
    tokens: usize,
    bytes: usize,
    turns: usize,
}

impl SessionKv {
    /// Tokens in the cache.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.0.tokens
    }

    /// Bytes of keys and values (and of the embeddings kept beside them).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// Questions answered so far.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.0.turns
    }
}
