//! Encode, prefill, decode: the inference engine.

mod api;
mod engine;
mod error;
mod session;

pub use api::*;
pub use engine::Engine;
pub use error::EngineError;
pub use session::SessionKv;
