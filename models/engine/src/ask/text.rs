//! Ids to the text that the user reads: whole characters, nothing of a stop string, no white space at the ends.

use std::sync::Arc;

use reelsight_text::{Detokenizer, Matched, StopMatcher, TextError, Tokenizer};

/// See the module.
#[derive(Debug)]
pub(super) struct AnswerText {
    detokenizer: Detokenizer<Arc<Tokenizer>>,
    stops: StopMatcher,
    stopped: bool,
    trim: Trim,
}

impl AnswerText {
    pub(super) fn new(tokenizer: Arc<Tokenizer>, stop: &[String]) -> Self {
        Self {
            detokenizer: Detokenizer::new(tokenizer),
            stops: StopMatcher::new(stop),
            stopped: false,
            trim: Trim::default(),
        }
    }

    pub(super) fn push(&mut self, id: u32) -> Result<Matched, TextError> {
        let Matched { text, stopped } = self.stops.push(&self.detokenizer.push(id)?);
        self.stopped = stopped;
        Ok(Matched {
            text: self.trim.push(&text),
            stopped,
        })
    }

    pub(super) fn finish(self) -> Result<String, TextError> {
        let Self {
            detokenizer,
            mut stops,
            stopped,
            mut trim,
        } = self;
        if stopped {
            return Ok(String::new());
        }
        let Matched { text, stopped } = stops.push(&detokenizer.finish()?);
        let held = if stopped { String::new() } else { stops.finish() };
        Ok(trim.push(&(text + &held)))
    }
}

/// Leaves out white space at both ends of a stream of pieces.
#[derive(Debug, Default)]
struct Trim {
    begun: bool,
    held: String,
}

impl Trim {
    fn push(&mut self, piece: &str) -> String {
        let piece = if self.begun { piece } else { piece.trim_start() };
        self.begun |= !piece.is_empty();
        let body = piece.trim_end();
        if body.is_empty() {
            self.held.push_str(piece);
            return String::new();
        }
        let out = std::mem::take(&mut self.held) + body;
        self.held.push_str(&piece[body.len()..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn trimmed_pieces_join_to_the_trimmed_text(pieces in prop::collection::vec("[a \n]{0,4}", 0..10)) {
            let mut trim = Trim::default();
            let joined: String = pieces.iter().map(|piece| trim.push(piece)).collect();
            let whole = pieces.concat();
            prop_assert_eq!(joined, whole.trim());
        }
    }
}
