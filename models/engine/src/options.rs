//! How an answer is generated, and what is told about it beside its text.

use std::collections::BTreeSet;

use crate::{EngineError, Schema, choice::candidates};

/// Most stop strings of one ask.
const MAX_STOPS: usize = 8;
/// Longest stop string in bytes.
const MAX_STOP: usize = 64;
/// Highest temperature.
const MAX_TEMPERATURE: f32 = 2.0;
/// Most alternatives that are reported for a token.
const MAX_LOGPROBS: usize = 20;

/// Most choices of one ask, and the longest in bytes.
const MAX_CHOICES: usize = 64;
const MAX_CHOICE: usize = 256;

/// What an answer must look like.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum AnswerForm {
    /// Whatever the model writes.
    #[default]
    Text,
    /// JSON that satisfies a schema.
    Json(Schema),
    /// One of these texts: the one that is likeliest as the whole answer.
    OneOf {
        /// 2 to 64 different texts of up to 256 bytes.
        choices: Vec<String>,
        /// Compare log-probabilities per token instead of sums: does not favour short texts.
        per_token: bool,
    },
    /// Yes or no, by the probability of how answers that say so begin.
    YesNo,
}

/// How likely one choice was.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoiceScore {
    /// As the request has it, without white space around it; `Yes` or `No` where it named none.
    pub text: String,
    /// Natural logarithm of its probability as the whole answer, or as the answer's beginning for yes and no.
    pub logprob: f64,
    /// Tokens that were scored, the end of the turn included.
    pub tokens: usize,
    /// Among the choices; all add up to 1.
    pub probability: f64,
}

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
    /// What the answer must look like.
    pub form: AnswerForm,
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
            form: AnswerForm::Text,
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
        self.check_form()?;
        first_wrong(ranges)
    }

    fn check_form(&self) -> Result<(), EngineError> {
        let written = !self.form.is_choice();
        let choices: &[String] = match &self.form {
            AnswerForm::OneOf { choices, .. } => choices,
            _ => &[],
        };
        let good = |choice: &String| !choice.trim().is_empty() && choice.len() <= MAX_CHOICE;
        let distinct: BTreeSet<&str> = choices.iter().map(|choice| choice.trim()).collect();
        first_wrong([
            (
                choices.is_empty() || (2..=MAX_CHOICES).contains(&choices.len()) && choices.iter().all(good),
                "generation.choices",
                "give 2 to 64 choices of 1 to 256 bytes",
            ),
            (
                distinct.len() == choices.len(),
                "generation.choices",
                "give each choice once",
            ),
            (
                self.form == AnswerForm::Text || self.stop.is_empty(),
                "generation.stop",
                "stop strings would cut an answer of a given form: leave them out",
            ),
            (
                written || self.logprobs.is_none(),
                "generation.logprobs",
                "choices come with their own scores: leave it out",
            ),
        ])
    }
}

fn first_wrong(
    rules: impl IntoIterator<Item = (bool, &'static str, &'static str)>,
) -> Result<(), EngineError> {
    match rules.into_iter().find(|(holds, ..)| !holds) {
        None => Ok(()),
        Some((_, field, message)) => Err(EngineError::InvalidInput {
            field,
            message: message.to_owned(),
        }),
    }
}

impl AnswerForm {
    /// Whether the answer is chosen rather than written.
    pub(crate) fn is_choice(&self) -> bool {
        matches!(self, Self::OneOf { .. } | Self::YesNo)
    }

    /// Tokens that the longest choice takes at most; `None` when the answer is written.
    pub(crate) fn longest_choice(&self) -> Option<usize> {
        // A token has at least one byte; the template may add a space, the end of the turn is one more.
        let longest = candidates(self)
            .iter()
            .map(|candidate| candidate.text.len() + 4)
            .max();
        longest.filter(|_| self.is_choice())
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
