//! One ask as a state machine: the scheduler says when it may use the decoder, and it never waits for anything.
//!
//! ```text
//! queued -> watching (frames come) -> prompting (prefill) -> writing (token by token) -> scoring (evidence) -> ended
//! ```

mod answering;
mod choosing;
mod ending;
mod scoring;
mod start;
mod text;
mod watching;
mod writer;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use reelsight_families::{ChatTurn, Conversation, Prompt, Turn, VideoShown};

use choosing::Choosing;
pub(crate) use scoring::Scoring;
use watching::Watching;
#[cfg(test)]
pub(crate) use watching::place_frames;
use writer::{Generated, Writer};

use crate::{
    AskOutcome, EngineConfig, EngineError, EngineEvent, Finish, GenerationOptions, KvTier,
    control::{Control, StageClocks},
    draft::Tenants,
    events::Events,
    evidence::{ShownFrame, chances},
    graphs::{Features, Logits, Tokens},
    kv::{Append, KvStore, Ledger, Next, Pages, Rows, Traits},
    metrics::Recorder,
    model::{Model, prompt_error},
    pipeline::Arrived,
    scheduler::{Waker, Work},
    trace::Trace,
};
use start::Start;

/// Events that a step may send: a piece of text, the rest of it, the end.
const EVENTS_PER_STEP: usize = 4;

/// What an ask needs of the scheduler's thread.
pub(crate) struct Desk<'a> {
    pub(crate) model: &'a Arc<Model>,
    pub(crate) config: &'a EngineConfig,
    pub(crate) rows: &'a mut Rows,
    pub(crate) traits: Traits,
    pub(crate) store: &'a KvStore,
    pub(crate) metrics: &'a Recorder,
    pub(crate) drafts: &'a mut Tenants,
    pub(crate) waker: &'a Waker,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) tenant: u64,
    pub(crate) priority: u8,
    pub(crate) since: Instant,
    /// The last step in which it took part.
    pub(crate) turn: u64,
    pub(crate) control: Control,
    pub(crate) events: Events,
    /// Tokens that it takes room for.
    pub(crate) room: usize,
    /// What it was told last about its place in the queue.
    pub(crate) told: Option<usize>,
    pub(crate) trace: Trace,
    question: String,
    generation: GenerationOptions,
    citations: bool,
    keep_session: bool,
    stage: Stage,
    place: Place,
    talk: Talk,
    clocks: Arc<StageClocks>,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    Queued(Start),
    Watching(Watching),
    Prompting,
    Writing(Box<Writer>),
    Choosing(Box<Choosing>),
    Scoring(Scoring, Box<Answered>),
    Ended(Option<Ending>, Instant),
}

type Ending = Result<Box<AskOutcome>, EngineError>;

/// Where the sequence's KV is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It has none, or had to give it up: then all of it is in [`Talk::base`].
    Rest,
    /// In the decoder's rows.
    Rows,
}

/// The conversation and how far it has gone through the decoder.
#[derive(Debug)]
struct Talk {
    video: Option<VideoShown>,
    frames: Vec<ShownFrame>,
    damaged: usize,
    turns: Vec<Turn>,
    prompt: Prompt,
    /// Embeddings by slot of the prompt, until it is prefilled.
    features: BTreeMap<usize, Features>,
    ledger: Ledger,
    /// The beginning of the sequence at rest, shared with others.
    base: Pages,
    cached: usize,
    cached_in: Option<KvTier>,
    /// Under which name the video's part is to be kept once it is prefilled.
    publish: Option<String>,
    /// What the model's grounding graph says of each frame.
    grounded: Option<Vec<f64>>,
}

/// An answer that is written, with the session to keep.
#[derive(Debug)]
struct Answered {
    generated: Generated,
    finish: Finish,
    kept: Option<Pages>,
}

