//! Why a URL could not be fetched, by what the caller should do.

use std::time::Duration;

use reelsight_proto::{
    reason,
    status::{Details, ErrorKind, ServiceError},
};

/// Messages name hosts at most: never the path or query of a URL, never a header.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The URL or a header is malformed.
    #[error("{message}")]
    Invalid {
        /// Field of the request.
        field: &'static str,
        /// What to do.
        message: String,
    },
    /// The operator's policy forbids it.
    #[error("the source is not allowed: {what}")]
    Blocked {
        /// What is wrong with it.
        what: String,
    },
    /// No answer, or a useless one.
    #[error("the source cannot be reached: {what}")]
    Unreachable {
        /// What was seen.
        what: String,
    },
    /// The source has no such resource.
    #[error("the source answers {status}: check the URL")]
    NotThere {
        /// HTTP status.
        status: u16,
    },
    /// 401 or 403.
    #[error(
        "the source answers {status}: send credentials in source.request_headers, or for s3:// mend those of --s3-config"
    )]
    Auth {
        /// HTTP status.
        status: u16,
    },
    /// No trustworthy TLS connection.
    #[error("no trustworthy TLS connection to the source: {what}")]
    Tls {
        /// What was seen.
        what: String,
    },
    /// Connecting, a pause, or the whole took too long.
    #[error("the source is too slow: {what} took more than {limit:?}")]
    Timeout {
        /// Which part.
        what: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// More bytes than allowed.
    #[error("the source has more than {limit} bytes: cut or re-encode it")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// The bytes are no longer those that were read before.
    #[error("the source changed while it was read ({what}): ask again")]
    Changed {
        /// What was seen.
        what: String,
    },
    /// The temporary file could not be written.
    #[error("write the temporary file: {what}")]
    Disk {
        /// What the system said.
        what: String,
    },
}

impl FetchError {
    /// Whether the same request may succeed a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. })
    }
}

impl ServiceError for FetchError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::TooLarge { .. } => ErrorKind::InvalidInput,
            Self::Blocked { .. } => ErrorKind::PolicyDenied,
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Changed { .. } => ErrorKind::Unavailable,
            Self::NotThere { .. } => ErrorKind::NotFound,
            Self::Auth { .. } | Self::Tls { .. } => ErrorKind::FailedPrecondition,
            Self::Disk { .. } => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => reason::INVALID_REQUEST,
            Self::TooLarge { .. } => reason::SOURCE_TOO_LARGE,
            Self::Blocked { .. } => reason::SOURCE_BLOCKED_BY_POLICY,
            Self::Unreachable { .. } | Self::NotThere { .. } => reason::SOURCE_UNREACHABLE,
            Self::Timeout { .. } => reason::SOURCE_TIMEOUT,
            Self::Auth { .. } => reason::SOURCE_AUTH_FAILED,
            Self::Tls { .. } => reason::SOURCE_TLS,
            Self::Changed { .. } => reason::SOURCE_CHANGED,
            Self::Disk { .. } => reason::INTERNAL,
        }
    }

    fn details(&self) -> Details {
        let mut details = Details {
            field: Some("source.uri".into()),
            ..Details::default()
        };
        match self {
            Self::Invalid { field, .. } => details.field = Some((*field).into()),
            Self::TooLarge { limit } => details.metadata.push(("limit_bytes", limit.to_string())),
            Self::NotThere { status } | Self::Auth { status } => {
                details.metadata.push(("http_status", status.to_string()));
                details.resource = Some(("url", String::new()));
            }
            _ => {}
        }
        details
    }
}
