//! Failures that belong to no service, and the place where errors leave.

use std::{fmt::Write as _, time::Duration};

use reelsight_proto::{
    reason,
    status::{Details, ErrorKind, ServiceError, status_from_error},
};
use tonic::Status;

use crate::RequestContext;

/// Why a request was stopped at the edge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeError {
    /// As many requests run as the server takes.
    #[error("{limit} requests are running already: try again later")]
    Overloaded {
        /// How many may run.
        limit: usize,
    },
    /// The server shuts down.
    #[error("the server is shutting down: try again, or try another one")]
    Draining,
    /// The deadline passed.
    #[error("the deadline passed {}: allow more time", if *.started { "while the request was worked on" } else { "before the request could start" })]
    DeadlineExceeded {
        /// Whether work had begun.
        started: bool,
    },
    /// The caller went away.
    #[error("the caller cancelled the request")]
    Cancelled,
    /// The caller does not read its stream.
    #[error("the stream was not read for {0:?}: read it as it comes")]
    ClientTooSlow(Duration),
    /// `grpc-timeout` is malformed.
    #[error("the grpc-timeout header is malformed")]
    BadTimeout,
    /// The message is larger than the server takes.
    #[error("the message is larger than the server takes: send large media with MediaService.UploadMedia")]
    MessageTooLarge,
    /// The bytes are not the message that the method takes.
    #[error("the message cannot be decoded: is it made from this server's contract?")]
    MessageMalformed,
    /// There is no such service or method here.
    #[error(
        "there is no such method on this listener, or the message is compressed, which is not offered: see reflection"
    )]
    UnknownMethod,
    /// A bug.
    #[error("the request's task panicked")]
    Panicked,
}

impl ServiceError for EdgeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Overloaded { .. } => ErrorKind::Exhausted,
            Self::Draining => ErrorKind::Unavailable,
            Self::DeadlineExceeded { .. } => ErrorKind::DeadlineExceeded,
            Self::Cancelled | Self::ClientTooSlow(_) => ErrorKind::Cancelled,
            Self::BadTimeout | Self::MessageTooLarge | Self::MessageMalformed => ErrorKind::InvalidInput,
            Self::UnknownMethod => ErrorKind::UnknownMethod,
            Self::Panicked => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => reason::QUEUE_FULL,
            Self::Draining => reason::DRAINING,
            Self::DeadlineExceeded { started: true } => reason::DEADLINE_EXCEEDED,
            Self::DeadlineExceeded { started: false } => reason::DEADLINE_BEFORE_START,
            Self::Cancelled => reason::CANCELLED,
            Self::ClientTooSlow(_) => reason::CLIENT_TOO_SLOW,
            Self::BadTimeout => reason::INVALID_REQUEST,
            Self::MessageTooLarge => reason::MESSAGE_TOO_LARGE,
            Self::MessageMalformed => reason::MESSAGE_MALFORMED,
            Self::UnknownMethod => reason::UNKNOWN_METHOD,
            Self::Panicked => reason::INTERNAL,
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Overloaded { limit } => Details {
                metadata: vec![("limit", limit.to_string())],
                ..Details::default()
            },
            Self::BadTimeout => Details {
                field: Some("grpc-timeout".into()),
                ..Details::default()
            },
            _ => Details::default(),
        }
    }
}

/// The status of `error` for the caller. Internal errors are logged here with their causes, and only here.
#[must_use]
pub fn report(error: &dyn ServiceError, context: &RequestContext) -> Status {
    if error.kind() == ErrorKind::Internal {
        let mut chain = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            // Writing to a string cannot fail.
            write!(chain, ": {next}").ok();
            cause = next.source();
        }
        tracing::error!(request_id = context.request_id(), error = chain, "request failed");
    } else {
        let (reason, message) = (error.reason(), error.to_string());
        tracing::debug!(
            request_id = context.request_id(),
            reason,
            message,
            "request refused"
        );
    }
    status_from_error(error, context.request_id())
}
