//! What survives a restart: media, uploads, sessions, operations and the answers of idempotent calls.
//!
//! Owns the data folder ([`DataDir`]), its `SQLite` database ([`Store`]; WAL, migrations in `migrations.rs`) and the
//! signed page tokens ([`PageTokens`]). Payloads are opaque bytes: what is in them belongs to the crates that put
//! them there. Does not own: media files (catalog), KV caches (qa). Starts no threads; [`Store::run`] borrows one of
//! tokio's blocking threads for each call.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let folder = tempfile::tempdir().unwrap();
//! let dir = reelsight_store::DataDir::open(folder.path()).unwrap();
//! let store = reelsight_store::Store::open(&dir).unwrap();
//! assert!(store.run(|db| db.media("1")).await.unwrap().is_none());
//! # });
//! ```

mod dir;
mod error;
mod media;
mod migrations;
mod operations;
mod page;
mod replies;
mod sessions;
mod store;

pub use dir::DataDir;
pub use error::StoreError;
pub use media::{MediaRow, UploadRow};
pub use operations::OperationRow;
pub use page::{Cursor, MAX_PAGE, PageTokens, page_size};
pub use replies::Reply;
pub use sessions::{SessionRow, TurnRow};
pub use store::{Db, Store};
