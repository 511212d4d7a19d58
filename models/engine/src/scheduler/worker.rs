//! The scheduler's thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;

use super::{
    Item, Shared, Step, Submitted, Waker,
    plan::{Bounds, Planner},
};
use crate::{
    EngineError, EngineEvent,
    ask::{Ask, Desk, embed},
    control::Control,
    draft::Tenants,
    graphs::Tokens,
    kv::{Rows, Traits},
};

/// How often asks are looked at while nothing can run: for cancelled ones, deadlines and readers that catch up.
const POLL: Duration = Duration::from_millis(5);

pub(super) struct Worker {
    shared: Arc<Shared>,
    rows: Rows,
    traits: Traits,
    waker: Waker,
    woken: Receiver<()>,
    planner: Planner,
    drafts: Tenants,
    asks: BTreeMap<u64, Ask>,
    next_ask: u64,
    begun: Instant,
    steps: u64,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        rows: Rows,
        traits: Traits,
        waker: Waker,
        woken: Receiver<()>,
    ) -> Self {
        let config = &shared.config;
        let bounds = Bounds {
            chunk: config.prefill_chunk.max(1),
            batch: config.max_batch.max(1),
            active: config.max_active.max(1),
            kv_bytes: config.kv_bytes,
            age_ms: u64::try_from(config.priority_age.as_millis()).unwrap_or(u64::MAX),
        };
        Self {
            planner: Planner::new(bounds),
            drafts: Tenants::new(config.max_draft),
            shared,
            rows,
            traits,
            waker,
            woken,
            asks: BTreeMap::new(),
            next_ask: 0,
            begun: Instant::now(),
            steps: 0,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let open = self.take_in();
            self.look();
            if !open && self.asks.is_empty() {
                self.shared.metrics.join(true);
                return;
            }
            let step = self.plan();
            if step == Step::Idle {
                self.wait();
            } else {
                self.execute(step);
            }
        }
    }

    /// Waits until something may have changed.
    fn wait(&self) {
        // Nobody but a submission can change anything when there is nothing.
        if self.asks.is_empty() {
            self.woken.recv().ok();
        } else {
            self.woken.recv_timeout(POLL).ok();
        }
    }

    /// Takes new asks. `false` once no more will come.
    fn take_in(&mut self) -> bool {
        let (submitted, closed) = {
            let mut counts = self.shared.counts.lock();
            (std::mem::take(&mut counts.inbox), counts.closed)
        };
        for Submitted {
            mut job,
            events,
            since,
        } in submitted
        {
            job.trace |= self.shared.config.trace;
            let id = self.next_ask;
            self.next_ask += 1;
            match Ask::new(id, job, events, since, &self.shared.model) {
                Ok(ask) => {
                    self.asks.insert(id, ask);
                }
                Err((events, error)) => {
                    self.shared.counts.lock().queued -= 1;
                    events.finish(Err(error));
                }
            }
        }
        if closed {
            self.each(|ask, desk| {
                ask.fail(EngineError::Cancelled, desk);
                Ok(())
            });
        }
        !closed
    }

    /// Ends what must end, takes what has come, delivers what is done.
    fn look(&mut self) {
        self.each(|ask, desk| {
            if ask.has_ended() {
                return Ok(());
            }
            if ask.events.is_closed() {
                return Err(EngineError::Cancelled);
            }
            ask.check(desk)?;
            ask.poll(desk).map(drop)
        });
        self.count();
        self.deliver();
        self.shared.metrics.join(false);
        self.tell_positions();
    }

    /// Writes down how many wait and run.
    fn count(&self) {
        let queued = self.asks.values().filter(|ask| ask.is_queued()).count();
        let active = self.asks.values().filter(|ask| ask.is_active()).count();
        let mut counts = self.shared.counts.lock();
        counts.queued = queued + counts.inbox.len();
        counts.active = active;
        drop(counts);
        self.shared
            .metrics
            .kv(self.rows.used_bytes(), self.rows.reserved_bytes());
    }

    /// Sends the ends of those whose readers have room. Their places are free by then: whoever reads the end may
    /// submit the next ask at once.
    fn deliver(&mut self) {
        let ready = |ask: &Ask| ask.deliverable().map(|wall| (ask.id, wall));
        let done: Vec<_> = self.asks.values().filter_map(ready).collect();
        for (id, wall) in done {
            if !wall.is_zero() {
                self.shared.counts.lock().learn(wall);
            }
            if let Some(ask) = self.asks.remove(&id) {
                ask.deliver();
            }
        }
    }

    /// Tells those who wait how many are before them.
    fn tell_positions(&mut self) {
        let full =
            self.asks.values().filter(|ask| ask.is_active()).count() >= self.shared.config.max_active.max(1);
        if !full {
            return;
        }
        let queued = self.asks.values_mut().filter(|ask| ask.is_queued());
        for (position, ask) in queued.enumerate() {
            if ask.told != Some(position) {
                ask.told = Some(position);
                ask.events.offer(EngineEvent::Queued { position });
            }
        }
    }

    fn plan(&mut self) -> Step {
        let now = self.millis(Instant::now());
        // Whoever wants what another ask is about to leave behind waits for it.
        let building: BTreeSet<&str> = self
            .asks
            .values()
            .filter(|ask| ask.is_active())
            .filter_map(Ask::prefix)
            .collect();
        let held =
            |ask: &Ask| ask.is_queued() && ask.prefix().is_some_and(|prefix| building.contains(prefix));
        let bytes = self.rows.decoder.bytes_per_token();
        let items: Vec<_> = self
            .asks
            .values()
            .filter(|ask| !held(ask))
            .filter_map(|ask| {
                Some(Item {
                    id: ask.id,
                    tenant: ask.tenant,
                    priority: ask.priority,
                    since: self.millis(ask.since),
                    bytes: self.rows.capacity_for(ask.room) * bytes,
                    turn: ask.turn,
                    work: ask.work()?,
                })
            })
            .collect();
        self.planner.next(&items, now)
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }

    fn execute(&mut self, step: Step) {
        let begun = Instant::now();
        self.steps += 1;
        match step {
            Step::Idle => {}
            Step::Admit(id) => self.one(id, Ask::admit),
            Step::Park(id) => self.one(id, |ask, desk| {
                desk.metrics.preempted();
                ask.park(desk)
            }),
            Step::Resume(id) => self.one(id, Ask::resume),
            Step::Prefill(id, tokens) => self.one(id, |ask, desk| ask.prefill(tokens, desk)),
            Step::Score(id) => self.one(id, Ask::score),
            Step::Decode(ids) => self.decode(&ids),
        }
        self.shared.metrics.stepped(begun.elapsed());
    }

    fn one(&mut self, id: u64, step: impl FnOnce(&mut Ask, &mut Desk<'_>) -> Result<(), EngineError>) {
        let turn = self.steps;
        let (asks, mut desk) = self.desk();
        if let Some(ask) = asks.get_mut(&id) {
            ask.turn = turn;
            guarded(ask, &mut desk, step);
        }
    }

    fn each(&mut self, mut step: impl FnMut(&mut Ask, &mut Desk<'_>) -> Result<(), EngineError>) {
        let (asks, mut desk) = self.desk();
        for ask in asks.values_mut() {
            guarded(ask, &mut desk, &mut step);
        }
    }

    /// One token for each of `ids`, or more where only one ask writes: a pass over guesses takes a sequence alone.
    fn decode(&mut self, ids: &[u64]) {
        if let [id] = *ids {
            let mut leapt = false;
            self.one(id, |ask, desk| {
                leapt = ask.leap(desk)?;
                Ok(())
            });
            if leapt || self.asks.get(&id).is_none_or(Ask::has_ended) {
                return;
            }
        }
        let begun = Instant::now();
        let rows = match self.step(ids) {
            Ok(rows) => rows,
            Err(error) => {
                let message = error.to_string();
                for &id in ids {
                    let message = message.clone();
                    self.one(id, |_, _| Err(EngineError::Internal { message }));
                }
                return;
            }
        };
        self.shared.metrics.decoded(rows.len());
        let batch = rows.len();
        for (id, logits) in rows {
            self.one(id, |ask, desk| ask.decoded(&logits, begun, batch, desk));
        }
    }

    /// Runs the pending tokens of `ids`; gives the logits after each.
    fn step(&mut self, ids: &[u64]) -> Result<Vec<(u64, Vec<f32>)>, EngineError> {
        let (asks, desk) = self.desk();
        let pending: Vec<_> = ids
            .iter()
            .filter_map(|id| asks.get(id).and_then(|ask| Some((ask, ask.pending()?))))
            .collect();
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let tokens: Vec<u32> = pending.iter().map(|(_, token)| *token).collect();
        // One ask's wish to stop must not stop the others: nobody's control is asked in the middle of a step.
        let control = Control::endless();
        let input = embed(&desk, &tokens, &control)?;
        let next = pending.iter().zip(split(input, tokens.len()));
        let next = next.map(|((ask, _), token)| ask.next(token)).collect();
        let mut logits = Vec::with_capacity(ids.len());
        let run = || desk.rows.decode(next, |id, row| logits.push((id, row.to_vec())));
        desk.metrics.run(run)?;
        Ok(logits)
    }

    /// The asks, and what their steps may use.
    fn desk(&mut self) -> (&mut BTreeMap<u64, Ask>, Desk<'_>) {
        let desk = Desk {
            model: &self.shared.model,
            config: &self.shared.config,
            rows: &mut self.rows,
            traits: self.traits,
            store: &self.shared.store,
            metrics: &self.shared.metrics,
            waker: &self.waker,
            drafts: &mut self.drafts,
        };
        (&mut self.asks, desk)
    }
}

/// A step of one ask; whatever goes wrong in it ends that ask alone.
fn guarded(
    ask: &mut Ask,
    desk: &mut Desk<'_>,
    step: impl FnOnce(&mut Ask, &mut Desk<'_>) -> Result<(), EngineError>,
) {
    let result = catch_unwind(AssertUnwindSafe(|| step(ask, desk)));
    let result = result.unwrap_or_else(|_panic| {
        Err(EngineError::Internal {
            message: "a step of the scheduler panicked".into(),
        })
    });
    if let Err(error) = result {
        ask.fail(error, desk);
    }
}

/// Input of `count` sequences, one by one.
fn split(tokens: Tokens, count: usize) -> Vec<Tokens> {
    match tokens {
        Tokens::Ids(ids) => ids.into_iter().map(|id| Tokens::Ids(vec![id])).collect(),
        Tokens::Embeds(values) => {
            let width = values.len() / count.max(1);
            values
                .chunks_exact(width)
                .map(|row| Tokens::Embeds(row.to_vec()))
                .collect()
        }
    }
}
