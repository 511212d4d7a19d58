//! Why a question is not answered.

use std::sync::Arc;

use reelsight_catalog::CatalogError;
use reelsight_edge::{EdgeError, SinkClosed};
use reelsight_engine::EngineError;
use reelsight_media::FrameErrorKind;
use reelsight_proto::{
    reason,
    status::{Details, ErrorKind, ServiceError},
};
use reelsight_store::StoreError;

/// By what the caller should do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QaError {
    /// A field is wrong.
    #[error("{message}")]
    Invalid {
        /// Its path.
        field: &'static str,
        /// What to do.
        message: String,
    },
    /// There is no such session or operation.
    #[error("there is no {name}: it may have expired or been deleted")]
    NotFound {
        /// Type for `ResourceInfo`.
        kind: &'static str,
        /// What was named.
        name: String,
    },
    /// The server has no such model.
    #[error("model {0:?} is not loaded here: leave generation.model empty, or start the server with it")]
    UnknownModel(String),
    /// The server has no model at all.
    #[error("no model is loaded: start the server with --model")]
    NoModel,
    /// The session's time is over.
    #[error("{0} has expired: ask about the source again")]
    SessionExpired(String),
    /// The source of the session is not what it was.
    #[error("the file behind {0} has changed: ask about it in a new session")]
    SourceChanged(String),
    /// The `request_id` belongs to another request.
    #[error("request_id {0} was used for a different request: use a new one")]
    RequestIdReused(String),
    /// As many asks run and wait as the server takes.
    #[error("{limit} asks are running or waiting: try again later")]
    QueueFull {
        /// How many.
        limit: usize,
        /// A guess at when a place is free.
        retry_after: std::time::Duration,
    },
    /// The operation still runs.
    #[error("{0} is still running: cancel it first")]
    OperationRunning(String),
    /// The server was restarted meanwhile.
    #[error("the server was restarted while the operation ran: submit it again")]
    Restarted,
    /// The source cannot be used.
    #[error("{0}")]
    Source(#[from] CatalogError),
    /// The engine refused or failed.
    #[error("{0}")]
    Engine(Arc<EngineError>),
    /// Stopped at the edge.
    #[error("{0}")]
    Edge(#[from] EdgeError),
    /// The store failed or refused.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A bug.
    #[error("internal: {0}")]
    Internal(&'static str),
}

impl From<Arc<EngineError>> for QaError {
    fn from(error: Arc<EngineError>) -> Self {
        Self::Engine(error)
    }
}

impl From<EngineError> for QaError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Arc::new(error))
    }
}

impl From<SinkClosed> for QaError {
    fn from(closed: SinkClosed) -> Self {
        Self::Edge(closed.into())
    }
}

impl QaError {
    /// Whether it is the model that cannot answer, whatever it is asked.
    pub(crate) fn is_model_broken(&self) -> bool {
        matches!(self, Self::Engine(error) if matches!(**error, EngineError::BadLogits { .. }))
    }
}

fn kind_from_engine(error: &EngineError) -> ErrorKind {
    match error {
        EngineError::QueueFull { .. } | EngineError::DeviceMemory { .. } => ErrorKind::Exhausted,
        EngineError::ContextExceeded { .. }
        | EngineError::InvalidInput { .. }
        | EngineError::SchemaInvalid { .. }
        | EngineError::SchemaUnsatisfied { .. } => ErrorKind::InvalidInput,
        EngineError::Frames(frames) => match frames.kind {
            FrameErrorKind::Media => ErrorKind::InvalidInput,
            FrameErrorKind::Cancelled => ErrorKind::Cancelled,
            FrameErrorKind::Io => ErrorKind::Unavailable,
        },
        EngineError::Cancelled => ErrorKind::Cancelled,
        EngineError::DeadlineExceeded { .. } => ErrorKind::DeadlineExceeded,
        EngineError::Model { .. } | EngineError::BadLogits { .. } => ErrorKind::FailedPrecondition,
        _ => ErrorKind::Internal,
    }
}

