//! How an ask begins: at its video, at a session, at a prefix that another ask has left, or at plain text.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use reelsight_families::{Prompt, Turn};

use super::{Ask, Desk, Place, Stage, Talk, tell, watching::Watching};
use crate::{
    AskJob, AskTarget, EngineError, EngineEvent, OpenFrames, VideoPlan,
    control::{Control, StageClocks},
    events::Events,
    kv::{KvStore, Ledger, Pages},
    model::Model,
    pipeline::{Pipeline, Stages},
    plan::shown,
    session::SessionKv,
    trace::Trace,
};

/// What is to be done when the ask gets its place.
pub(super) enum Start {
    Video {
        plan: VideoPlan,
        open: OpenFrames,
        /// Under which name the video's part of the cache is kept, when its content has one.
        prefix: Option<String>,
    },
    Session(SessionKv),
    Text,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Video { .. } => "Video",
            Self::Session(_) => "Session",
            Self::Text => "Text",
        })
    }
}

fn turns(question: &str) -> Vec<Turn> {
    let turn = Turn {
        question: question.to_owned(),
        answer: None,
    };
    if question.is_empty() {
        Vec::new()
    } else {
        vec![turn]
    }
}

impl Ask {
    /// An ask that waits. Its prompt is told now, so that what cannot be asked is refused before it takes a place.
    pub(crate) fn new(
        id: u64,
        job: AskJob,
        events: Events,
        since: Instant,
        model: &Model,
    ) -> Result<Self, (Events, EngineError)> {
        let AskJob {
            target,
            question,
            generation,
            citations,
            keep_session,
            deadline,
            cancel,
            priority,
            tenant,
            trace,
        } = job;
        let (start, talk) = match begin(target, &question, model) {
            Ok(begun) => begun,
            Err(error) => return Err((events, error)),
        };
        let answer = if question.is_empty() && !matches!(start, Start::Text) {
            0
        } else {
            generation
                .form
                .longest_choice()
                .unwrap_or_else(|| model.max_tokens(generation.max_tokens))
        };
        let room = (talk.prompt.ids.len() + answer).min(model.info.context_tokens) + 1;
        Ok(Self {
            id,
            tenant: tenant_key(&tenant),
            priority: priority as u8,
            since,
            turn: 0,
            control: Control { cancel, deadline },
            events,
            room,
            told: None,
            trace: Trace::new(trace, since),
            question,
            generation,
            citations,
            keep_session,
            stage: Stage::Queued(start),
            place: Place::Rest,
            talk,
            clocks: Arc::default(),
            started: None,
            first_token: None,
            last_token: None,
        })
    }

    /// Name of the prefix that it would share with others.
    pub(crate) fn prefix(&self) -> Option<&str> {
        match &self.stage {
            Stage::Queued(Start::Video { prefix, .. }) => prefix.as_deref(),
            _ => self.talk.publish.as_deref(),
        }
    }

    /// Tokens that are not cached yet, as far as is known before it begins.
    pub(crate) fn to_prefill(&self, store: &KvStore) -> usize {
        let kept = |name: &Option<String>| name.as_deref().is_some_and(|name| store.tier(name).is_some());
        let cached = match &self.stage {
            Stage::Queued(Start::Video { prefix, .. }) if kept(prefix) => self.talk.prompt.video_tokens(),
            Stage::Queued(Start::Session(session)) => session.0.ledger.common_prefix(&self.talk.prompt),
            _ => self.talk.ledger.len(),
        };
        self.talk.prompt.ids.len().saturating_sub(cached)
    }

    /// Leaves the queue.
    pub(crate) fn admit(&mut self, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let Stage::Queued(start) = std::mem::replace(&mut self.stage, Stage::Prompting) else {
            return Ok(());
        };
        self.started = Some(Instant::now());
        self.trace.span("queue", self.since, 0, 1);
        match start {
            Start::Text => self.open(desk),
            Start::Session(session) => self.continue_from(&session, desk),
            Start::Video { plan, open, prefix } => {
                let found = prefix.as_deref().and_then(|name| desk.store.get(name));
                desk.metrics.looked_up(prefix.is_some(), found.is_some());
                if let Some(session) = found {
                    return self.continue_from(&session, desk);
                }
                self.talk.publish = prefix;
                self.watch(plan, open, desk)
            }
        }
    }

