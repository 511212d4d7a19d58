//! One module per model family: tensor names, shapes, prompt layout.
//!
//! Owns: which family a folder is of ([`load`]), its prompt to the token ([`Family::prompt`]), its sampling rule and its
//! pixels. Does not own: graphs (their inputs are read from them), sampling itself, resampling. Starts no threads.
//!
//! A new family is one module that implements [`Family`] and one line in [`load`]; CONTRIBUTING.md shows how.

mod conversation;
mod error;
mod family;
mod grid;
mod layout;
mod llava_onevision;
mod load;
mod numbers;
mod qwen_vl;
mod settings;
mod smolvlm;
mod text_decoder;

pub use conversation::{ChatTurn, Conversation, FrameSlot, Media, Positions, Prompt, Turn, VideoShown};
pub use error::FamilyError;
pub use family::Family;
pub use load::{SUPPORTED, end_tokens, load, tokenizer};
