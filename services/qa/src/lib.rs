//! Questions about files and sessions.
//!
//! Owns: validation, admission, the life of an ask (open, index, plan, queue, stream, result), sessions, idempotency, operations; the services `QaService` and `google.longrunning.Operations`.
//! Does not own: sources (catalog), frames (decode), inference and the KV states of sessions (engine).
//!
//! An ask is one future: dropping it, by a client that goes away, a deadline or a shutdown, drops the engine's handle
//! and the decoder's flag, and so frees everything. Starts one task per response stream and per operation, all in one
//! `TaskTracker`. Queues: asks (running + waiting, [`QaLimits::max_active`] + [`QaLimits::max_queued`], surplus is
//! refused), operations ([`QaLimits::max_operations`], surplus is refused).
//!
//! ```
//! let limits = reelsight_qa::QaLimits::default();
//! assert!(limits.max_active + limits.max_queued > 0, "asks beyond these are refused, not kept");
//! ```

mod accept;
mod ask;
mod convert;
mod error;
mod forms;
mod headers;
mod job;
mod models;
mod operations;
mod operations_service;
mod prepare;
mod progress;
mod qa;
mod remember;
mod service;
mod sessions;
mod validate;

pub use error::QaError;
pub use models::Models;
pub use operations_service::OperationsService;
pub use qa::{Parts, Qa, QaLimits};
