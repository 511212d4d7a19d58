//! Why the store could not do it.

use std::{io, path::PathBuf};

use reelsight_proto::{
    reason,
    status::{Details, ErrorKind, ServiceError},
};

/// Messages read after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database failed.
    #[error("use the database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The data folder cannot be used.
    #[error("use the data folder {path}: {source}")]
    Folder {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another server has the data folder.
    #[error("lock the data folder {0}: another server uses it; stop that one or name another --data-dir")]
    Locked(PathBuf),
    /// The database was written by a newer version.
    #[error("read the database: it has schema {found} and this version knows {known}; use the newer version")]
    Newer {
        /// Schema of the file.
        found: i64,
        /// Newest schema that this version knows.
        known: i64,
    },
    /// The page token is not one of ours.
    #[error("page_token is not one that this call returned: leave it empty to start at the first page")]
    PageToken,
    /// The page size is negative.
    #[error("page_size must not be negative")]
    PageSize,
    /// The thread that did the work died.
    #[error("finish the database call: its thread was stopped")]
    Stopped,
}

impl ServiceError for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::PageToken | Self::PageSize => ErrorKind::InvalidInput,
            _ => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self.kind() {
            ErrorKind::InvalidInput => reason::INVALID_REQUEST,
            _ => reason::INTERNAL,
        }
    }

    fn details(&self) -> Details {
        let field = match self {
            Self::PageToken => Some("page_token".into()),
            Self::PageSize => Some("page_size".into()),
            _ => None,
        };
        Details {
            field,
            ..Details::default()
        }
    }
}
