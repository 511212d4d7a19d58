//! Everything that can go wrong in an ask, by what the caller should do about it.

use std::{fmt, time::Duration};

use reelsight_media::FrameError;
use reelsight_ort::OrtError;

/// Why an ask or a load failed. Messages read after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Active and waiting asks are at their limit.
    #[error("queue full: {limit} asks are running or waiting")]
    QueueFull {
        /// `max_active + max_queued`.
        limit: usize,
        /// A guess at when a place is free.
        retry_after: Duration,
    },
    /// The prompt does not fit, even with one frame.
    #[error(
        "prompt of {actual} tokens exceeds the context of {limit}; shorten the question or start a new session"
    )]
    ContextExceeded {
        /// Tokens that fit.
        limit: usize,
        /// Tokens that were asked for.
        actual: usize,
    },
    /// The request itself is wrong.
    #[error("{message}")]
    InvalidInput {
        /// Path of the field, for example `generation.temperature`.
        field: &'static str,
        /// What to do.
        message: String,
    },
    /// The frame source failed.
    #[error("read frames: {0}")]
    Frames(#[from] FrameError),
    /// The caller raised the cancel flag or dropped the handle.
    #[error("cancelled")]
    Cancelled,
    /// The deadline passed.
    #[error("deadline exceeded")]
    DeadlineExceeded {
        /// Whether the job had left the queue.
        started: bool,
    },
    /// The device (or the host) has no memory left for this.
    #[error("out of memory: {what}")]
    DeviceMemory {
        /// What was being allocated.
        what: String,
    },
    /// The model gives no numbers to choose a token by: its weights, or this precision of them, are broken.
    #[error(
        "the model's logits at token {position} of the answer are not numbers; load its fp32 variant, or check the model"
    )]
    BadLogits {
        /// Place in the answer.
        position: usize,
    },
    /// The JSON schema cannot be enforced.
    #[error("the schema{} cannot be used: {message}", at(pointer))]
    SchemaInvalid {
        /// JSON pointer of the part that is wrong; empty for the whole.
        pointer: String,
        /// What is wrong with it.
        message: String,
    },
    /// The answer ended before it was valid JSON.
    #[error(
        "the answer was not complete JSON after {tokens} tokens: raise generation.max_tokens, or bound the schema \
         (maxLength, maxItems)"
    )]
    SchemaUnsatisfied {
        /// Tokens of the answer.
        tokens: usize,
    },
    /// The model folder cannot be used.
    #[error("{message}")]
    Model {
        /// What is missing or wrong and what to do.
        message: String,
    },
    /// A bug, or ONNX Runtime failed in a way that the caller cannot help.
    #[error("internal: {message}")]
    Internal {
        /// For the log, not for the caller.
        message: String,
    },
}

impl From<OrtError> for EngineError {
    fn from(error: OrtError) -> Self {
        match error {
            OrtError::Stopped => Self::Cancelled,
            OrtError::OutOfMemory { session, .. } => Self::DeviceMemory { what: session },
            other => Self::internal(&other),
        }
    }
}

impl EngineError {
    /// Of a cause that only the log should see.
    pub(crate) fn internal(cause: &impl fmt::Display) -> Self {
        Self::Internal {
            message: cause.to_string(),
        }
    }

    /// Of a cause that lies in the model's folder.
    pub(crate) fn model(cause: &impl fmt::Display) -> Self {
        Self::Model {
            message: cause.to_string(),
        }
    }
}

/// Where in a schema, for people.
fn at(pointer: &str) -> String {
    if pointer.is_empty() {
        String::new()
    } else {
        format!(" at {pointer}")
    }
}
