//! Encode, prefill, decode: the inference engine.
//!
//! Owns: which frames a model is shown ([`Engine::plan`]), the queue of asks, the overlapped pipeline from frames to a
//! prefilled prompt, the KV cache and its life between questions ([`SessionKv`]), generation, evidence.
//! Does not own: where frames come from ([`reelsight_media::FrameSource`]), prompts (`reelsight-families`), graphs'
//! execution (`reelsight-ort`), the wire.
//!
//! # Threads
//! `sched-<model>`: decides what the decoder does next and does it, for all asks; `ort-<graph>`: one per other graph; per
//! running ask on a video `frames-<ask>`, `pixels-<ask>` and `encode-<ask>`, told to stop when the ask ends and joined by
//! the scheduler. All queues between them are bounded.
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
mod ask;
mod choice;
mod constraint;
mod control;
mod draft;
mod engine;
mod error;
mod events;
mod evidence;
mod graphs;
mod kv;
mod metrics;
mod model;
mod options;
mod pipeline;
mod plan;
mod sampling;
mod scheduler;
mod session;
#[cfg(test)]
mod tests;
mod trace;

pub use api::*;
pub use constraint::Schema;
pub use engine::Engine;
pub use error::EngineError;
pub use kv::KvTier;
pub use metrics::{EngineMetrics, Summary};
pub use options::{AnswerForm, ChoiceScore, GenerationOptions, TokenLogprob};
pub use session::SessionKv;
pub use trace::TraceSpan;
