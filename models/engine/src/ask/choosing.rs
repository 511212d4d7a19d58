//! An answer that is chosen: each candidate is one pass of the decoder after the prompt.

use std::time::Instant;

use reelsight_families::{Prompt, Turn, VideoShown};

use super::{Answered, Ask, Desk, Stage, tell, writer::Generated};
use crate::{
    AnswerForm, ChoiceScore, EngineError, EngineEvent, Finish,
    choice::{Candidate, Scored, candidates, decide},
    graphs::Tokens,
    kv::{Append, Rows},
    model::Model,
    sampling::log_probability,
};

/// What is still to be scored, and what has been.
#[derive(Debug)]
pub(crate) struct Choosing {
    form: AnswerForm,
    tails: Vec<Tail>,
    scored: Vec<Scored>,
}

/// A candidate in its place after the prompt.
#[derive(Debug)]
struct Tail {
    choice: usize,
    /// Place of the first scored token; the token before it is run again, for its logits.
    from: usize,
    /// Ids from `from - 1` on.
    ids: Vec<u32>,
    positions: Vec<[u32; 3]>,
}

/// A decision.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
    pub(super) choices: Vec<ChoiceScore>,
}

impl Choosing {
    /// Candidates of `form` as answers to the last of `turns`.
    pub(super) fn new(
        model: &Model,
        form: &AnswerForm,
        prompt: &Prompt,
        video: Option<&VideoShown>,
        turns: &[Turn],
    ) -> Result<Self, EngineError> {
        let mut tails: Vec<Tail> = Vec::new();
        for candidate in candidates(form) {
            let tail = tail(model, prompt, video, turns, &candidate)?;
            // Two spellings can be the same tokens; counting them twice would favour their side.
            if candidate.ends || tails.iter().all(|other| other.ids != tail.ids) {
                tails.push(tail);
            }
        }
        tails.reverse();
        Ok(Self {
            form: form.clone(),
            tails,
            scored: Vec::new(),
        })
    }

    /// Scores the next candidate after the prompt of `sequence`, whose cache then holds the prompt without its end.
    /// `false` when all are scored.
    pub(super) fn step(
        &mut self,
        sequence: u64,
        rows: &mut Rows,
        embed: impl FnOnce(&[u32], &Rows) -> Result<Tokens, EngineError>,
    ) -> Result<bool, EngineError> {
        let Some(tail) = self.tails.pop() else {
            return Ok(false);
        };
        let (scored, inputs) = (&tail.ids[1..], &tail.ids[..tail.ids.len() - 1]);
        let new = Append {
            tokens: embed(inputs, rows)?,
            positions: &tail.positions,
            shown: None,
            keep: scored.len(),
            states: false,
        };
        let logits = rows.probe(sequence, tail.from - 1, new)?;
        let each = scored.iter().enumerate();
        self.scored.push(Scored {
            choice: tail.choice,
            logprob: each.map(|(at, &id)| log_probability(logits.row(at), id)).sum(),
            ids: scored.to_vec(),
        });
        Ok(!self.tails.is_empty())
    }

    /// The likeliest.
    pub(super) fn decide(self) -> Result<Chosen, EngineError> {
        let (choices, answer) =
            decide(&self.form, &self.scored).ok_or(EngineError::BadLogits { position: 0 })?;
        let Scored { choice, ids, .. } = &self.scored[answer];
        Ok(Chosen {
            text: choices[*choice].text.clone(),
            ids: ids.clone(),
            choices,
        })
    }
}

impl Ask {
    /// Scores a candidate; after the last one the answer is there.
    pub(super) fn choose(&mut self, desk: &mut Desk<'_>, begun: Instant) -> Result<(), EngineError> {
        let Stage::Choosing(choosing) = &mut self.stage else {
            return Ok(());
        };
        let (model, control) = (desk.model, &self.control);
        let embed = |ids: &[u32], rows: &Rows| {
            if rows.decoder.takes_ids() {
                Ok(Tokens::Ids(ids.to_vec()))
            } else {
                model.embed(ids, control).map(Tokens::Embeds)
            }
        };
        let more = desk.metrics.run(|| choosing.step(self.id, desk.rows, embed))?;
        self.clocks.generate.add(begun.elapsed());
        self.trace.span("choose", begun, 1, 1);
        if more {
            return Ok(());
        }
        let Stage::Choosing(choosing) = std::mem::replace(&mut self.stage, Stage::Prompting) else {
            return Ok(());
        };
        let Chosen { text, ids, choices } = choosing.decide()?;
        // The candidates have taken the place of the end of the prompt.
        self.talk.ledger.truncate(desk.rows.len(self.id));
        self.tick(desk);
        self.events.tell(EngineEvent::Delta(text.clone()))?;
        let answered = Answered {
            finish: if desk.model.says_no_evidence(&text) {
                Finish::NoEvidence
            } else {
                Finish::Stop
            },
            generated: Generated {
                answer: text,
                token_ids: ids,
                logprobs: Vec::new(),
                choices,
            },
            kept: self.keep(desk)?,
        };
        self.explain(answered, desk)
    }
}

/// The conversation is told anew with the candidate as its answer, so the tokens are those that the model's own template
/// and tokenizer would put there.
fn tail(
    model: &Model,
    prompt: &Prompt,
    video: Option<&VideoShown>,
    turns: &[Turn],
    candidate: &Candidate,
) -> Result<Tail, EngineError> {
    let told = match turns.split_last() {
        None => spelled(model, prompt, candidate)?,
        Some((last, before)) => {
            let mut turns = before.to_vec();
            turns.push(Turn {
                answer: Some(candidate.text.clone()),
                ..last.clone()
            });
            tell(model, video, &turns)?
        }
    };
    let same = |(a, b): &(&u32, &u32)| a == b;
    let from = told.ids.iter().zip(&prompt.ids).take_while(same).count();
    let is_end = |id: &u32| model.end.contains(id);
    let end = told.ids[from..]
        .iter()
        .position(is_end)
        .map_or(told.ids.len(), |at| from + at);
    let to = (end + usize::from(candidate.ends)).min(told.ids.len());
    if from == 0 || to <= from {
        return Err(EngineError::InvalidInput {
            field: "generation.choices",
            message: format!(
                "the model's tokenizer has nothing to say {:?} with",
                candidate.text
            ),
        });
    }
    let limit = model.info.context_tokens;
    if to >= limit {
        return Err(EngineError::ContextExceeded { limit, actual: to });
    }
    Ok(Tail {
        choice: candidate.choice,
        from,
        positions: (from - 1..to - 1).map(|at| told.positions.at(at)).collect(),
        ids: told.ids[from - 1..to].to_vec(),
    })
}

/// For prompts that were made elsewhere: the candidate's own tokens behind it.
fn spelled(model: &Model, prompt: &Prompt, candidate: &Candidate) -> Result<Prompt, EngineError> {
    let ids = model.tokenizer.encode(&candidate.text, false);
    let mut told = prompt.clone();
    told.ids
        .extend(ids.map_err(|error| EngineError::internal(&error))?);
    told.ids.extend(model.end.first());
    Ok(told)
}
