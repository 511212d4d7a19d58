//! Resize and normalise exactly as the reference processors do.
//!
//! Owns byte-exact resampling of packed RGB ([`resize_rgb`], [`resize_rgb_like_torch`]) and the pixel side of each
//! family's processor ([`SmolVlmPreprocess`], [`QwenVlPreprocess`], [`LlavaOnevisionPreprocess`]), for both libraries
//! behind the references ([`Backend`]). Does not own which frames are taken (`reelsight-sampling`) or prompts. Starts
//! no threads: whoever calls pays.

mod anyres;
mod backend;
mod error;
mod picture;
mod qwen_vl;
mod resize;
mod smolvlm;
mod tiles;

pub use anyres::{AnyRes, LlavaOnevisionPreprocess};
pub use backend::{Backend, Normalise};
pub use error::PreprocessError;
pub use picture::{PatchTensor, PixelTensor, VisionInput};
pub use qwen_vl::{QwenVlPreprocess, smart_resize};
pub use resize::{Filter, resize_rgb, resize_rgb_like_torch};
pub use smolvlm::SmolVlmPreprocess;
pub use tiles::Tiles;
