//! The KV cache between asks: an immutable value behind a cheap handle.
//!
//! A follow-up starts from it and yields a new one, so a failed or cancelled ask leaves the session as it was.

use std::sync::Arc;

use reelsight_families::{Turn, VideoShown};

use crate::{evidence::ShownFrame, kv::KvCache};

/// KV cache and ledger after some turns. Cloning is cheap; the memory is freed with the last clone.
#[derive(Debug, Clone)]
pub struct SessionKv(pub(crate) Arc<KvSnapshot>);

#[derive(Debug)]
pub(crate) struct KvSnapshot {
    /// Which loaded model the cache belongs to.
    pub(crate) model: u64,
    pub(crate) video: VideoShown,
    /// The frames in order, for citations.
    pub(crate) frames: Vec<ShownFrame>,
    /// Frames that came out damaged or not at all.
    pub(crate) damaged: usize,
    /// Questions with their answers.
    pub(crate) turns: Vec<Turn>,
    /// Ids of the cached tokens, one for one.
    pub(crate) ids: Vec<u32>,
    pub(crate) cache: KvCache,
}

impl SessionKv {
    /// Tokens in the cache.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.0.cache.len
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.cache.bytes()
    }

    /// Questions answered so far.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.0.turns.len()
    }
}
