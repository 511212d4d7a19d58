//! KV states of sessions, bounded by bytes. A session that is not here starts again from its source.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use reelsight_engine::SessionKv;

struct Entry<T> {
    state: T,
    bytes: usize,
    used: u64,
}

struct Entries<T> {
    by_session: HashMap<String, Entry<T>>,
    bytes: usize,
    clock: u64,
}

/// Least recently used states go when all together have more than the budget.
pub struct KvCache<T = SessionKv> {
    budget: usize,
    entries: Mutex<Entries<T>>,
    /// Headers of URL sources: secrets, so they are kept in memory only, for as long as their session.
    headers: Mutex<HashMap<String, BTreeMap<String, String>>>,
}

impl<T> std::fmt::Debug for KvCache<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvCache")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl<T: Clone> KvCache<T> {
    /// With room for `budget` bytes.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        let entries = Entries {
            by_session: HashMap::new(),
            bytes: 0,
            clock: 0,
        };
        Self {
            budget,
            entries: Mutex::new(entries),
            headers: Mutex::default(),
        }
    }

    /// Keeps a state; one that is larger than the whole budget is not kept.
    pub fn put(&self, session: &str, state: T, bytes: usize) {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let used = entries.clock;
        entries.remove(session);
        if bytes > self.budget {
            return;
        }
        entries.bytes += bytes;
        entries
            .by_session
            .insert(session.to_owned(), Entry { state, bytes, used });
        while entries.bytes > self.budget {
            let oldest = entries
                .by_session
                .iter()
                .min_by_key(|(_, entry)| entry.used)
                .map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            entries.remove(&oldest);
        }
    }

    /// The state of a session.
    #[must_use]
    pub fn get(&self, session: &str) -> Option<T> {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let now = entries.clock;
        let entry = entries.by_session.get_mut(session)?;
        entry.used = now;
        Some(entry.state.clone())
    }

    /// Whether a follow-up would find its state, without counting as a use.
    #[must_use]
    pub fn contains(&self, session: &str) -> bool {
        self.entries.lock().by_session.contains_key(session)
    }

    /// Forgets a session and its headers.
    pub fn remove(&self, session: &str) {
        self.entries.lock().remove(session);
        self.headers.lock().remove(session);
    }

    /// How many states are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.lock().by_session.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn put_headers(&self, session: &str, headers: BTreeMap<String, String>) {
        if !headers.is_empty() {
            self.headers.lock().insert(session.to_owned(), headers);
        }
    }

    pub(crate) fn headers(&self, session: &str) -> BTreeMap<String, String> {
        self.headers.lock().get(session).cloned().unwrap_or_default()
    }

    /// Everything that is kept about any session.
    pub(crate) fn sessions(&self) -> Vec<String> {
        let mut names: Vec<String> = self.entries.lock().by_session.keys().cloned().collect();
        names.extend(self.headers.lock().keys().cloned());
        names
    }
}

impl<T> Entries<T> {
    fn remove(&mut self, session: &str) {
        if let Some(gone) = self.by_session.remove(session) {
            self.bytes -= gone.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_the_budget_holds() {
        let cache = KvCache::new(10);
        cache.put("a", 1, 4);
        cache.put("b", 2, 4);
        assert_eq!(cache.get("a"), Some(1));
        cache.put("c", 3, 4);
        assert_eq!(
            (cache.get("a"), cache.get("b"), cache.get("c")),
            (Some(1), None, Some(3))
        );
        cache.put("a", 4, 10);
        assert_eq!((cache.get("a"), cache.get("c"), cache.len()), (Some(4), None, 1));
        cache.put("huge", 5, 11);
        assert_eq!((cache.get("huge"), cache.get("a")), (None, Some(4)));
        cache.remove("a");
        assert!(cache.is_empty());
        assert_eq!(cache.entries.lock().bytes, 0);
    }
}
