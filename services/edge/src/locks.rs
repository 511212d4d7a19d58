//! One at a time for each key.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Held while working on a key.
#[derive(Debug)]
pub struct KeyGuard(#[expect(dead_code, reason = "its drop is its use")] OwnedMutexGuard<()>);

/// Locks by name; a name that nobody holds takes no memory for long.
#[derive(Debug, Clone, Default)]
pub struct KeyedLocks(Arc<Mutex<HashMap<String, Weak<AsyncMutex<()>>>>>);

impl KeyedLocks {
    /// Waits for `key`.
    pub async fn lock(&self, key: &str) -> KeyGuard {
        KeyGuard(self.entry(key).lock_owned().await)
    }

    /// Waits for `scope/key`; the empty key excludes nobody.
    pub async fn lock_unless_empty(&self, scope: &str, key: &str) -> Option<KeyGuard> {
        if key.is_empty() {
            return None;
        }
        Some(self.lock(&format!("{scope}/{key}")).await)
    }

    /// `None` when somebody else has `key`.
    #[must_use]
    pub fn try_lock(&self, key: &str) -> Option<KeyGuard> {
        self.entry(key).try_lock_owned().ok().map(KeyGuard)
    }

    fn entry(&self, key: &str) -> Arc<AsyncMutex<()>> {
        let mut locks = self.0.lock();
        if let Some(found) = locks.get(key).and_then(Weak::upgrade) {
            return found;
        }
        locks.retain(|_key, lock| lock.strong_count() > 0);
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_exclude_themselves_only_and_leave_nothing_behind() {
        let locks = KeyedLocks::default();
        let held = locks.lock("a").await;
        assert!(locks.try_lock("a").is_none());
        assert!(locks.try_lock("b").is_some());
        drop(held);
        assert!(locks.try_lock("a").is_some());
        drop(locks.try_lock("c"));
        assert_eq!(locks.0.lock().len(), 1);
        let (one, other) = (
            locks.lock_unless_empty("s", "").await,
            locks.lock_unless_empty("s", "").await,
        );
        assert!(one.is_none() && other.is_none());
    }
}
