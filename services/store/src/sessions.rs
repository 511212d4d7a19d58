//! Sessions and their turns. KV caches are hints and live elsewhere; this is what a session can be rebuilt from.

use rusqlite::{OptionalExtension as _, Row, params};

use crate::{Cursor, Db, StoreError};

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Id without `sessions/`.
    pub id: String,
    /// Encoded `Session`: source, sampling, model, sampling report.
    pub record: Vec<u8>,
    /// Identity of the bytes that it was made from.
    pub source_key: String,
    /// How long it lives after each use, in milliseconds.
    pub ttl_ms: i64,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub expires_ms: i64,
}

/// A question that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnRow {
    /// As the user wrote it.
    pub question: String,
    /// Encoded `GenerationConfig`.
    pub generation: Vec<u8>,
}

fn session_from_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        id: row.get(0)?,
        record: row.get(1)?,
        source_key: row.get(2)?,
        ttl_ms: row.get(3)?,
        created_ms: row.get(4)?,
        expires_ms: row.get(5)?,
    })
}

impl Db<'_> {
    /// Adds or changes a session.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn put_session(&mut self, row: &SessionRow) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE
             SET record = excluded.record, ttl_ms = excluded.ttl_ms, expires_ms = excluded.expires_ms",
            params![
                row.id,
                row.record,
                row.source_key,
                row.ttl_ms,
                row.created_ms,
                row.expires_ms
            ],
        )?;
        Ok(())
    }

    /// One session with the number of its turns.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn session(&mut self, id: &str) -> Result<Option<(SessionRow, u32)>, StoreError> {
        let row = self
            .0
            .query_row("SELECT * FROM sessions WHERE id = ?1", [id], session_from_row)
            .optional()?;
        row.map(|row| Ok((row, self.turn_count(id)?))).transpose()
    }

    /// At most `limit` sessions after `cursor`, newest first, with the numbers of their turns.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn list_sessions(
        &mut self,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(SessionRow, u32)>, StoreError> {
        let (created, id) = cursor.map_or((i64::MAX, ""), |c| (c.created_ms, c.id.as_str()));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<SessionRow> = self
            .0
            .prepare_cached(
                "SELECT * FROM sessions WHERE (created_ms, id) < (?1, ?2) ORDER BY created_ms DESC, id DESC LIMIT ?3",
            )?
            .query_map(params![created, id, limit], session_from_row)?
            .collect::<Result<_, _>>()?;
        rows.into_iter()
            .map(|row| Ok((self.turn_count(&row.id)?, row)))
            .map(|r| r.map(|(n, row)| (row, n)))
            .collect()
    }

    fn turn_count(&self, id: &str) -> Result<u32, StoreError> {
        Ok(self
            .0
            .query_row("SELECT count(*) FROM turns WHERE session_id = ?1", [id], |row| {
                row.get(0)
            })?)
    }

    /// Forgets a session and its turns; false when there was none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn delete_session(&mut self, id: &str) -> Result<bool, StoreError> {
        Ok(self.0.execute("DELETE FROM sessions WHERE id = ?1", [id])? > 0)
    }

    /// Forgets sessions that expired before `before_ms`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn sweep_sessions(&mut self, before_ms: i64) -> Result<usize, StoreError> {
        Ok(self
            .0
            .execute("DELETE FROM sessions WHERE expires_ms < ?1", [before_ms])?)
    }

    /// Which of `ids` are past their time, or gone, at `now_ms`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn dead_sessions(&mut self, ids: Vec<String>, now_ms: i64) -> Result<Vec<String>, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT 1 FROM sessions WHERE id = ?1 AND expires_ms > ?2")?;
        let mut dead = Vec::new();
        for id in ids {
            if !statement.exists(params![id, now_ms])? {
                dead.push(id);
            }
        }
        Ok(dead)
    }

    /// Appends a turn.
    ///
    /// # Errors
    /// [`StoreError::Database`]; also when the session is gone.
    pub fn add_turn(&mut self, session_id: &str, turn: &TurnRow) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT INTO turns SELECT ?1, count(*), ?2, ?3 FROM turns WHERE session_id = ?1",
            params![session_id, turn.question, turn.generation],
        )?;
        Ok(())
    }

    /// All turns in order.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn turns(&mut self, session_id: &str) -> Result<Vec<TurnRow>, StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT question, generation FROM turns WHERE session_id = ?1 ORDER BY position",
        )?;
        let rows = statement.query_map([session_id], |row| {
            Ok(TurnRow {
                question: row.get(0)?,
                generation: row.get(1)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use crate::{DataDir, Store};

    use super::*;

    #[tokio::test]
    async fn turns_keep_their_order_and_go_with_their_session() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::open(folder.path()).unwrap()).unwrap();
        store
            .run(|db| {
                let row = SessionRow {
                    id: "s".into(),
                    record: vec![1, 2],
                    source_key: "k".into(),
                    ttl_ms: 5,
                    created_ms: 1,
                    expires_ms: 10,
                };
                db.put_session(&row)?;
                for question in ["b", "a", "c"] {
                    db.add_turn(
                        "s",
                        &TurnRow {
                            question: question.into(),
                            generation: vec![],
                        },
                    )?;
                }
                let order: Vec<_> = db.turns("s")?.into_iter().map(|t| t.question).collect();
                assert_eq!(order, ["b", "a", "c"]);
                let (found, turns) = db.session("s")?.unwrap();
                assert_eq!((found, turns), (row, 3));
                assert_eq!(db.dead_sessions(vec!["s".into(), "t".into()], 9)?, ["t"]);
                assert_eq!(db.sweep_sessions(10)?, 0);
                assert_eq!(db.sweep_sessions(11)?, 1);
                assert!(db.turns("s")?.is_empty());
                assert!(
                    db.add_turn(
                        "s",
                        &TurnRow {
                            question: "x".into(),
                            generation: vec![]
                        }
                    )
                    .is_err()
                );
                Ok(())
            })
            .await
            .unwrap();
    }
}
