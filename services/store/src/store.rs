//! The database handle.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::{DataDir, StoreError, migrations::migrate};

/// One `SQLite` connection behind a lock: writes are small and rare, and `SQLite` has one writer anyway.
#[derive(Debug, Clone)]
pub struct Store(Arc<Mutex<Connection>>);

/// What can be done with the database; methods are beside the rows that they concern.
#[derive(Debug)]
pub struct Db<'a>(pub(crate) &'a mut Connection);

impl Store {
    /// Opens or makes the database of `dir` and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Database`], or [`StoreError::Newer`] when a newer version wrote it.
    pub fn open(dir: &DataDir) -> Result<Self, StoreError> {
        let mut connection = Connection::open(dir.database())?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        migrate(&mut connection)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Runs `work` on a thread that may block.
    ///
    /// # Cancellation
    /// Dropping the future lets the work finish unseen.
    ///
    /// # Errors
    /// What `work` returns, and [`StoreError::Stopped`] when the runtime shuts down.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Db<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&mut Db(&mut connection.lock())))
            .await
            .unwrap_or(Err(StoreError::Stopped))
    }
}
