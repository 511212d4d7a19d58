//! The KV cache between asks: an immutable value behind a cheap handle.
//!
//! A follow-up starts from it and yields a new one, so a failed or cancelled ask leaves the session as it was.

use std::sync::Arc;

use reelsight_families::{Turn, VideoShown};

use crate::{
    evidence::ShownFrame,
    kv::{KvTier, Ledger, Pages},
};

/// KV cache and ledger after some turns. Cloning is cheap; the memory is freed with the last clone, and what sessions
/// have in common (the video before different questions) is there once.
#[derive(Debug, Clone)]
pub struct SessionKv(pub(crate) Arc<KvSnapshot>, pub(crate) KvTier);

#[derive(Debug)]
pub(crate) struct KvSnapshot {
    /// Which loaded model the cache belongs to.
    pub(crate) model: u64,
    /// What the conversation is about; `None` for one without a video.
    pub(crate) video: Option<VideoShown>,
    /// The frames in order, for citations.
    pub(crate) frames: Vec<ShownFrame>,
    /// Frames that came out damaged or not at all.
    pub(crate) damaged: usize,
    /// Questions with their answers.
    pub(crate) turns: Vec<Turn>,
    /// The cached tokens, one for one.
    pub(crate) ledger: Ledger,
    pub(crate) pages: Pages,
    /// Bytes of one token.
    pub(crate) token_bytes: usize,
}

impl SessionKv {
    /// Tokens in the cache.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.0.pages.len()
    }

    /// Bytes of keys and values, shared ones included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.pages.len() * self.0.token_bytes
    }

    /// Where it was when it was asked for.
    #[must_use]
    pub fn tier(&self) -> KvTier {
        self.1
    }

    /// Questions answered so far.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.0.turns.len()
    }
}
