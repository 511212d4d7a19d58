//! One module per model family: tensor names, shapes, prompt layout.
//!
//! Owns: which family a folder is of ([`load`]), its prompt to the token ([`Family::prompt`]), its sampling rule and its
//! pixels. Does not own: graphs (their inputs are read from them), sampling itself, resampling. Starts no threads.
//!
//! A new family is one module that implements [`Family`] and one line in [`load`]; CONTRIBUTING.md shows how.

mod error;
mod family;
mod load;
mod numbers;
mod smolvlm;

pub use error::FamilyError;
pub use family::{Family, FrameSlot, Prompt, Turn, VideoShown};
pub use load::{SUPPORTED, end_tokens, load, tokenizer};
