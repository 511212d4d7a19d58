//! Answers of idempotent calls, by `request_id`.

use rusqlite::{OptionalExtension as _, params};

use crate::{Db, StoreError};

/// What is known about a `request_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The same request was answered with this.
    Same(Vec<u8>),
    /// A different request had this id.
    Different,
}

impl Db<'_> {
    /// The answer that `request_id` got in `scope`, when that was not before `since_ms`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn reply(
        &mut self,
        scope: &str,
        request_id: &str,
        fingerprint: &[u8],
        since_ms: i64,
    ) -> Result<Option<Reply>, StoreError> {
        let found: Option<(Vec<u8>, Vec<u8>)> = self
            .0
            .query_row(
                "SELECT fingerprint, response FROM replies WHERE scope = ?1 AND request_id = ?2 AND created_ms >= ?3",
                params![scope, request_id, since_ms],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        Ok(found.map(|(known, response)| {
            if known == fingerprint {
                Reply::Same(response)
            } else {
                Reply::Different
            }
        }))
    }

    /// Remembers an answer.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn put_reply(
        &mut self,
        scope: &str,
        request_id: &str,
        fingerprint: &[u8],
        response: &[u8],
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT OR REPLACE INTO replies VALUES (?1, ?2, ?3, ?4, ?5)",
            params![scope, request_id, fingerprint, response, now_ms],
        )?;
        Ok(())
    }

    /// Forgets answers from before `before_ms`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn sweep_replies(&mut self, before_ms: i64) -> Result<usize, StoreError> {
        Ok(self
            .0
            .execute("DELETE FROM replies WHERE created_ms < ?1", [before_ms])?)
    }
}

#[cfg(test)]
mod tests {
    use crate::{DataDir, Store};

    use super::*;

    #[tokio::test]
    async fn an_answer_is_found_for_a_day_and_only_for_the_same_request() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::open(folder.path()).unwrap()).unwrap();
        store
            .run(|db| {
                db.put_reply("ask", "r", b"f", b"answer", 100)?;
                assert_eq!(
                    db.reply("ask", "r", b"f", 100)?,
                    Some(Reply::Same(b"answer".to_vec()))
                );
                assert_eq!(db.reply("ask", "r", b"g", 100)?, Some(Reply::Different));
                assert_eq!(db.reply("ask", "r", b"f", 101)?, None);
                assert_eq!(db.reply("submit", "r", b"f", 0)?, None);
                assert_eq!(db.sweep_replies(101)?, 1);
                Ok(())
            })
            .await
            .unwrap();
    }
}