/// The prompt of `turns` about `video`, or of a conversation without one.
fn tell(model: &Model, video: Option<&VideoShown>, turns: &[Turn]) -> Result<Prompt, EngineError> {
    let prompt = match video {
        Some(video) => model.family.prompt(video, turns),
        None => model.family.chat(&plain(turns)),
    };
    let prompt = prompt.map_err(|error| prompt_error(&error))?;
    let limit = model.info.context_tokens;
    if prompt.ids.len() >= limit {
        return Err(EngineError::ContextExceeded {
            limit,
            actual: prompt.ids.len(),
        });
    }
    Ok(prompt)
}

/// A conversation in which nothing is shown.
fn plain(turns: &[Turn]) -> Conversation {
    let turn = |turn: &Turn| ChatTurn {
        media: Vec::new(),
        question: turn.question.clone(),
        answer: turn.answer.clone(),
    };
    Conversation {
        system: None,
        turns: turns.iter().map(turn).collect(),
    }
}

impl Ask {
    /// What it wants of the decoder; `None` when it only has to be delivered.
    pub(crate) fn work(&self) -> Option<Work> {
        let speechless = self.events.room() < EVENTS_PER_STEP;
        let parked = self.place == Place::Rest;
        Some(match &self.stage {
            Stage::Queued(_) => Work::Queued,
            Stage::Ended(..) => return None,
            _ if parked => Work::Parked,
            _ if speechless => Work::Waiting,
            Stage::Watching(_) | Stage::Prompting => {
                match self.reach().saturating_sub(self.talk.ledger.len()) {
                    0 => Work::Waiting,
                    ready => Work::Prefill(ready),
                }
            }
            Stage::Writing(_) => Work::Decode,
            Stage::Choosing(_) | Stage::Scoring(..) => Work::Score,
        })
    }

    /// Whether it has begun and not ended.
    pub(crate) fn is_active(&self) -> bool {
        !matches!(self.stage, Stage::Queued(_) | Stage::Ended(..))
    }

