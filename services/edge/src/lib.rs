//! What every endpoint shares: deadlines, request ids, admission, panics, response streams, error to status.
//!
//! Owns: [`EdgeLayer`] (in front of all services of a listener), the [`RequestContext`] that it leaves in the request,
//! [`event_stream`] (a response stream whose drop cancels the work behind it), [`KeyedLocks`], and [`report`], where
//! errors become statuses and internal ones are logged, once. Does not own: any service. Starts one task per response
//! stream, tracked by the caller's `TaskTracker`.
//!
//! ```
//! use reelsight_edge::parse_grpc_timeout;
//! assert_eq!(parse_grpc_timeout("250m"), Some(std::time::Duration::from_millis(250)));
//! ```

mod context;
mod error;
mod layer;
mod locks;
mod stream;

pub use context::{RequestContext, parse_grpc_timeout};
pub use error::{EdgeError, report};
pub use layer::{EdgeConfig, EdgeLayer, EdgeService};
pub use locks::{KeyGuard, KeyedLocks};
pub use stream::{EventSink, EventStream, SinkClosed, event_stream};
