//! ONNX Runtime: library discovery, sessions on their own threads.
//!
//! Owns: finding and loading the shared library ([`runtime`]), sessions ([`Session`]), tensors that move between them
//! without copies ([`Tensor`]), what graphs take and give ([`Port`]). The only crate that uses `ort`.
//! Does not own: what any graph means. Starts one thread per [`Session`], named `ort-<name>`.
//!
//! # Gotchas of ort 2.0.0-rc.15
//! * A relative library path is tried beside the executable first: paths are made absolute ([`find_library`]).
//! * Builders return errors that are not `Send`: sessions are built in functions that return `ort::Result`.
//! * `Session::run` takes `&mut self`, on purpose: one thread owns one session.
//! * Zero-length tensors cannot be made from Rust memory: [`Tensor::empty`] asks ONNX Runtime for them.
//! * Execution providers fail silently unless told otherwise:
//!   [`Runtime::execution_providers_that_really_load`] registers them with `error_on_failure`.
//!
//! ```no_run
//! use reelsight_ort::{Session, SessionOptions, Tensor, runtime};
//! let options = SessionOptions { name: "embed".into(), intra_threads: 1, queue: 4 };
//! let session = Session::load(runtime(None)?, "onnx/embed_tokens.onnx".as_ref(), &options)?;
//! let ids = Tensor::from_i64(&[1, 2], vec![1, 5])?;
//! let mut outputs = session.run(vec![("input_ids".into(), ids)], &|| false)?;
//! println!("{:?}", outputs.take("inputs_embeds")?.shape());
//! # Ok::<(), reelsight_ort::OrtError>(())
//! ```

mod buffer;
mod error;
pub mod graph;
mod library;
mod local;
mod runtime;
mod session;
mod tensor;

pub use buffer::Buffer;
pub use error::OrtError;
pub use library::find_library;
pub use local::{InPlace, LocalSession, Stopper};
pub use runtime::{Device, Provider, Runtime, runtime};
pub use session::{Outputs, Port, Session, SessionOptions};
pub use tensor::{Element, Tensor};
