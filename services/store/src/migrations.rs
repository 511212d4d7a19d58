//! The schema, in one place: each step runs once, in order; `PRAGMA user_version` counts them.

use rusqlite::Connection;

use crate::StoreError;

const STEPS: &[&str] = &["
CREATE TABLE media (
    id TEXT PRIMARY KEY, display_name TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL,
    info BLOB NOT NULL, created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX media_created ON media (created_ms, id);
CREATE TABLE uploads (
    request_id TEXT PRIMARY KEY, file TEXT NOT NULL, display_name TEXT NOT NULL, total INTEGER NOT NULL,
    sha256 TEXT NOT NULL, ttl_ms INTEGER NOT NULL, media_id TEXT, updated_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, record BLOB NOT NULL, source_key TEXT NOT NULL, ttl_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_created ON sessions (created_ms, id);
CREATE TABLE turns (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE, position INTEGER NOT NULL,
    question TEXT NOT NULL, generation BLOB NOT NULL, PRIMARY KEY (session_id, position)
) STRICT;
CREATE TABLE operations (
    id TEXT PRIMARY KEY, metadata BLOB NOT NULL, response BLOB, error BLOB, created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX operations_created ON operations (created_ms, id);
CREATE TABLE replies (
    scope TEXT NOT NULL, request_id TEXT NOT NULL, fingerprint BLOB NOT NULL, response BLOB NOT NULL,
    created_ms INTEGER NOT NULL, PRIMARY KEY (scope, request_id)
) STRICT;
"];

pub(crate) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, step) in (1_i64..).zip(STEPS).skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}
