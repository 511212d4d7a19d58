//! An answer token by token, or several in one pass: the pending one, and guesses at what follows it.

use std::time::Instant;

use super::{Answered, Ask, Desk, Stage, embed, writer::Written};
use crate::{EngineError, EngineEvent, Finish, draft::Outcome, kv::Append, sampling::likeliest};

impl Ask {
    /// The pending token is in the cache, after a step that began at `begun` with `batch` rows; `logits` came after it.
    pub(crate) fn decoded(
        &mut self,
        logits: &[f32],
        begun: Instant,
        batch: usize,
        desk: &mut Desk<'_>,
    ) -> Result<(), EngineError> {
        if let Some(id) = self.pending() {
            let position = self.talk.prompt.positions.at(self.talk.ledger.len());
            self.talk.ledger.push(id, position);
        }
        self.clocks.generate.add(begun.elapsed());
        self.trace.span("decode", begun, 1, batch);
        if let Some(drafts) = desk.drafts.of(self.tenant).filter(|_| batch == 1) {
            drafts.plain(begun.elapsed());
        }
        self.accept(logits, desk)
    }

    pub(super) fn accept(&mut self, logits: &[f32], desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let Some(written) = self.draw(logits, desk)? else {
            return Ok(());
        };
        if !written.piece.is_empty() {
            self.events.tell(EngineEvent::Delta(written.piece))?;
        }
        match written.finish {
            Some(finish) => self.written(finish, desk),
            None => Ok(()),
        }
    }

    /// Draws a token from `logits`; `None` when it does not write.
    fn draw(&mut self, logits: &[f32], desk: &mut Desk<'_>) -> Result<Option<Written>, EngineError> {
        let Stage::Writing(writer) = &mut self.stage else {
            return Ok(None);
        };
        let written = writer.accept(desk.model, logits)?;
        self.tick(desk);
        self.teach(logits, desk);
        Ok(Some(written))
    }

    /// Notes when a token came.
    pub(super) fn tick(&mut self, desk: &Desk<'_>) {
        let now = Instant::now();
        if let Some(before) = self.last_token.replace(now) {
            desk.metrics.next_token(now - before);
        } else {
            self.first_token = Some(now);
            desk.metrics.first_token(now - self.since);
        }
    }

    /// The answer is complete.
    fn written(&mut self, finish: Finish, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let Stage::Writing(writer) = std::mem::replace(&mut self.stage, Stage::Prompting) else {
            return Ok(());
        };
        let (generated, rest) = writer.finish()?;
        if !rest.is_empty() {
            self.events.tell(EngineEvent::Delta(rest))?;
        }
        let answered = Answered {
            finish: if desk.model.says_no_evidence(&generated.answer) {
                Finish::NoEvidence
            } else {
                finish
            },
            generated,
            kept: self.keep(desk)?,
        };
        self.explain(answered, desk)
    }

    /// Decodes the pending token and what is guessed to follow. `false` when there is no guess: then nothing was done.
    pub(crate) fn leap(&mut self, desk: &mut Desk<'_>) -> Result<bool, EngineError> {
        let begun = Instant::now();
        let (draft, pending) = (self.guess(desk)?, self.pending());
        let Some(pending) = pending.filter(|_| !draft.is_empty()) else {
            return Ok(false);
        };
        let ids = [&[pending], &draft[..]].concat();
        let start = self.talk.ledger.len();
        let positions: Vec<_> = (start..start + ids.len())
            .map(|at| self.talk.prompt.positions.at(at))
            .collect();
        let new = Append {
            tokens: embed(desk, &ids, &self.control)?,
            positions: &positions,
            shown: None,
            keep: ids.len(),
            states: false,
        };
        let logits = desk.metrics.run(|| desk.rows.append(self.id, new))?;
        let (mut piece, mut finish, mut accepted) = (String::new(), None, 0);
        for (at, &id) in ids.iter().enumerate() {
            self.talk.ledger.push(id, positions[at]);
            let Some(written) = self.draw(logits.row(at), desk)? else {
                break;
            };
            piece.push_str(&written.piece);
            finish = written.finish;
            let right = draft.get(at).is_some() && self.pending() == draft.get(at).copied();
            if finish.is_some() || !right {
                break;
            }
            accepted += 1;
        }
        // What was guessed wrong was never said.
        desk.rows.truncate(self.id, self.talk.ledger.len())?;
        self.clocks.generate.add(begun.elapsed());
        self.trace.span("leap", begun, accepted + 1, 1);
        let outcome = Outcome {
            proposed: draft.len(),
            accepted,
            took: begun.elapsed(),
        };
        desk.metrics.leapt(outcome);
        if let Some(drafts) = desk.drafts.of(self.tenant) {
            drafts.guessed(outcome);
        }
        if !piece.is_empty() {
            self.events.tell(EngineEvent::Delta(piece))?;
        }
        match finish {
            Some(finish) => self.written(finish, desk).map(|()| true),
            None => Ok(true),
        }
    }

    /// What may follow the pending token.
    fn guess(&mut self, desk: &mut Desk<'_>) -> Result<Vec<u32>, EngineError> {
        let Stage::Writing(writer) = &mut self.stage else {
            return Ok(Vec::new());
        };
        if desk.rows.last_only() {
            return Ok(Vec::new()); // Checking would cost a run for each guess.
        }
        // One token more than is guessed comes out of the pass.
        let room = writer.left().saturating_sub(1);
        let Some(drafts) = desk.drafts.of(self.tenant) else {
            return Ok(Vec::new());
        };
        let draft = drafts.propose(writer.tokens(), room);
        writer.plausible(desk.model, draft)
    }

    /// Teaches the drafts what followed; `logits` are those that the last token was drawn from.
    pub(super) fn teach(&self, logits: &[f32], desk: &mut Desk<'_>) {
        let (Stage::Writing(writer), Some(drafts)) = (&self.stage, desk.drafts.of(self.tenant)) else {
            return;
        };
        let [before @ .., next] = writer.tokens() else {
            return;
        };
        let likely = if writer.is_greedy() {
            Some(*next)
        } else {
            likeliest(logits, 1).pop()
        };
        drafts.observe(before, *next, likely.unwrap_or(*next));
    }
}
