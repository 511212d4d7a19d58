//! An answer in the making: one row of logits after the other, without ever waiting for one.

use std::sync::Arc;

use reelsight_families::Prompt;

use super::text::AnswerText;
use crate::{
    AnswerForm, ChoiceScore, EngineError, Finish, GenerationOptions, TokenLogprob,
    constraint::Constraint,
    draft::NO_TEXT,
    model::Model,
    sampling::{Drawn, Sampler, SequenceState},
};

/// The state between two steps.
#[derive(Debug)]
pub(crate) struct Writer {
    sampler: Sampler,
    constraint: Option<Constraint>,
    text: AnswerText,
    prompt: Arc<[u32]>,
    /// Prompt and answer as text goes on: what is no text stands out.
    tokens: Vec<u32>,
    limit: usize,
    pub(super) answer: String,
    /// End-of-turn included when it was produced.
    pub(super) token_ids: Vec<u32>,
    pub(super) logprobs: Vec<TokenLogprob>,
}

/// What a token brought.
#[derive(Debug)]
pub(super) struct Written {
    /// New text; may be empty.
    pub(super) piece: String,
    /// Why the answer ends with it.
    pub(super) finish: Option<Finish>,
}

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Generated {
    pub(super) answer: String,
    pub(super) token_ids: Vec<u32>,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) choices: Vec<ChoiceScore>,
}

impl Writer {
    /// Answers `prompt`.
    pub(super) fn new(model: &Model, prompt: &Prompt, options: &GenerationOptions) -> Self {
        let room = model.info.context_tokens.saturating_sub(prompt.ids.len());
        let mut tokens = prompt.ids.clone();
        for slot in &prompt.frames {
            tokens[slot.visual.clone()].fill(NO_TEXT);
        }
        Self {
            sampler: Sampler::new(options),
            constraint: match &options.form {
                AnswerForm::Json(schema) => Some(Constraint::new(schema)),
                _ => None,
            },
            text: AnswerText::new(Arc::clone(&model.tokenizer), &options.stop),
            prompt: prompt.ids.as_slice().into(),
            tokens,
            limit: model.max_tokens(options.max_tokens).min(room),
            answer: String::new(),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
        }
    }

    /// The token that was drawn last and is to be run next.
    pub(super) fn pending(&self) -> Option<u32> {
        self.token_ids.last().copied()
    }

    /// Prompt and answer so far.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether the drawn token is the likeliest one, masks and penalties aside.
    pub(super) fn is_greedy(&self) -> bool {
        self.sampler.is_greedy()
    }

    /// Tokens that the answer may still have.
    pub(super) fn left(&self) -> usize {
        self.limit.saturating_sub(self.token_ids.len())
    }

    /// The beginning of `draft` that can be part of the answer: no end of turn, nothing that its grammar forbids.
    pub(super) fn plausible(&mut self, model: &Model, mut draft: Vec<u32>) -> Result<Vec<u32>, EngineError> {
        let end = draft.iter().position(|id| model.end.contains(id));
        draft.truncate(end.unwrap_or(draft.len()));
        if let Some(constraint) = &mut self.constraint {
            draft.truncate(constraint.valid_prefix(&draft)?);
        }
        Ok(draft)
    }

    /// Draws a token from `logits`.
    pub(super) fn accept(&mut self, model: &Model, logits: &[f32]) -> Result<Written, EngineError> {
        let state = SequenceState {
            prompt: &self.prompt,
            generated: &self.token_ids,
        };
        let mask = self.constraint.as_mut().map(Constraint::mask).transpose()?;
        let Drawn { id, logprob } = self.sampler.next(logits, &state, mask.as_ref())?;
        self.token_ids.push(id);
        self.tokens.push(id);
        self.logprobs.extend(logprob);
        let stop = Some(Finish::Stop);
        if model.end.contains(&id) {
            return Ok(Written {
                piece: String::new(),
                finish: stop,
            });
        }
        let complete = self.constrained(id)?;
        let matched = self
            .text
            .push(id)
            .map_err(|error| EngineError::internal(&error))?;
        self.answer.push_str(&matched.text);
        let full = (self.token_ids.len() >= self.limit).then_some(Finish::Length);
        Ok(Written {
            piece: matched.text,
            finish: if matched.stopped || complete { stop } else { full },
        })
    }

    /// Follows the grammar of the answer, if it has one. Gives whether the answer is complete.
    fn constrained(&mut self, id: u32) -> Result<bool, EngineError> {
        let Some(constraint) = &mut self.constraint else {
            return Ok(false);
        };
        constraint.accept(id)?;
        if self.token_ids.len() >= self.limit && !constraint.is_satisfied()? {
            return Err(EngineError::SchemaUnsatisfied {
                tokens: self.token_ids.len(),
            });
        }
        Ok(constraint.is_complete())
    }

    /// The answer, and the text that was still held back.
    pub(super) fn finish(self) -> Result<(Generated, String), EngineError> {
        let rest = self
            .text
            .finish()
            .map_err(|error| EngineError::internal(&error))?;
        let generated = Generated {
            answer: self.answer + &rest,
            token_ids: self.token_ids,
            logprobs: self.logprobs,
            choices: Vec::new(),
        };
        Ok((generated, rest))
    }
}
