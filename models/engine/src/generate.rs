//! Token by token, until the answer ends.

use std::time::Instant;

use reelsight_text::{Detokenizer, Matched, StopMatcher, TextError, Tokenizer};

use crate::{
    EngineError, EngineEvent, Finish, GenerationOptions, TokenLogprob,
    graphs::Logits,
    sampling::{Drawn, Sampler, SequenceState},
    sequence::Sequence,
    watch::JobContext,
};

/// An answer.
#[derive(Debug)]
pub(crate) struct Generated {
    pub(crate) answer: String,
    /// End-of-turn included when it was produced.
    pub(crate) token_ids: Vec<u32>,
    /// One per token when asked for.
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) finish: Finish,
    pub(crate) first_token: Instant,
}

/// Generates after a prefilled prompt whose last row of logits is `logits`. The last token stays out of the cache:
/// the next turn's prefill begins with it.
pub(crate) fn generate(
    context: &JobContext<'_>,
    sequence: &mut Sequence<'_>,
    mut logits: Logits,
    options: &GenerationOptions,
) -> Result<Generated, EngineError> {
    let JobContext {
        model,
        control,
        events,
        ..
    } = *context;
    let room = model.info.context_tokens.saturating_sub(sequence.ids.len());
    let limit = model.max_tokens(options.max_tokens).min(room);
    let sampler = Sampler::new(options);
    // What is cached now is the prompt; what follows is the answer.
    let prompt = sequence.ids.clone();
    let mut text = AnswerText::new(&model.tokenizer, &options.stop);
    let mut answer = String::new();
    let mut token_ids = Vec::new();
    let mut logprobs = Vec::new();
    let mut first_token = None;
    let finish = loop {
        control.check()?;
        let state = SequenceState {
            prompt: &prompt,
            generated: &token_ids,
        };
        let Drawn { id, logprob } = sampler.next(logits.row(0), &state, None)?;
        first_token.get_or_insert_with(Instant::now);
        token_ids.push(id);
        logprobs.extend(logprob);
        if model.end.contains(&id) {
            break Finish::Stop;
        }
        let Matched { text: piece, stopped } =
            text.push(id).map_err(|error| EngineError::internal(&error))?;
        if !piece.is_empty() {
            answer.push_str(&piece);
            events.send(EngineEvent::Delta(piece), control)?;
        }
        if stopped {
            break Finish::Stop;
        }
        if token_ids.len() >= limit {
            break Finish::Length;
        }
        logits = sequence.step(id, control)?;
    };
    let rest = text.finish().map_err(|error| EngineError::internal(&error))?;
    if !rest.is_empty() {
        answer.push_str(&rest);
        events.send(EngineEvent::Delta(rest), control)?;
    }
    let finish = if model.says_no_evidence(&answer) {
        Finish::NoEvidence
    } else {
        finish
    };
    Ok(Generated {
        answer,
        token_ids,
        logprobs,
        finish,
        first_token: first_token.unwrap_or_else(Instant::now),
    })
}

/// Ids to the text that the user reads: whole characters, nothing of a stop string, no white space at the ends.
struct AnswerText<'t> {
    detokenizer: Detokenizer<&'t Tokenizer>,
    stops: StopMatcher,
    stopped: bool,
    trim: Trim,
}

impl<'t> AnswerText<'t> {
    fn new(tokenizer: &'t Tokenizer, stop: &[String]) -> Self {
        Self {
            detokenizer: Detokenizer::new(tokenizer),
            stops: StopMatcher::new(stop),
            stopped: false,
            trim: Trim::default(),
        }
    }

    fn push(&mut self, id: u32) -> Result<Matched, TextError> {
        let Matched { text, stopped } = self.stops.push(&self.detokenizer.push(id)?);
        self.stopped = stopped;
        Ok(Matched {
            text: self.trim.push(&text),
            stopped,
        })
    }

    fn finish(self) -> Result<String, TextError> {
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
