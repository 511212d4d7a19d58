//! How an ask ends: evidence, the session that is kept, the account of it all, and its delivery.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Answered, Ask, Desk, Generated, Place, Scoring, Stage, embed};
use crate::{
    AskOutcome, EngineError, EngineEvent, EvidenceSpan, Finish, KvTier, StageTimes,
    evidence::grounded,
    kv::Pages,
    session::{KvSnapshot, SessionKv},
};
use reelsight_families::Turn;

/// How long the end of an ask waits for a reader that does not read.
const LAST_WORD: Duration = Duration::from_secs(1);

impl Ask {
    /// What the session of this ask will hold; taken before scoring overwrites it.
    pub(super) fn keep(&self, desk: &mut Desk<'_>) -> Result<Option<Pages>, EngineError> {
        if self.keep_session && self.is_conversation() {
            self.pages(desk).map(Some)
        } else {
            Ok(None)
        }
    }

    fn is_conversation(&self) -> bool {
        self.talk.video.is_some() || !self.talk.turns.is_empty()
    }

    /// Finds what the answer rests on.
    pub(super) fn explain(&mut self, answered: Answered, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let ids = &answered.generated.token_ids;
        let ended = ids.last().is_some_and(|id| desk.model.end.contains(id));
        let answer = &ids[..ids.len() - usize::from(ended)];
        let frames = self.talk.frames.len();
        let wanted = self.citations && matches!(answered.finish, Finish::Stop | Finish::Length);
        if !wanted || answer.is_empty() || frames == 0 {
            self.finish(answered, Vec::new(), desk);
            return Ok(());
        }
        if let Some(chances) = &self.talk.grounded {
            let spans = grounded(&self.talk.frames, chances);
            self.finish(answered, spans, desk);
            return Ok(());
        }
        let video_tokens = self.talk.prompt.video_tokens();
        let video = if desk.traits.masks_hide {
            None
        } else {
            Some(self.pages(desk)?.head(video_tokens))
        };
        let per_slot = desk.model.family.frames_per_slot();
        let scoring = Scoring::new(&self.talk.prompt, frames, per_slot, answer, video, |ids| {
            embed(desk, ids, &self.control)
        })?;
        // From here on the cache holds one trial after the other.
        self.stage = Stage::Scoring(scoring, Box::new(answered));
        Ok(())
    }

    /// Ends without an answer: the video was prepared.
    pub(super) fn end(&mut self, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let answered = Answered {
            generated: Generated::default(),
            finish: Finish::Stop,
            kept: self.keep(desk)?,
        };
        self.finish(answered, Vec::new(), desk);
        Ok(())
    }

    pub(super) fn finish(&mut self, answered: Answered, evidence: Vec<EvidenceSpan>, desk: &mut Desk<'_>) {
        let Answered {
            generated,
            finish,
            kept,
        } = answered;
        let since = |at: Option<Instant>| match (at, self.started) {
            (Some(at), Some(started)) => at.saturating_duration_since(started),
            _ => Duration::ZERO,
        };
        let times = StageTimes {
            queue: self
                .started
                .map_or(Duration::ZERO, |started| started - self.since),
            first_token: since(self.first_token),
            wall: self.ran(),
            ..self.clocks.times()
        };
        let mut turns = self.talk.turns.clone();
        if let Some(last) = turns.last_mut() {
            last.answer = Some(generated.answer.clone());
        }
        let trace = self.trace.take();
        desk.metrics.traced(&trace);
        let session = kept.map(|pages| self.snapshot(desk, pages, turns));
        let outcome = AskOutcome {
            finish,
            evidence,
            prompt_tokens: self.talk.prompt.ids.len(),
            visual_tokens: self.talk.prompt.visual_tokens(),
            cached_tokens: self.talk.cached,
            cached_in: self.talk.cached_in,
            completion_tokens: generated.token_ids.len(),
            token_ids: generated.token_ids,
            logprobs: generated.logprobs,
            choices: generated.choices,
            frames_used: self.talk.frames.len(),
            frames_damaged: self.talk.damaged,
            times,
            session,
            trace,
            answer: generated.answer,
        };
        self.ended(Ok(Box::new(outcome)), desk);
    }

    /// The first tokens of the conversation as a session after `turns`.
    pub(super) fn snapshot(&self, desk: &Desk<'_>, pages: Pages, turns: Vec<Turn>) -> SessionKv {
        let mut ledger = self.talk.ledger.clone();
        ledger.truncate(pages.len());
        let snapshot = KvSnapshot {
            model: desk.model.id,
            video: self.talk.video.clone(),
            frames: self.talk.frames.clone(),
            damaged: self.talk.damaged,
            turns,
            ledger,
            pages,
            token_bytes: desk.model.info.kv_bytes_per_token,
        };
        SessionKv(Arc::new(snapshot), KvTier::Host)
    }

    /// Gives everything up but the result.
    pub(super) fn ended(&mut self, ending: Result<Box<AskOutcome>, EngineError>, desk: &mut Desk<'_>) {
        if self.place == Place::Rows {
            desk.rows.close(self.id);
            self.place = Place::Rest;
        }
        self.talk.features.clear();
        let stage = Stage::Ended(Some(ending), Instant::now());
        if let Stage::Watching(watching) = std::mem::replace(&mut self.stage, stage) {
            desk.metrics.reap(watching.pipeline.stop());
        }
    }

    /// Ends with an error.
    pub(crate) fn fail(&mut self, error: EngineError, desk: &mut Desk<'_>) {
        if !self.has_ended() {
            self.ended(Err(error), desk);
        }
    }

    /// How long it ran, once it may be delivered: its reader has room, or does not read any more.
    pub(crate) fn deliverable(&self) -> Option<Duration> {
        let Stage::Ended(_, since) = &self.stage else {
            return None;
        };
        let ready = self.events.room() > 0 || self.events.is_closed() || since.elapsed() > LAST_WORD;
        ready.then(|| self.ran())
    }

    /// Sends the end.
    pub(crate) fn deliver(mut self) {
        if let Stage::Ended(ending, _) = &mut self.stage
            && let Some(ending) = ending.take()
        {
            self.events.finish(ending.map(EngineEvent::Done));
        }
    }
}
