//! KV at rest by name: prefixes of videos and states of sessions, bounded by bytes.
//!
//! What several of them share (the video before different questions) is there once and counts once. The least recently
//! used goes first; with a disk tier it goes to disk first, and from there when that is full.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::disk::Disk;
use crate::session::SessionKv;

/// Where KV lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvTier {
    /// In memory.
    Host,
    /// In a file.
    Disk,
}

#[derive(Debug)]
struct Entry {
    session: SessionKv,
    used: u64,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// How many entries have each segment, and its bytes.
    segments: HashMap<u64, (usize, usize)>,
    bytes: usize,
    clock: u64,
}

/// See the module. All methods may be called from any thread.
#[derive(Debug)]
pub(crate) struct KvStore {
    budget: usize,
    state: Mutex<State>,
    disk: Option<Disk>,
}

impl KvStore {
    pub(crate) fn new(budget: usize, disk: Option<Disk>) -> Self {
        Self {
            budget,
            state: Mutex::default(),
            disk,
        }
    }

    /// Keeps `session` under `name`; one that is larger than the whole budget is not kept.
    pub(crate) fn put(&self, name: &str, session: &SessionKv) {
        let evicted = {
            let mut state = self.state.lock();
            state.remove(name);
            state.insert(name, session.clone());
            state.shrink(self.budget)
        };
        if let Some(disk) = &self.disk {
            // Now and not when it has to go: what is on disk when the process ends is what survives it.
            disk.put(name, session);
        }
        drop(evicted);
    }

    /// What is kept under `name`; it says where it was.
    pub(crate) fn get(&self, name: &str) -> Option<SessionKv> {
        let mut state = self.state.lock();
        state.clock += 1;
        let now = state.clock;
        if let Some(entry) = state.entries.get_mut(name) {
            entry.used = now;
            return Some(entry.session.clone());
        }
        drop(state);
        let session = self.disk.as_ref()?.get(name)?;
        let mut state = self.state.lock();
        state.insert(name, SessionKv(Arc::clone(&session.0), KvTier::Host));
        drop(state.shrink(self.budget));
        Some(session)
    }

    /// Where `name` would be found, without counting as a use.
    pub(crate) fn tier(&self, name: &str) -> Option<KvTier> {
        if self.state.lock().entries.contains_key(name) {
            return Some(KvTier::Host);
        }
        let disk = self.disk.as_ref()?;
        disk.contains(name).then_some(KvTier::Disk)
    }

    /// Forgets `name`.
    pub(crate) fn remove(&self, name: &str) {
        let gone = self.state.lock().remove(name);
        drop(gone);
        if let Some(disk) = &self.disk {
            disk.remove(name);
        }
    }

    /// Names in memory.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state.lock().entries.keys().cloned().collect()
    }

    /// Bytes in memory; shared ones count once.
    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Bytes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk.as_ref().map_or(0, Disk::bytes)
    }
}

impl State {
    fn insert(&mut self, name: &str, session: SessionKv) {
        self.clock += 1;
        let segments: Vec<_> = session
            .0
            .pages
            .segments()
            .map(|segment| (segment.id, segment.bytes()))
            .collect();
        for (id, bytes) in segments {
            let (count, _) = self.segments.entry(id).or_insert((0, bytes));
            *count += 1;
            if *count == 1 {
                self.bytes += bytes;
            }
        }
        let used = self.clock;
        self.entries.insert(name.to_owned(), Entry { session, used });
    }

    fn remove(&mut self, name: &str) -> Option<Entry> {
        let gone = self.entries.remove(name)?;
        for segment in gone.session.0.pages.segments().map(|segment| segment.id) {
            if let Some((count, bytes)) = self.segments.get_mut(&segment) {
                *count -= 1;
                if *count == 0 {
                    self.bytes -= *bytes;
                    self.segments.remove(&segment);
                }
            }
        }
        Some(gone)
    }

    /// Removes the least recently used until the rest fits. They are freed by the caller, outside the lock.
    fn shrink(&mut self, budget: usize) -> Vec<Entry> {
        let mut gone = Vec::new();
        while self.bytes > budget {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            gone.extend(self.remove(&name));
        }
        gone
    }
}
