//! Resize and normalise exactly as the reference processors do.
//!
//! Owns byte-exact resampling of packed RGB ([`resize_rgb`], [`resize_rgb_like_torch`]) and the pixel side of each family's processor
//! ([`SmolVlmPreprocess`]). Does not own which frames are taken (`reelsight-sampling`) or prompts. Starts no threads of
//! its own; large images use the global rayon pool.

mod error;
mod resize;
mod smolvlm;

pub use error::PreprocessError;
pub use resize::{Filter, resize_rgb, resize_rgb_like_torch};
pub use smolvlm::{PixelTensor, SmolVlmPreprocess};