    fn watch(&mut self, plan: VideoPlan, open: OpenFrames, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        self.open(desk)?;
        let stages = Stages {
            model: Arc::clone(desk.model),
            video: Arc::new(shown(&plan)),
            control: self.control.clone(),
            clocks: Arc::<StageClocks>::clone(&self.clocks),
            batch: desk.config.vision_batch.max(1),
        };
        let waker = desk.waker.clone();
        let overlap = !desk.config.no_overlap;
        let pipeline = Pipeline::start(&stages, self.id, open, overlap, move || waker.wake())?;
        self.stage = Stage::Watching(Watching::new(pipeline, plan));
        Ok(())
    }

    /// Prefills what a new question adds to `session`. The whole conversation is told anew and compared with the cached
    /// tokens, so the result is that of a prefill of the whole conversation, whatever tokens the model chose for its
    /// answers.
    fn continue_from(&mut self, session: &SessionKv, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let SessionKv(session, tier) = session;
        let talk = &mut self.talk;
        talk.prompt = tell(desk.model, session.video.as_ref(), &talk.turns)?;
        talk.video.clone_from(&session.video);
        talk.frames.clone_from(&session.frames);
        talk.damaged = session.damaged;
        // At least one token must run, for its logits.
        let needed = usize::from(!talk.turns.is_empty());
        let common = session.ledger.common_prefix(&talk.prompt);
        talk.cached = common.min(talk.prompt.ids.len() - needed);
        talk.cached_in = Some(*tier);
        if talk.cached < talk.prompt.video_tokens() {
            return Err(EngineError::Internal {
                message: "the session's video does not begin its conversation".into(),
            });
        }
        talk.base = session.pages.head(talk.cached);
        talk.ledger.clone_from(&session.ledger);
        talk.ledger.truncate(talk.cached);
        self.resume(desk)?;
        if self.talk.cached == self.talk.prompt.ids.len() {
            return self.end(desk);
        }
        self.events.offer(EngineEvent::Prefill);
        Ok(())
    }
}

fn begin(target: AskTarget, question: &str, model: &Model) -> Result<(Start, Talk), EngineError> {
    let (start, video, turns, prompt) = match target {
        AskTarget::Video { plan, open, key } => {
            let (video, turns) = (shown(&plan), turns(question));
            let prompt = tell(model, Some(&video), &turns)?;
            let prefix = key.map(|key| model.prefix_name(&key, &plan));
            (Start::Video { plan, open, prefix }, Some(video), turns, prompt)
        }
        AskTarget::Session(session) => {
            let mut turns = session.0.turns.clone();
            turns.push(Turn {
                question: question.to_owned(),
                answer: None,
            });
            let prompt = tell(model, session.0.video.as_ref(), &turns)?;
            let video = session.0.video.clone();
            (Start::Session(session), video, turns, prompt)
        }
        AskTarget::Text => {
            let turns = turns(question);
            let prompt = tell(model, None, &turns)?;
            (Start::Text, None, turns, prompt)
        }
        AskTarget::Tokens(ids) => {
            let limit = model.info.context_tokens;
            let actual = ids.len();
            if actual >= limit {
                return Err(EngineError::ContextExceeded { limit, actual });
            }
            let prompt = Prompt {
                ids,
                ..Prompt::default()
            };
            (Start::Text, None, Vec::new(), prompt)
        }
    };
    let talk = Talk {
        video,
        frames: Vec::new(),
        damaged: 0,
        turns,
        prompt,
        features: BTreeMap::new(),
        ledger: Ledger::default(),
        base: Pages::default(),
        cached: 0,
        cached_in: None,
        publish: None,
        grounded: None,
    };
    Ok((start, talk))
}

/// Tenants by number; equal names are one.
fn tenant_key(name: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
