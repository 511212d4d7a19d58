//! The one way from an error to a [`tonic::Status`].

use std::{collections::HashMap, error::Error, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation, StatusExt as _};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "reelsight.dev";

/// What the caller should do about an error. Closed on purpose: each has one code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Send something else.
    InvalidInput,
    /// Name something that exists.
    NotFound,
    /// Use a new id.
    AlreadyExists,
    /// Ask the operator.
    PolicyDenied,
    /// Change the state of the server first.
    FailedPrecondition,
    /// Wait and try again.
    Exhausted,
    /// Try again.
    Unavailable,
    /// Something else did the same at the same time: look, then try again.
    Aborted,
    /// Nothing: the caller asked for it.
    Cancelled,
    /// Allow more time.
    DeadlineExceeded,
    /// Call something that exists.
    UnknownMethod,
    /// Tell the operator.
    Internal,
}

impl ErrorKind {
    /// The only table from kinds to codes.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::InvalidInput => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::AlreadyExists => Code::AlreadyExists,
            Self::PolicyDenied => Code::PermissionDenied,
            Self::FailedPrecondition => Code::FailedPrecondition,
            Self::Exhausted => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::Aborted => Code::Aborted,
            Self::Cancelled => Code::Cancelled,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::UnknownMethod => Code::Unimplemented,
            Self::Internal => Code::Internal,
        }
    }
}

/// What goes into the `google.rpc` details beside the reason. Fill what the kind asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Path of the field that is wrong, for example `generation.temperature`.
    pub field: Option<String>,
    /// Type and name of what is missing or exists already, for example `("reelsight.v1.Media", "media/1")`.
    pub resource: Option<(&'static str, String)>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Machine-readable facts, for example `("limit", "34")`.
    pub metadata: Vec<(&'static str, String)>,
}

/// An error that may leave a service.
pub trait ServiceError: Error {
    /// What the caller should do.
    fn kind(&self) -> ErrorKind;
    /// One of [`crate::reason`].
    fn reason(&self) -> &'static str;
    /// Facts for the details.
    fn details(&self) -> Details {
        Details::default()
    }
}

/// The status of `error`. Internal errors give nothing away; whoever calls this logs them.
#[must_use]
pub fn status_from_error(error: &dyn ServiceError, request_id: &str) -> Status {
    let (kind, reason) = (error.kind(), error.reason());
    let message = match kind {
        ErrorKind::Internal => format!("internal error; the server's log has it under request {request_id}"),
        _ => error.to_string(),
    };
    let facts = error.details();
    let mut details = ErrorDetails::new();
    let metadata: HashMap<String, String> = facts
        .metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()))
        .collect();
    details.set_error_info(reason, DOMAIN, metadata);
    if !request_id.is_empty() {
        details.set_request_info(request_id, "");
    }
    let (resource_type, resource_name) = facts.resource.clone().unwrap_or(("", String::new()));
    match kind {
        ErrorKind::InvalidInput => {
            let field = facts.field.unwrap_or_default();
            details.set_bad_request(vec![FieldViolation::new(field, message.clone())]);
        }
        ErrorKind::Exhausted => {
            details.set_quota_failure(vec![QuotaViolation::new(reason, message.clone())]);
            details.set_retry_info(Some(facts.retry_after.unwrap_or(Duration::from_secs(1))));
        }
        ErrorKind::FailedPrecondition => {
            details.set_precondition_failure(vec![PreconditionViolation::new(
                reason,
                resource_name,
                message.clone(),
            )]);
        }
        ErrorKind::NotFound | ErrorKind::AlreadyExists => {
            details.set_resource_info(resource_type, resource_name, "", message.clone());
        }
        ErrorKind::Unavailable | ErrorKind::Aborted => {
            details.set_retry_info(Some(facts.retry_after.unwrap_or(Duration::from_secs(1))));
        }
        ErrorKind::PolicyDenied
        | ErrorKind::Cancelled
        | ErrorKind::DeadlineExceeded
        | ErrorKind::UnknownMethod
        | ErrorKind::Internal => {}
    }
    Status::with_error_details(kind.code(), message, details)
}

/// `status` as an operation holds it.
#[must_use]
pub fn rpc_status_from_status(status: &Status) -> crate::google::rpc::Status {
    use prost::Message as _;
    // Details travel as an encoded google.rpc.Status; a status without them has only code and message.
    match crate::google::rpc::Status::decode(status.details()) {
        Ok(decoded) if decoded.code != 0 => decoded,
        _ => crate::google::rpc::Status {
            code: i32::from(status.code()),
            message: status.message().to_owned(),
            details: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason;

    #[derive(Debug, thiserror::Error)]
    #[error("question must not be empty")]
    struct Sample(ErrorKind);

    impl ServiceError for Sample {
        fn kind(&self) -> ErrorKind {
            self.0
        }
        fn reason(&self) -> &'static str {
            reason::INVALID_REQUEST
        }
        fn details(&self) -> Details {
            Details {
                field: Some("question".into()),
                resource: Some(("reelsight.v1.Media", "media/1".into())),
                metadata: vec![("limit", "8192".into())],
                ..Details::default()
            }
        }
    }

    #[test]
    fn every_kind_carries_the_details_that_clients_rely_on() {
        for kind in [
            ErrorKind::InvalidInput,
            ErrorKind::NotFound,
            ErrorKind::Exhausted,
            ErrorKind::FailedPrecondition,
            ErrorKind::Unavailable,
            ErrorKind::DeadlineExceeded,
        ] {
            let status = status_from_error(&Sample(kind), "r1");
            assert_eq!(status.code(), kind.code());
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!(
                (info.domain.as_str(), info.reason.as_str()),
                (DOMAIN, "INVALID_REQUEST")
            );
            assert_eq!(info.metadata["limit"], "8192");
            assert_eq!(details.request_info().unwrap().request_id, "r1");
            assert_eq!(details.bad_request().is_some(), kind == ErrorKind::InvalidInput);
            assert_eq!(details.quota_failure().is_some(), kind == ErrorKind::Exhausted);
            assert_eq!(
                details.precondition_failure().is_some(),
                kind == ErrorKind::FailedPrecondition
            );
            assert_eq!(details.resource_info().is_some(), kind == ErrorKind::NotFound);
            assert_eq!(
                details.retry_info().is_some(),
                matches!(kind, ErrorKind::Exhausted | ErrorKind::Unavailable)
            );
            let rpc = rpc_status_from_status(&status);
            assert_eq!(
                (rpc.code, rpc.message.as_str()),
                (i32::from(kind.code()), status.message())
            );
            assert!(!rpc.details.is_empty());
        }
    }

    #[test]
    fn internal_errors_give_nothing_away() {
        let status = status_from_error(&Sample(ErrorKind::Internal), "r2");
        assert!(!status.message().contains("question"));
        assert!(status.message().contains("r2"));
    }
}