    pub(crate) fn is_queued(&self) -> bool {
        matches!(self.stage, Stage::Queued(_))
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(..))
    }

    /// Up to which token the prompt can be prefilled.
    fn reach(&self) -> usize {
        let Talk { prompt, features, .. } = &self.talk;
        match &self.stage {
            // The last token is left for when all frames have come, so that there is always a step that ends the prompt.
            Stage::Watching(watching) => watching
                .reach(prompt, features.len())
                .min(prompt.ids.len().saturating_sub(1)),
            Stage::Prompting => prompt.ids.len(),
            _ => 0,
        }
    }

    /// Whether it may go on.
    pub(crate) fn check(&self, desk: &Desk<'_>) -> Result<(), EngineError> {
        if self.is_active() {
            return self.control.check();
        }
        if self.control.cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        // What cannot be done in time is better not begun.
        let needed = desk.metrics.prefill_time(self.to_prefill(desk.store));
        let late = |deadline: Instant| Instant::now() + needed >= deadline;
        if self.control.deadline.is_some_and(late) {
            return Err(EngineError::DeadlineExceeded { started: false });
        }
        let bytes = desk.rows.capacity_for(self.room) * desk.model.info.kv_bytes_per_token;
        if bytes > desk.config.kv_bytes {
            let what = format!("{bytes} bytes of KV, of {} in all", desk.config.kv_bytes);
            return Err(EngineError::DeviceMemory { what });
        }
        Ok(())
    }

    /// Takes what the pipeline has brought. Gives whether anything came.
    pub(crate) fn poll(&mut self, desk: &mut Desk<'_>) -> Result<bool, EngineError> {
        let mut came = false;
        while let Stage::Watching(watching) = &mut self.stage {
            match watching.pipeline.poll().transpose()? {
                None => break,
                Some(Arrived::Batch(batch)) => {
                    watching.take(batch, &mut self.talk.features)?;
                    let (done, total) = watching.progress();
                    self.events.offer(EngineEvent::Frames { done, total });
                }
                Some(Arrived::End) => self.watched(desk)?,
            }
            came = true;
        }
        Ok(came)
    }

    /// All frames have come.
    fn watched(&mut self, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let Stage::Watching(watching) = std::mem::replace(&mut self.stage, Stage::Prompting) else {
            return Ok(());
        };
        let talk = &mut self.talk;
        let Some(video) = &talk.video else {
            return Ok(());
        };
        let shown = watching.finish(desk.model, video, &talk.turns);
        desk.metrics.reap(watching.pipeline.stop());
        let shown = shown?;
        (talk.frames, talk.damaged) = (shown.frames, shown.damaged);
        if let Some((prompt, video)) = shown.retold {
            let before_frames = prompt.frames.first().map_or(0, |slot| slot.block.start);
            let common = talk.ledger.common_prefix(&prompt).min(before_frames);
            (talk.prompt, talk.video) = (prompt, Some(video));
            talk.ledger.truncate(common);
            talk.base = talk.base.head(common);
            desk.rows.truncate(self.id, common)?;
        }
        watching::mark(desk.model, &self.talk.prompt, &mut self.talk.features)?;
        self.events.offer(EngineEvent::Prefill);
        Ok(())
    }

    /// Prefills up to `tokens` tokens of the prompt.
    pub(crate) fn prefill(&mut self, tokens: usize, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let start = self.talk.ledger.len();
        let end = self.reach().min(start + tokens);
        let begun = Instant::now();
        let Talk { prompt, features, .. } = &self.talk;
        let mut input = embed(desk, &prompt.ids[start..end], &self.control)?;
        if let Tokens::Embeds(values) = &mut input {
            watching::place_frames(prompt, start, features, values, desk.model.hidden)?;
        }
        let last = end == prompt.ids.len() && matches!(self.stage, Stage::Prompting);
        let positions: Vec<_> = (start..end).map(|at| prompt.positions.at(at)).collect();
        let new = Append {
            tokens: input,
            positions: &positions,
            shown: None,
            keep: usize::from(last),
            states: last && self.citations && desk.model.grounding.is_some(),
        };
        let logits = desk.metrics.run(|| desk.rows.append(self.id, new))?;
        self.talk.ledger.extend(&self.talk.prompt, start..end);
        self.clocks.prefill.add(begun.elapsed());
        desk.metrics.prefilled(end - start, begun.elapsed());
        self.trace.span("prefill", begun, end - start, 1);
        if matches!(self.stage, Stage::Prompting) {
            self.publish(desk)?;
        }
        if last {
            self.prompted(&logits, desk)
        } else {
            Ok(())
        }
    }

    /// Keeps the video's part for others that ask about the same frames.
    fn publish(&mut self, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let tokens = self.talk.prompt.video_tokens();
        if self.talk.ledger.len() < tokens {
            return Ok(());
        }
        let Some(name) = self.talk.publish.take() else {
            return Ok(());
        };
        let from = self.talk.base.len().min(tokens);
        let mut base = self.talk.base.head(from);
        base.push(desk.rows.save(self.id, from..tokens)?, tokens - from);
        self.talk.base = base;
        let pages = self.talk.base.head(tokens);
        desk.store.put(&name, &self.snapshot(desk, pages, Vec::new()));
        Ok(())
    }

    /// The prompt is in the cache; `logits` are those after it.
    fn prompted(&mut self, logits: &Logits, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        self.talk.features.clear();
        if self.prepares_only() {
            return self.end(desk);
        }
        self.talk.grounded = self.ground(logits, desk)?;
        if self.generation.form.is_choice() {
            let Talk {
                prompt, video, turns, ..
            } = &self.talk;
            let form = &self.generation.form;
            let choosing = Choosing::new(desk.model, form, prompt, video.as_ref(), turns)?;
            self.stage = Stage::Choosing(Box::new(choosing));
            return Ok(());
        }
        let writer = Writer::new(desk.model, &self.talk.prompt, &self.generation);
        self.stage = Stage::Writing(Box::new(writer));
        self.accept(logits.row(0), desk)
    }

    /// Whether there is nothing to answer.
    fn prepares_only(&self) -> bool {
        self.question.is_empty() && self.talk.video.is_some()
    }

    /// What the model's own grounding graph says of each frame.
    fn ground(&self, logits: &Logits, desk: &mut Desk<'_>) -> Result<Option<Vec<f64>>, EngineError> {
        let (Some(grounding), Some(hidden)) = (&desk.model.grounding, logits.hidden()) else {
            return Ok(None);
        };
        let begun = Instant::now();
        let cache = desk.rows.named(self.id, |name| grounding.reads(name))?;
        let scores = grounding.run(hidden, &cache, self.talk.ledger.len(), &self.control)?;
        self.clocks.evidence.add(begun.elapsed());
        Ok(Some(chances(&self.talk.prompt, &scores)))
    }

    /// The token that is to be decoded next.
    pub(crate) fn next(&self, tokens: Tokens) -> Next {
        Next {
            sequence: self.id,
            token: tokens,
            position: self.talk.prompt.positions.at(self.talk.ledger.len()),
        }
    }

    /// Its id.
    pub(crate) fn pending(&self) -> Option<u32> {
        match &self.stage {
            Stage::Writing(writer) => writer.pending(),
            _ => None,
        }
    }

    /// One pass of scoring: a candidate for the answer, or the answer without some frames.
    pub(crate) fn score(&mut self, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        let begun = Instant::now();
        if matches!(self.stage, Stage::Choosing(_)) {
            return self.choose(desk, begun);
        }
        let Stage::Scoring(scoring, _) = &mut self.stage else {
            return Ok(());
        };
        let more = desk
            .metrics
            .run(|| scoring.step(self.id, &self.talk.prompt, desk.rows))?;
        self.clocks.evidence.add(begun.elapsed());
        self.trace.span("score", begun, 0, 1);
        if more {
            return Ok(());
        }
        let Stage::Scoring(scoring, answered) = std::mem::replace(&mut self.stage, Stage::Prompting) else {
            return Ok(());
        };
        let spans = scoring.spans(&self.talk.frames);
        self.finish(*answered, spans, desk);
        Ok(())
    }

    /// The whole sequence at rest: what it shares with others, and a copy of the rest.
    fn pages(&self, desk: &mut Desk<'_>) -> Result<Pages, EngineError> {
        let len = self.talk.ledger.len();
        let mut pages = self.talk.base.head(len);
        let from = pages.len();
        pages.push(desk.rows.save(self.id, from..len)?, len - from);
        Ok(pages)
    }

    /// Saves the KV and gives the place up.
    pub(crate) fn park(&mut self, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        self.talk.base = self.pages(desk)?;
        desk.rows.close(self.id);
        self.place = Place::Rest;
        Ok(())
    }

    /// Takes a place again.
    pub(crate) fn resume(&mut self, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        self.open(desk)?;
        desk.rows.load(self.id, &self.talk.base)?;
        Ok(())
    }

    fn open(&mut self, desk: &mut Desk<'_>) -> Result<(), EngineError> {
        desk.rows.open(self.id, self.room)?;
        self.place = Place::Rows;
        Ok(())
    }

    /// How long it has run.
    fn ran(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |started| started.elapsed())
    }
}

/// Input of the decoder for `ids`.
pub(crate) fn embed(desk: &Desk<'_>, ids: &[u32], control: &Control) -> Result<Tokens, EngineError> {
    if desk.rows.decoder.takes_ids() {
        return Ok(Tokens::Ids(ids.to_vec()));
    }
    desk.model.embed(ids, control).map(Tokens::Embeds)
}
