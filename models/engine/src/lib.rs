//! Encode, prefill, decode: the inference engine.
//!
//! Owns: which frames a model is shown ([`Engine::plan`]), the queue of asks, the overlapped pipeline from frames to a
//! prefilled prompt, the KV cache and its life between questions ([`SessionKv`]), generation, evidence.
//! Does not own: where frames come from ([`reelsight_media::FrameSource`]), prompts (`reelsight-families`), graphs'
//! execution (`reelsight-ort`), the wire.
//!
//! # Threads
//! `ort-<graph>` (one per graph: three per engine, a fourth for models with a grounding graph), `ask-<n>` (one per
//! active ask), `ask-queue`; per running ask on a video `frames-<job>`, `pixels-<job>` and `encode-<job>`, joined before
//! the ask ends. All queues between them are bounded.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use reelsight_engine::{Engine, EngineConfig, SamplingRequest};
//! use reelsight_registry::ModelFolder;
//! # let config: EngineConfig = unreachable!();
//! # let timeline: reelsight_media::Timeline = unreachable!();
//! let engine = Engine::load(&ModelFolder::open("models/zoo/reelsight-tiny".as_ref())?, config)?;
//! let plan = engine.plan(&timeline, &SamplingRequest::default(), "What is shown?", 0)?;
//! println!("{} frames, {} visual tokens", plan.frames.len(), plan.visual_tokens);
//! # Ok(())
//! # }
//! ```

mod api;
mod control;
mod engine;
mod error;
mod events;
mod evidence;
mod generate;
mod graphs;
mod job;
mod kv;
mod model;
mod options;
mod pipeline;
mod plan;
mod queue;
mod sampling;
mod sequence;
mod session;
#[cfg(test)]
mod tests;
mod watch;

pub use api::*;
pub use engine::Engine;
pub use error::EngineError;
pub use options::{GenerationOptions, TokenLogprob};
pub use session::SessionKv;
