//! Encode, prefill, decode: the inference engine.

mod api;
mod error;
mod session;

pub use api::*;
pub use error::EngineError;
pub use session::SessionKv;
