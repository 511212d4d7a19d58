//! Packet indexes by the identity of their source: a second question does not read the file again.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use reelsight_decode::PacketIndex;

use crate::SourceKey;

/// Least recently used ones go when all together have more frames than this (about 40 bytes each).
const MAX_FRAMES: usize = 4_000_000;
const MAX_ENTRIES: usize = 256;

#[derive(Default)]
struct Entries {
    by_key: HashMap<SourceKey, (Arc<PacketIndex>, u64)>,
    frames: usize,
    clock: u64,
}

#[derive(Clone, Default)]
pub(crate) struct IndexCache(Arc<Mutex<Entries>>);

impl IndexCache {
    pub(crate) fn get(&self, key: &SourceKey) -> Option<Arc<PacketIndex>> {
        let mut entries = self.0.lock();
        entries.clock += 1;
        let now = entries.clock;
        let (index, used) = entries.by_key.get_mut(key)?;
        *used = now;
        Some(Arc::clone(index))
    }

    pub(crate) fn put(&self, key: SourceKey, index: Arc<PacketIndex>) {
        let mut entries = self.0.lock();
        entries.clock += 1;
        let (now, frames) = (entries.clock, index.timeline.len());
        if frames > MAX_FRAMES {
            return;
        }
        entries.frames += frames;
        if let Some((old, _)) = entries.by_key.insert(key, (index, now)) {
            entries.frames -= old.timeline.len();
        }
        while entries.frames > MAX_FRAMES || entries.by_key.len() > MAX_ENTRIES {
            let oldest = entries
                .by_key
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| key.clone());
            let Some((gone, _)) = oldest.and_then(|key| entries.by_key.remove(&key)) else {
                break;
            };
            entries.frames -= gone.timeline.len();
        }
    }
}