fn reason_from_engine(error: &EngineError) -> &'static str {
    match error {
        EngineError::QueueFull { .. } => reason::QUEUE_FULL,
        EngineError::DeviceMemory { .. } => reason::DEVICE_MEMORY,
        EngineError::ContextExceeded { .. } => reason::CONTEXT_EXCEEDED,
        EngineError::InvalidInput { .. } => reason::INVALID_REQUEST,
        EngineError::SchemaInvalid { .. } => reason::SCHEMA_INVALID,
        EngineError::SchemaUnsatisfied { .. } => reason::SCHEMA_UNSATISFIED,
        EngineError::Frames(frames) => frames.reason,
        EngineError::Cancelled => reason::CANCELLED,
        EngineError::DeadlineExceeded { started: true } => reason::DEADLINE_EXCEEDED,
        EngineError::DeadlineExceeded { started: false } => reason::DEADLINE_BEFORE_START,
        EngineError::Model { .. } => reason::MODEL_NOT_LOADED,
        EngineError::BadLogits { .. } => reason::MODEL_BROKEN,
        _ => reason::INTERNAL,
    }
}

impl ServiceError for QaError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } => ErrorKind::InvalidInput,
            Self::NotFound { .. } | Self::UnknownModel(_) => ErrorKind::NotFound,
            Self::NoModel | Self::SessionExpired(_) | Self::SourceChanged(_) | Self::OperationRunning(_) => {
                ErrorKind::FailedPrecondition
            }
            Self::RequestIdReused(_) => ErrorKind::AlreadyExists,
            Self::QueueFull { .. } => ErrorKind::Exhausted,
            Self::Restarted => ErrorKind::Aborted,
            Self::Source(error) => error.kind(),
            Self::Engine(error) => kind_from_engine(error),
            Self::Edge(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => reason::INVALID_REQUEST,
            Self::NotFound { .. } => reason::NOT_FOUND,
            Self::UnknownModel(_) | Self::NoModel => reason::MODEL_NOT_LOADED,
            Self::SessionExpired(_) => reason::SESSION_EXPIRED,
            Self::SourceChanged(_) => reason::SOURCE_CHANGED,
            Self::OperationRunning(_) => reason::OPERATION_RUNNING,
            Self::RequestIdReused(_) => reason::REQUEST_ID_REUSED,
            Self::QueueFull { .. } => reason::QUEUE_FULL,
            Self::Restarted => reason::SERVER_RESTARTED,
            Self::Source(error) => error.reason(),
            Self::Engine(error) => reason_from_engine(error),
            Self::Edge(error) => error.reason(),
            Self::Store(error) => error.reason(),
            Self::Internal(_) => reason::INTERNAL,
        }
    }

    fn details(&self) -> Details {
        let mut details = Details::default();
        match self {
            Self::Invalid { field, .. } => details.field = Some((*field).into()),
            Self::NotFound { kind, name } => details.resource = Some((kind, name.clone())),
            Self::UnknownModel(name) => details.resource = Some(("reelsight.v1.Model", name.clone())),
            Self::SessionExpired(name) | Self::SourceChanged(name) => {
                details.resource = Some(("reelsight.v1.Session", name.clone()));
            }
            Self::OperationRunning(name) => {
                details.resource = Some(("google.longrunning.Operation", name.clone()));
            }
            Self::RequestIdReused(id) => details.resource = Some(("request_id", id.clone())),
            Self::QueueFull { limit, retry_after } => {
                details.metadata.push(("limit", limit.to_string()));
                details.retry_after = Some(*retry_after);
            }
            Self::Source(error) => return error.details(),
            Self::Edge(error) => return error.details(),
            Self::Store(error) => return error.details(),
            Self::Engine(error) => match &**error {
                EngineError::InvalidInput { field, .. } => details.field = Some((*field).into()),
                EngineError::SchemaInvalid { pointer, .. } => {
                    details.field = Some(format!("generation.json_schema{pointer}"));
                }
                EngineError::SchemaUnsatisfied { .. } => details.field = Some("generation.max_tokens".into()),
                EngineError::Frames(_) => details.field = Some("source".into()),
                EngineError::ContextExceeded { limit, actual } => {
                    details.field = Some("question".into());
                    details
                        .metadata
                        .extend([("limit", limit.to_string()), ("actual", actual.to_string())]);
                }
                EngineError::QueueFull { limit, retry_after } => {
                    details.metadata.push(("limit", limit.to_string()));
                    details.retry_after = Some(*retry_after);
                }
                _ => {}
            },
            _ => {}
        }
        details
    }
}
