//! How an answer is generated, and what is told about it beside its text.

use crate::EngineError;

/// Most stop strings of one ask.
const MAX_STOPS: usize = 8;
/// Longest stop string in bytes.
const MAX_STOP: usize = 64;
/// Highest temperature.
const MAX_TEMPERATURE: f32 = 2.0;
/// Most alternatives that are reported for a token.
const MAX_LOGPROBS: usize = 20;

/// Decoding parameters of an answer. The default is greedy.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// Longest answer in tokens; 0 means the model's default.
    pub max_tokens: usize,
    /// 0 is greedy, at most 2.
    pub temperature: f32,
    /// Nucleus; above 0, 1 keeps everything.
    pub top_p: f32,
    /// The likeliest tokens; 0 keeps everything.
    pub top_k: usize,
    /// Tokens at least this share as likely as the likeliest; below 1, 0 keeps everything.
    pub min_p: f32,
    /// Likeliest tokens up to this share of the entropy; at most 1, 0 keeps everything.
    pub top_h: f32,
    /// Divides the logits of tokens of prompt and answer; above 0 to 2, 1 is none.
    pub repetition_penalty: f32,
    /// Taken off a token's logit for each time that it is in the answer; -2 to 2, 0 is none.
    pub frequency_penalty: f32,
    /// Taken off the logit of each token that is in the answer; -2 to 2, 0 is none.
    pub presence_penalty: f32,
    /// Makes sampling repeatable, whatever else runs.
    pub seed: Option<u64>,
    /// The answer ends before any of these; at most 8 of at most 64 bytes.
    pub stop: Vec<String>,
    /// Report how likely each token was, with this many alternatives, at most 20. `None` reports nothing.
    pub logprobs: Option<usize>,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self {
            max_tokens: 0,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            top_h: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
            stop: Vec::new(),
            logprobs: None,
        }
    }
}

impl GenerationOptions {
    /// Whether every parameter is in its range.
    ///
    /// # Errors
    /// [`EngineError::InvalidInput`] with the field's path.
    pub fn check(&self) -> Result<(), EngineError> {
        let ranges = [
            (
                (0.0..=MAX_TEMPERATURE).contains(&self.temperature),
                "generation.temperature",
                "temperature is between 0 and 2; 0 is greedy",
            ),
            (
                self.top_p > 0.0 && self.top_p <= 1.0,
                "generation.top_p",
                "top_p is above 0 and at most 1",
            ),
            (
                (0.0..1.0).contains(&self.min_p),
                "generation.min_p",
                "min_p is at least 0 and below 1; 0 keeps every token",
            ),
            (
                (0.0..=1.0).contains(&self.top_h),
                "generation.top_h",
                "top_h is between 0 and 1; 0 keeps every token",
            ),
            (
                self.repetition_penalty > 0.0 && self.repetition_penalty <= 2.0,
                "generation.repetition_penalty",
                "repetition_penalty is above 0 and at most 2; 1 is none",
            ),
            (
                (-2.0..=2.0).contains(&self.frequency_penalty),
                "generation.frequency_penalty",
                "frequency_penalty is between -2 and 2; 0 is none",
            ),
            (
                (-2.0..=2.0).contains(&self.presence_penalty),
                "generation.presence_penalty",
                "presence_penalty is between -2 and 2; 0 is none",
            ),
            (
                self.stop.len() <= MAX_STOPS
                    && self.stop.iter().all(|stop| (1..=MAX_STOP).contains(&stop.len())),
                "generation.stop",
                "give at most 8 stop strings of 1 to 64 bytes",
            ),
            (
                self.logprobs.is_none_or(|count| count <= MAX_LOGPROBS),
                "generation.logprobs",
                "at most 20 alternatives are reported for a token",
            ),
        ];
        match ranges.into_iter().find(|(holds, ..)| !holds) {
            None => Ok(()),
            Some((_, field, message)) => Err(EngineError::InvalidInput {
                field,
                message: message.to_owned(),
            }),
        }
    }
}

/// How likely a token of the answer was to the model, before masks, penalties, temperature and truncation.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// Id of the token.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens at its place with theirs, likeliest first.
    pub top: Vec<(u32, f32)>,
}
