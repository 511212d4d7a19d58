//! Which frames to look at: pure functions over a timeline.
//!
//! Owns the sampling rules of the product ([`Rule`]) and where shots end ([`ShotDetector`], [`ContentDetector`]). Does
//! not own what a timeline is (`reelsight-media`) or how the frames are decoded (`reelsight-decode`). Starts no threads.

mod rule;
mod shots;
mod smolvlm;
mod uniform;

pub use rule::{Rule, Sampled, SamplingError, sample};
pub use shots::{ContentDetector, ShotDetector, ShotError, Transition, shots};
