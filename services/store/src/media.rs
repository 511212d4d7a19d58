//! Uploaded media and unfinished uploads.

use rusqlite::{OptionalExtension as _, Row, params};

use crate::{Cursor, Db, StoreError};

/// A finished media file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRow {
    /// Id without `media/`; also the name of the file.
    pub id: String,
    /// What the uploader called it.
    pub display_name: String,
    /// Bytes.
    pub size: u64,
    /// Hex.
    pub sha256: String,
    /// Encoded `MediaInfo`.
    pub info: Vec<u8>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub expires_ms: i64,
}

/// An upload by its resume key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadRow {
    /// The client's key.
    pub request_id: String,
    /// Name of the unfinished file.
    pub file: String,
    /// What the uploader called it.
    pub display_name: String,
    /// Announced bytes; 0 is unknown.
    pub total: u64,
    /// Announced digest, hex; empty is unknown.
    pub sha256: String,
    /// Wanted time to live in milliseconds; 0 is the default.
    pub ttl_ms: i64,
    /// Set once finished.
    pub media_id: Option<String>,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
}

fn media_from_row(row: &Row<'_>) -> rusqlite::Result<MediaRow> {
    Ok(MediaRow {
        id: row.get(0)?,
        display_name: row.get(1)?,
        size: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        sha256: row.get(3)?,
        info: row.get(4)?,
        created_ms: row.get(5)?,
        expires_ms: row.get(6)?,
    })
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Db<'_> {
    /// Adds a media file.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn insert_media(&mut self, row: &MediaRow) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT INTO media VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                row.id,
                row.display_name,
                signed(row.size),
                row.sha256,
                row.info,
                row.created_ms,
                row.expires_ms
            ],
        )?;
        Ok(())
    }

    /// One media file.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn media(&mut self, id: &str) -> Result<Option<MediaRow>, StoreError> {
        Ok(self
            .0
            .query_row("SELECT * FROM media WHERE id = ?1", [id], media_from_row)
            .optional()?)
    }

    /// At most `limit` media files after `cursor`, newest first, without those that expired before `now_ms`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn list_media(
        &mut self,
        cursor: Option<&Cursor>,
        limit: usize,
        now_ms: i64,
    ) -> Result<Vec<MediaRow>, StoreError> {
        let (created, id) = cursor.map_or((i64::MAX, ""), |c| (c.created_ms, c.id.as_str()));
        let mut statement = self.0.prepare_cached(
            "SELECT * FROM media WHERE (created_ms, id) < (?1, ?2) AND expires_ms > ?3
             ORDER BY created_ms DESC, id DESC LIMIT ?4",
        )?;
        let rows = statement.query_map(params![created, id, now_ms, signed(limit as u64)], media_from_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Media files whose time was over at `now_ms`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn expired_media(&mut self, now_ms: i64) -> Result<Vec<String>, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT id FROM media WHERE expires_ms <= ?1")?;
        let rows = statement.query_map([now_ms], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Lets a media file live at least until `expires_ms`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn extend_media(&mut self, id: &str, expires_ms: i64) -> Result<(), StoreError> {
        let sql = "UPDATE media SET expires_ms = max(expires_ms, ?2) WHERE id = ?1";
        self.0.execute(sql, params![id, expires_ms])?;
        Ok(())
    }

    /// Forgets a media file and the upload that made it; false when there was none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn delete_media(&mut self, id: &str) -> Result<bool, StoreError> {
        self.0.execute("DELETE FROM uploads WHERE media_id = ?1", [id])?;
        Ok(self.0.execute("DELETE FROM media WHERE id = ?1", [id])? > 0)
    }

    /// Bytes of all media files.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn media_bytes(&mut self) -> Result<u64, StoreError> {
        let sum: i64 = self
            .0
            .query_row("SELECT coalesce(sum(size), 0) FROM media", [], |row| row.get(0))?;
        Ok(u64::try_from(sum).unwrap_or(0))
    }

    /// Adds or replaces an upload.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn put_upload(&mut self, row: &UploadRow) -> Result<(), StoreError> {
        self.0.execute(
            "INSERT OR REPLACE INTO uploads VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                row.request_id,
                row.file,
                row.display_name,
                signed(row.total),
                row.sha256,
                row.ttl_ms,
                row.media_id,
                row.updated_ms
            ],
        )?;
        Ok(())
    }

    /// One upload.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn upload(&mut self, request_id: &str) -> Result<Option<UploadRow>, StoreError> {
        let from_row = |row: &Row<'_>| {
            Ok(UploadRow {
                request_id: row.get(0)?,
                file: row.get(1)?,
                display_name: row.get(2)?,
                total: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
                sha256: row.get(4)?,
                ttl_ms: row.get(5)?,
                media_id: row.get(6)?,
                updated_ms: row.get(7)?,
            })
        };
        Ok(self
            .0
            .query_row(
                "SELECT * FROM uploads WHERE request_id = ?1",
                [request_id],
                from_row,
            )
            .optional()?)
    }

    /// Forgets one upload.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn delete_upload(&mut self, request_id: &str) -> Result<(), StoreError> {
        self.0
            .execute("DELETE FROM uploads WHERE request_id = ?1", [request_id])?;
        Ok(())
    }

    /// Forgets uploads that nobody touched since `before_ms`; returns the files of the unfinished ones.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn sweep_uploads(&mut self, before_ms: i64) -> Result<Vec<String>, StoreError> {
        let mut statement = self
            .0
            .prepare_cached("DELETE FROM uploads WHERE updated_ms < ?1 RETURNING file, media_id")?;
        let rows = statement.query_map([before_ms], |row| {
            Ok((row.get(0)?, row.get::<_, Option<String>>(1)?))
        })?;
        let all: Vec<(String, Option<String>)> = rows.collect::<Result<_, _>>()?;
        Ok(all
            .into_iter()
            .filter(|(_, media)| media.is_none())
            .map(|(file, _)| file)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::{DataDir, Store};

    use super::*;

    fn media(id: &str, created_ms: i64, expires_ms: i64) -> MediaRow {
        MediaRow {
            id: id.into(),
            display_name: "cat.mp4".into(),
            size: 10,
            sha256: "00".into(),
            info: vec![1],
            created_ms,
            expires_ms,
        }
    }

    #[tokio::test]
    async fn pages_cover_everything_once_even_with_equal_times() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::open(folder.path()).unwrap()).unwrap();
        store
            .run(|db| {
                for n in 0..10_i64 {
                    db.insert_media(&media(&format!("m{n}"), n / 3, 100))?;
                }
                db.insert_media(&media("old", 0, 5))?;
                assert_eq!(db.media_bytes()?, 110);
                assert_eq!(db.expired_media(5)?, ["old"]);
                let (mut seen, mut cursor) = (Vec::new(), None);
                loop {
                    let page = db.list_media(cursor.as_ref(), 3, 50)?;
                    let Some(last) = page.last() else { break };
                    cursor = Some(Cursor {
                        created_ms: last.created_ms,
                        id: last.id.clone(),
                    });
                    seen.extend(page.into_iter().map(|row| row.id));
                }
                assert_eq!(seen, ["m9", "m8", "m7", "m6", "m5", "m4", "m3", "m2", "m1", "m0"]);
                assert!(db.delete_media("m1")? && !db.delete_media("m1")?);
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn uploads_survive_a_restart_and_are_swept_when_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let row = UploadRow {
            request_id: "r".into(),
            file: "f".into(),
            display_name: String::new(),
            total: 7,
            sha256: String::new(),
            ttl_ms: 0,
            media_id: None,
            updated_ms: 10,
        };
        {
            let dir = DataDir::open(folder.path()).unwrap();
            assert!(matches!(DataDir::open(folder.path()), Err(StoreError::Locked(_))));
            let (store, row) = (Store::open(&dir).unwrap(), row.clone());
            store.run(move |db| db.put_upload(&row)).await.unwrap();
        }
        let store = Store::open(&DataDir::open(folder.path()).unwrap()).unwrap();
        store
            .run(move |db| {
                assert_eq!(db.upload("r")?, Some(row));
                assert!(db.sweep_uploads(10)?.is_empty());
                assert_eq!(db.sweep_uploads(11)?, ["f"]);
                assert_eq!(db.upload("r")?, None);
                Ok(())
            })
            .await
            .unwrap();
    }
}
