//! Tokenizer, chat template, stop strings, streaming detokeniser.
//!
//! Owns: everything between text and ids, from the model's own files. Does not own: what a family puts into a prompt
//! (`reelsight-families`). Starts no threads.
//!
//! ```
//! use reelsight_text::{Matched, StopMatcher};
//! let mut stop = StopMatcher::new(&["END".into()]);
//! assert_eq!(stop.push("a circle E"), Matched { text: "a circle ".into(), stopped: false });
//! assert_eq!(stop.push("ND of it"), Matched { text: String::new(), stopped: true });
//! ```

mod clock;
mod detokenize;
mod error;
mod stop;
mod template;
mod tokenizer;
mod vocabulary;

pub use detokenize::Detokenizer;
pub use error::TextError;
pub use stop::{Matched, StopMatcher};
pub use template::{ChatTemplate, Message, Part, PlainMessage, chat_template_source};
pub use tokenizer::{Offsets, Tokenizer};
pub use vocabulary::TokenBytes;
