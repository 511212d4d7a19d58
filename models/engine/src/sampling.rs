//! From a row of logits to the next token.
//!
//! A row goes through, in the order of transformers: the mask of a constraint, repetition penalty, penalties by
//! frequency and presence, temperature, top-h, top-k, top-p, min-p; then a token is drawn. At temperature 0 the
//! largest logit wins after mask and penalties. All of it is a pure function of the row, the tokens so far, the
//! settings and the seed, so batching, preemption and drafts cannot change an answer.

mod logprobs;
mod processors;
mod random;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    hash::{BuildHasher, Hasher, RandomState},
};

pub(crate) use logprobs::{likeliest, log_probability};
use random::{Stream, uniform};

use crate::{EngineError, GenerationOptions, TokenLogprob};

/// Tokens that may come next, one bit each; tokens beyond its end may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenMask(pub(crate) Vec<u32>);

impl TokenMask {
    pub(crate) fn allows(&self, id: usize) -> bool {
        self.0.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }
}

/// The tokens before the one that is to be drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SequenceState<'a> {
    /// Ids of the prompt, placeholders included.
    pub(crate) prompt: &'a [u32],
    /// Ids of the answer so far; their number is the place in the answer.
    pub(crate) generated: &'a [u32],
}

/// A token and, when asked for, how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) id: u32,
    pub(crate) logprob: Option<TokenLogprob>,
}

/// Draws tokens as [`GenerationOptions`] say. Has no state: the same row at the same place gives the same token.
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    options: GenerationOptions,
    seed: u64,
}

impl Sampler {
    pub(crate) fn new(options: &GenerationOptions) -> Self {
        // Without a seed any number will do that is another one each time.
        let random = || RandomState::new().build_hasher().finish();
        Self {
            seed: options.seed.unwrap_or_else(random),
            options: options.clone(),
        }
    }

    /// Whether the largest logit wins.
    pub(crate) fn is_greedy(&self) -> bool {
        self.options.temperature <= 0.0
    }

    /// The next token after `logits`, among those that `mask` allows.
    ///
    /// # Errors
    /// [`EngineError::BadLogits`] when the row has no largest finite number.
    pub(crate) fn next(
        &self,
        logits: &[f32],
        state: &SequenceState<'_>,
        mask: Option<&TokenMask>,
    ) -> Result<Drawn, EngineError> {
        let bad = || EngineError::BadLogits {
            position: state.generated.len(),
        };
        // -inf is how a model rules a token out; it can say so of all but one.
        let wrong = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
        if logits.iter().any(wrong) || logits.iter().all(|logit| logit.is_infinite()) {
            return Err(bad());
        }
        let row = self.processed(logits, state, mask);
        let index = if self.is_greedy() {
            argmax(&row)
        } else {
            let position = state.generated.len() as u64;
            draw(&row, uniform(self.seed, Stream::Token, position))
        };
        let id = index
            .and_then(|index| u32::try_from(index).ok())
            .ok_or_else(bad)?;
        let logprob = self
            .options
            .logprobs
            .map(|count| logprobs::report(logits, id, count));
        Ok(Drawn { id, logprob })
    }

    /// The row that is drawn from.
    fn processed<'l>(
        &self,
        logits: &'l [f32],
        state: &SequenceState<'_>,
        mask: Option<&TokenMask>,
    ) -> Cow<'l, [f32]> {
        let GenerationOptions {
            temperature,
            top_p,
            top_k,
            min_p,
            top_h,
            repetition_penalty,
            frequency_penalty,
            presence_penalty,
            ..
        } = self.options;
        let repeats = is_other(repetition_penalty, 1.0);
        let counts = is_other(frequency_penalty, 0.0) || is_other(presence_penalty, 0.0);
        if temperature <= 0.0 && mask.is_none() && !repeats && !counts {
            return Cow::Borrowed(logits);
        }
        let mut row = logits.to_vec();
        if let Some(mask) = mask {
            for (id, logit) in row.iter_mut().enumerate() {
                if !mask.allows(id) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        if repeats {
            let seen = state.prompt.iter().chain(state.generated);
            processors::repetition_penalty(&mut row, seen, repetition_penalty);
        }
        if counts {
            processors::count_penalties(&mut row, state.generated, frequency_penalty, presence_penalty);
        }
        if temperature <= 0.0 {
            return row.into();
        }
        processors::temperature(&mut row, temperature);
        if top_h > 0.0 {
            processors::top_h(&mut row, top_h);
        }
        processors::top_k(&mut row, top_k);
        processors::top_p(&mut row, top_p);
        if min_p > 0.0 {
            processors::min_p(&mut row, min_p);
        }
        row.into()
    }
}

/// Whether a setting differs from what leaves everything as it is.
fn is_other(setting: f32, neutral: f32) -> bool {
    (setting - neutral).abs() > f32::EPSILON
}

/// Index of the largest finite logit; the first of equals.
fn argmax(row: &[f32]) -> Option<usize> {
    let mut best: Option<usize> = None;
    for (index, logit) in row.iter().enumerate() {
        if logit.is_finite() && best.is_none_or(|best| *logit > row[best]) {
            best = Some(index);
        }
    }
    best
}

/// The token at `point` of the row's distribution, tokens laid side by side in the order of their ids.
fn draw(row: &[f32], point: f64) -> Option<usize> {
    if row.iter().all(|logit| !logit.is_finite()) {
        return None;
    }
    let probabilities = processors::softmax(row);
    let mut sum = 0.0;
    let mut last = None;
    for (index, &probability) in probabilities.iter().enumerate() {
        if probability > 0.0 {
            sum += probability;
            last = Some(index);
            if point < sum {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("../tests/golden/sampling.json")).unwrap()
}
