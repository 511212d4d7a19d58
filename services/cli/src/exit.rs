//! How a command fails: one sentence, a stable reason, and the exit code that scripts can rely on.

use std::{fmt, process::ExitCode};

use reelsight_decode::DecodeError;
use reelsight_engine::EngineError;
use reelsight_media::FrameErrorKind;

/// What went wrong, by what the person can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: FailureKind,
    reason: String,
    message: String,
}

/// The exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Whoever read standard output went away: there is nobody to tell.
    Unread = 0,
    Internal = 1,
    Usage = 2,
    Input = 3,
    Unavailable = 4,
    Setup = 5,
    Interrupted = 130,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, reason: impl Into<String>, message: impl fmt::Display) -> Self {
        Self {
            kind,
            reason: reason.into(),
            message: message.to_string(),
        }
    }

    pub(crate) fn input(reason: impl Into<String>, message: impl fmt::Display) -> Self {
        Self::new(FailureKind::Input, reason, message)
    }

    /// Options that do not go together.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(FailureKind::Usage, "INVALID_USAGE", message)
    }

    /// Standard output cannot be written.
    pub(crate) fn from_stdout(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(FailureKind::Unread, "BROKEN_PIPE", error);
        }
        Self::input(
            "OUTPUT_UNWRITABLE",
            format!("cannot write standard output: {error}"),
        )
    }

    /// Prints the failure (as a JSON document when the command prints JSON) and gives the exit code.
    #[expect(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "this is the command line's error output"
    )]
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if self.kind == FailureKind::Unread {
            return ExitCode::SUCCESS;
        }
        if json {
            println!(
                "{}",
                serde_json::json!({"error": {"reason": self.reason, "message": self.message}})
            );
        }
        eprintln!("error: {} [{}]", self.message, self.reason);
        ExitCode::from(self.kind as u8)
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        let kind = match error {
            DecodeError::Cancelled => FailureKind::Interrupted,
            DecodeError::Crashed { .. } | DecodeError::TimedOut { .. } => FailureKind::Unavailable,
            DecodeError::Internal { .. } => FailureKind::Internal,
            _ => FailureKind::Input,
        };
        Self::new(kind, error.reason(), error)
    }
}

impl From<reelsight_media::FrameError> for Failure {
    fn from(error: reelsight_media::FrameError) -> Self {
        let kind = match error.kind {
            FrameErrorKind::Media => FailureKind::Input,
            FrameErrorKind::Cancelled => FailureKind::Interrupted,
            FrameErrorKind::Io => FailureKind::Unavailable,
        };
        Self::new(kind, error.reason, error)
    }
}

impl From<reelsight_sampling::SamplingError> for Failure {
    fn from(error: reelsight_sampling::SamplingError) -> Self {
        Self::input("INVALID_SAMPLING", error)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Model { .. } => Self::new(FailureKind::Setup, "MODEL_NOT_LOADED", error),
            other => Self::new(FailureKind::Internal, "INTERNAL", other),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(FailureKind::Internal, "IO", error)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        use tonic_types::StatusExt as _;
        let reason = status
            .get_details_error_info()
            .map_or_else(|| format!("{:?}", status.code()), |info| info.reason);
        let kind = match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::PermissionDenied | Code::FailedPrecondition => {
                FailureKind::Input
            }
            Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded => FailureKind::Unavailable,
            Code::Cancelled => FailureKind::Interrupted,
            _ => FailureKind::Internal,
        };
        Self::new(kind, reason, status.message())
    }
}
