//! Why a source or an upload cannot be used.

use std::io;

use reelsight_decode::DecodeError;
use reelsight_fetch::FetchError;
use reelsight_proto::{
    reason,
    status::{Details, ErrorKind, ServiceError},
};
use reelsight_store::StoreError;

/// By what the caller should do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A field is wrong.
    #[error("{message}")]
    Invalid {
        /// Its path.
        field: &'static str,
        /// What to do.
        message: String,
    },
    /// There is no such media or upload.
    #[error("there is no {name}: it may have expired or been deleted")]
    NotFound {
        /// Type for `ResourceInfo`.
        kind: &'static str,
        /// What was named.
        name: String,
    },
    /// The path is outside what the operator opened.
    #[error("the path is not allowed: {0}")]
    Blocked(&'static str),
    /// Decoders cannot be locked in on this system, and the source is a stranger's.
    #[error("the server cannot lock decoders in ({gap}): it takes files of its media roots only")]
    Unsandboxed {
        /// What is missing.
        gap: String,
    },
    /// The `request_id` belongs to another upload.
    #[error("request_id {0} was used for a different upload: use a new one")]
    RequestIdReused(String),
    /// The bytes are not a video that can be used.
    #[error("{0}")]
    Media(#[from] DecodeError),
    /// The URL cannot be fetched.
    #[error("{0}")]
    Fetch(#[from] FetchError),
    /// The store failed or refused.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A chunk is not the next one.
    #[error(
        "the upload stands at byte {expected} and the chunk begins at {actual}: ask GetUpload where to go on"
    )]
    Offset {
        /// Bytes there are.
        expected: u64,
        /// Offset of the chunk.
        actual: u64,
    },
    /// A checksum does not fit.
    #[error("{what} does not match the bytes: send them again")]
    Digest {
        /// Which one.
        what: &'static str,
    },
    /// The upload ended before its last byte; what came is kept.
    #[error("the upload has {committed} of {total} bytes: send the rest with the same request_id")]
    Incomplete {
        /// Bytes there are.
        committed: u64,
        /// Bytes announced.
        total: u64,
    },
    /// Somebody else sends the same upload.
    #[error("another connection is sending the upload with this request_id")]
    InProgress,
    /// More bytes than one upload may have.
    #[error("the upload has more than {limit} bytes: cut or re-encode it")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// The server's space for media is used up.
    #[error("the server keeps at most {limit} bytes of media: delete some, or wait until some expire")]
    Quota {
        /// Bytes allowed.
        limit: u64,
    },
    /// The client sent nothing for too long.
    #[error("no message came for {0:?}: go on with the same request_id")]
    Silent(std::time::Duration),
    /// The plan failed.
    #[error("{0}")]
    Plan(Box<dyn ServiceError + Send + Sync>),
    /// The disk failed.
    #[error("use the data folder: {0}")]
    Io(#[from] io::Error),
    /// The caller went away.
    #[error("cancelled")]
    Cancelled,
}

/// What a caller can do about a source that does not decode.
fn kind_from_decode(error: &DecodeError) -> ErrorKind {
    match error {
        DecodeError::NotFound => ErrorKind::NotFound,
        DecodeError::Unreadable { .. } => match error.reason() {
            reason::SOURCE_UNREACHABLE | reason::SOURCE_TIMEOUT | reason::SOURCE_CHANGED => {
                ErrorKind::Unavailable
            }
            reason::SOURCE_BLOCKED_BY_POLICY => ErrorKind::PolicyDenied,
            reason::SOURCE_TOO_LARGE => ErrorKind::InvalidInput,
            _ => ErrorKind::FailedPrecondition,
        },
        DecodeError::Cancelled => ErrorKind::Cancelled,
        DecodeError::InvalidFrames { .. } | DecodeError::Internal { .. } => ErrorKind::Internal,
        DecodeError::Crashed { .. } | DecodeError::TimedOut { .. } => ErrorKind::Unavailable,
        _ => ErrorKind::InvalidInput,
    }
}

impl ServiceError for CatalogError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::Digest { .. } | Self::TooLarge { .. } => ErrorKind::InvalidInput,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Blocked(_) | Self::Unsandboxed { .. } => ErrorKind::PolicyDenied,
            Self::RequestIdReused(_) => ErrorKind::AlreadyExists,
            Self::Media(error) => kind_from_decode(error),
            Self::Fetch(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Offset { .. } | Self::Incomplete { .. } => ErrorKind::FailedPrecondition,
            Self::InProgress | Self::Silent(_) => ErrorKind::Aborted,
            Self::Quota { .. } => ErrorKind::Exhausted,
            Self::Plan(error) => error.kind(),
            Self::Io(_) => ErrorKind::Internal,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => reason::INVALID_REQUEST,
            Self::NotFound { .. } => reason::NOT_FOUND,
            Self::Blocked(_) => reason::SOURCE_BLOCKED_BY_POLICY,
            Self::Unsandboxed { .. } => reason::SANDBOX_UNAVAILABLE,
            Self::RequestIdReused(_) => reason::REQUEST_ID_REUSED,
            Self::Media(error) => error.reason(),
            Self::Fetch(error) => error.reason(),
            Self::Store(error) => error.reason(),
            Self::Offset { .. } => reason::UPLOAD_OFFSET_MISMATCH,
            Self::Digest { .. } => reason::DIGEST_MISMATCH,
            Self::Incomplete { .. } | Self::Silent(_) => reason::UPLOAD_INCOMPLETE,
            Self::InProgress => reason::UPLOAD_IN_PROGRESS,
            Self::TooLarge { .. } => reason::SOURCE_TOO_LARGE,
            Self::Quota { .. } => reason::QUOTA_EXCEEDED,
            Self::Plan(error) => error.reason(),
            Self::Io(_) => reason::INTERNAL,
            Self::Cancelled => reason::CANCELLED,
        }
    }

    fn details(&self) -> Details {
        let mut details = Details::default();
        match self {
            Self::Invalid { field, .. } => details.field = Some((*field).into()),
            Self::NotFound { kind, name } => details.resource = Some((kind, name.clone())),
            Self::RequestIdReused(id) => details.resource = Some(("request_id", id.clone())),
            Self::Media(DecodeError::NotFound) => details.resource = Some(("file", String::new())),
            Self::Media(_) | Self::Blocked(_) => details.field = Some("source".into()),
            Self::Fetch(error) => return error.details(),
            Self::Store(error) => return error.details(),
            Self::Plan(error) => return error.details(),
            Self::Offset { expected, .. } => details.metadata.push(("committed_bytes", expected.to_string())),
            Self::Incomplete { committed, .. } => {
                details.metadata.push(("committed_bytes", committed.to_string()));
            }
            Self::Digest { what } => details.field = Some((*what).into()),
            Self::TooLarge { limit } | Self::Quota { limit } => {
                details.metadata.push(("limit_bytes", limit.to_string()));
            }
            _ => {}
        }
        details
    }
}
