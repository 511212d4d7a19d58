//! Questions about files and sessions.
//!
//! Owns: validation, admission, the life of an ask (open, index, plan, queue, stream, result), sessions and their
//! bounded cache of KV states, idempotency, operations; the services `QaService` and `google.longrunning.Operations`.
//! Does not own: sources (catalog), frames (decode), inference (engine).
//!
//! An ask is one future: dropping it, by a client that goes away, a deadline or a shutdown, drops the engine's handle
//! and the decoder's flag, and so frees everything. Starts one task per response stream and per operation, all in one
//! `TaskTracker`. Queues: asks (running + waiting, [`QaLimits::max_active`] + [`QaLimits::max_queued`], surplus is
//! refused), operations ([`QaLimits::max_operations`], surplus is refused).
//!
//! ```
//! let cache = reelsight_qa::KvCache::new(100);
//! cache.put("one", "state", 60);
//! cache.put("two", "state", 60);
//! assert!(cache.get("one").is_none() && cache.get("two").is_some(), "bounded by bytes");
//! ```

mod accept;
mod ask;
mod convert;
mod error;
mod forms;
mod job;
mod kv_cache;
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
pub use kv_cache::KvCache;
pub use models::Models;
pub use operations_service::OperationsService;
pub use qa::{Parts, Qa, QaLimits};
