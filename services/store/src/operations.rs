//! Long-running operations.

use rusqlite::{OptionalExtension as _, Row, params};

use crate::{Cursor, Db, StoreError};

/// An operation; it is done when it has a response or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// Id without `operations/`.
    pub id: String,
    /// Encoded metadata.
    pub metadata: Vec<u8>,
    /// Encoded response.
    pub response: Option<Vec<u8>>,
    /// Encoded `google.rpc.Status`.
    pub error: Option<Vec<u8>>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

fn operation_from_row(row: &Row<'_>) -> rusqlite::Result<OperationRow> {
    Ok(OperationRow {
        id: row.get(0)?,
        metadata: row.get(1)?,
        response: row.get(2)?,
        error: row.get(3)?,
        created_ms: row.get(4)?,
    })
}

impl Db<'_> {
    /// Adds or changes an operation.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn put_operation(&mut self, row: &OperationRow) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT OR REPLACE INTO operations VALUES (?1, ?2, ?3, ?4, ?5)",
            params![row.id, row.metadata, row.response, row.error, row.created_ms],
        )?;
        Ok(())
    }

    /// One operation.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn operation(&mut self, id: &str) -> Result<Option<OperationRow>, StoreError> {
        Ok(self
            .0
            .query_row("SELECT * FROM operations WHERE id = ?1", [id], operation_from_row)
            .optional()?)
    }

    /// At most `limit` operations after `cursor`, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn list_operations(
        &mut self,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<OperationRow>, StoreError> {
        let (created, id) = cursor.map_or((i64::MAX, ""), |c| (c.created_ms, c.id.as_str()));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.0.prepare_cached(
            "SELECT * FROM operations WHERE (created_ms, id) < (?1, ?2) ORDER BY created_ms DESC, id DESC LIMIT ?3",
        )?;
        let rows = statement.query_map(params![created, id, limit], operation_from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets an operation; false when there was none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn delete_operation(&mut self, id: &str) -> Result<bool, StoreError> {
        Ok(self.0.execute("DELETE FROM operations WHERE id = ?1", [id])? > 0)
    }

    /// Operations that a stopped server left unfinished end with `error`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn fail_running_operations(&mut self, error: &[u8]) -> Result<usize, StoreError> {
        let sql = "UPDATE operations SET error = ?1 WHERE response IS NULL AND error IS NULL";
        Ok(self.0.execute(sql, [error])?)
    }

    /// Forgets finished operations that were made before `before_ms`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn sweep_operations(&mut self, before_ms: i64) -> Result<usize, StoreError> {
        let sql =
            "DELETE FROM operations WHERE created_ms < ?1 AND (response IS NOT NULL OR error IS NOT NULL)";
        Ok(self.0.execute(sql, [before_ms])?)
    }
}

#[cfg(test)]
mod tests {
    use crate::{DataDir, Store};

    use super::*;

    #[tokio::test]
    async fn a_restart_fails_only_what_was_running() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::open(folder.path()).unwrap()).unwrap();
        store
            .run(|db| {
                let running = OperationRow {
                    id: "a".into(),
                    metadata: vec![],
                    response: None,
                    error: None,
                    created_ms: 1,
                };
                let done = OperationRow {
                    id: "b".into(),
                    response: Some(vec![7]),
                    ..running.clone()
                };
                db.put_operation(&running)?;
                db.put_operation(&done)?;
                assert_eq!(db.sweep_operations(5)?, 1);
                db.put_operation(&done)?;
                assert_eq!(db.fail_running_operations(&[9])?, 1);
                assert_eq!(db.operation("a")?.unwrap().error, Some(vec![9]));
                assert_eq!(db.operation("b")?.unwrap(), done);
                assert_eq!(db.list_operations(None, 9)?.len(), 2);
                Ok(())
            })
            .await
            .unwrap();
    }
}
