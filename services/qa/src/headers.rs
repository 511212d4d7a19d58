//! Headers of URL sources: secrets, so they are kept in memory only, for as long as their session.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

/// By session.
#[derive(Default)]
pub(crate) struct Headers(Mutex<HashMap<String, BTreeMap<String, String>>>);

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Headers")
    }
}

impl Headers {
    pub(crate) fn put(&self, session: &str, headers: BTreeMap<String, String>) {
        if !headers.is_empty() {
            self.0.lock().insert(session.to_owned(), headers);
        }
    }

    pub(crate) fn get(&self, session: &str) -> BTreeMap<String, String> {
        self.0.lock().get(session).cloned().unwrap_or_default()
    }

    pub(crate) fn remove(&self, session: &str) {
        self.0.lock().remove(session);
    }

    /// Sessions that have some.
    pub(crate) fn sessions(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }
}
