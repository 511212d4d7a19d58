//! The life of an ask, from acceptance to result. One future: whoever drops it frees everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::Duration,
};

use reelsight_catalog::Resolved;
use reelsight_decode::PacketIndex;
use reelsight_edge::{EdgeError, EventSink, KeyGuard, RequestContext};
use reelsight_engine::{AskHandle, AskOutcome, AskTarget, Engine, EngineEvent};
use reelsight_proto::{
    time::{duration_from_std, now_millis},
    v1::{
        AskAccepted, AskResponse, AskResult, Progress, SamplingReport, Stage, TextDelta, VideoSource,
        Warning, ask_response::Event, ask_upload_request::Payload,
    },
};
use reelsight_store::Reply;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_stream::StreamExt as _;

use crate::{
    Qa, QaError,
    accept::{Accepted, Subject},
    convert,
    job::{self, DecodedCount},
    sessions::Stored,
    validate::{self, invalid},
};

/// The first event goes out after this, whether the plan is known or not; 100 ms are promised.
const FIRST_EVENT: Duration = Duration::from_millis(70);
/// Longest silence of a client in the middle of its bytes.
const UPLOAD_IDLE: Duration = Duration::from_secs(60);
/// Scope of remembered answers.
const SCOPE: &str = "ask";

/// Who watches an ask.
pub(crate) enum Audience {
    /// A response stream.
    Stream(EventSink<AskResponse>),
    /// An operation, which shows progress only.
    Operation(watch::Sender<Progress>),
    /// Nobody.
    Quiet,
}

impl Audience {
    async fn tell(&self, event: Event) -> Result<(), QaError> {
        match (self, event) {
            (Self::Stream(sink), event) => Ok(sink.send(AskResponse { event: Some(event) }).await?),
            (Self::Operation(seen), Event::Progress(progress)) => {
                seen.send_replace(progress);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What an ask shares with whoever reports on it while it works.
#[derive(Clone, Default)]
struct Status {
    stage: Arc<AtomicI32>,
    /// Whether it has left the queue.
    started: Arc<AtomicBool>,
}

impl Status {
    fn enter(&self, stage: Stage) {
        self.stage.store(stage.into(), Ordering::Relaxed);
    }

    fn stage(&self) -> i32 {
        self.stage.load(Ordering::Relaxed)
    }
}

/// An opened and planned video.
struct Video {
    source: VideoSource,
    resolved: Resolved,
    index: Arc<PacketIndex>,
}

/// What is known before the engine is asked.
enum Prepared {
    /// The same request was answered before.
    Replay(Box<AskResult>),
    /// A video to look at.
    Video {
        video: Video,
        target: AskTarget,
        report: SamplingReport,
    },
    /// A session to continue.
    Session {
        stored: Box<Stored>,
        target: AskTarget,
        report: SamplingReport,
        rebuilt: bool,
    },
}

/// Held until the ask is over: nobody else answers the same request or continues the same session.
#[derive(Default)]
struct Held {
    _request: Option<KeyGuard>,
    _session: Option<KeyGuard>,
}

impl Qa {
    /// Runs an accepted ask until its result, its error, its deadline or the server's end.
    pub(crate) async fn run(
        &self,
        accepted: Accepted,
        context: &RequestContext,
        audience: &Audience,
    ) -> Result<AskResult, QaError> {
        let status = Status::default();
        status.enter(Stage::Queued);
        let started = Arc::clone(&status.started);
        tokio::select! {
            biased;
            () = context.late() => {
                Err(EdgeError::DeadlineExceeded { started: started.load(Ordering::Relaxed) }.into())
            }
            () = self.0.parts.shutdown.cancelled() => Err(EdgeError::Draining.into()),
            result = self.live(accepted, context, audience, status) => result,
        }
    }

    async fn live(
        &self,
        mut accepted: Accepted,
        context: &RequestContext,
        audience: &Audience,
        status: Status,
    ) -> Result<AskResult, QaError> {
        let began = Instant::now();
        let count = DecodedCount::default();
        let mut announced = AskAccepted {
            request_id: context.request_id().to_owned(),
            session: accepted.session_name(),
            plan: None,
        };
        let interval = accepted.progress_interval;
        let (prepared, _held) = {
            let preparing = self.prepare(&mut accepted, context, &status, &count);
            tokio::pin!(preparing);
            tokio::select! {
                biased;
                prepared = &mut preparing => {
                    let prepared = prepared?;
                    announced.plan = prepared.0.report();
                    audience.tell(Event::Accepted(announced)).await?;
                    prepared
                }
                () = sleep(FIRST_EVENT) => {
                    audience.tell(Event::Accepted(announced)).await?;
                    self.with_progress(preparing, interval, &status, audience).await?
                }
            }
        };
        let source_time = began.elapsed();
        let result = match prepared {
            Prepared::Replay(result) => *result,
            fresh => {
                let mut result = self
                    .answer(&accepted, fresh, context, audience, &status, &count)
                    .await?;
                if let Some(usage) = &mut result.usage {
                    usage.source_time = Some(duration_from_std(source_time));
                }
                self.remember(&accepted, &result).await?;
                audience.tell(Event::Result(result.clone())).await?;
                return Ok(result);
            }
        };
        audience
            .tell(Event::Delta(TextDelta {
                text: result.answer.clone(),
            }))
            .await?;
        for citation in result.citations.clone() {
            audience.tell(Event::Citation(citation)).await?;
        }
        audience.tell(Event::Result(result.clone())).await?;
        Ok(result)
    }

    /// Waits for `work`, telling its stage at every tick.
    async fn with_progress<T>(
        &self,
        mut work: std::pin::Pin<&mut impl Future<Output = Result<T, QaError>>>,
        every: Duration,
        status: &Status,
        audience: &Audience,
    ) -> Result<T, QaError> {
        let mut ticks = ticker(every);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => {
                    let progress = Progress { stage: status.stage(), ..Progress::default() };
                    audience.tell(Event::Progress(progress)).await?;
                }
            }
        }
    }

    async fn prepare(
        &self,
        accepted: &mut Accepted,
        context: &RequestContext,
        status: &Status,
        count: &DecodedCount,
    ) -> Result<(Prepared, Held), QaError> {
        let mut held = Held::default();
        if !accepted.request_id.is_empty() {
            // A second call with the same id waits for the first and gets its answer.
            held._request = Some(
                self.0
                    .locks
                    .lock(&format!("request/{}", accepted.request_id))
                    .await,
            );
            if let Some(result) = self.remembered(accepted).await? {
                return Ok((Prepared::Replay(Box::new(result)), held));
            }
        }
        if let Subject::Session(id) = &accepted.subject {
            let id = id.clone();
            held._session = Some(self.0.locks.lock(&format!("session/{id}")).await);
            return Ok((
                self.prepare_session(&id, accepted, context, status, count)
                    .await?,
                held,
            ));
        }
        let video = self.open(accepted, status).await?;
        let mut request = accepted.sampling_request;
        validate::clip_range(&mut request, video.index.timeline.duration_secs())?;
        let engine = self.models().get(&accepted.config.model)?;
        let plan = engine.plan(
            &video.index.timeline,
            &request,
            &accepted.question,
            accepted.generation.max_tokens,
        )?;
        let report = convert::report_from_plan(&plan);
        let parts = &self.0.parts;
        let (index, decode) = (Arc::clone(&video.index), &parts.sources.limits().decode);
        let target = job::video_target(&video.resolved, index, plan, &parts.limits, decode, count.clone())?;
        status.enter(Stage::Queued);
        Ok((
            Prepared::Video {
                video,
                target,
                report,
            },
            held,
        ))
    }

    async fn open(&self, accepted: &mut Accepted, status: &Status) -> Result<Video, QaError> {
        let sources = &self.0.parts.sources;
        status.enter(Stage::Fetching);
        let (source, resolved) = match &mut accepted.subject {
            Subject::Source(source) => (source.clone(), sources.open(source).await?),
            Subject::Upload { source, chunks, file } => {
                loop {
                    let next = tokio::time::timeout(UPLOAD_IDLE, chunks.next()).await;
                    let next =
                        next.map_err(|_elapsed| reelsight_catalog::CatalogError::Silent(UPLOAD_IDLE))?;
                    let Some(message) = next.transpose().map_err(|_broken| EdgeError::Cancelled)? else {
                        break;
                    };
                    let Some(Payload::Chunk(chunk)) = message.payload else {
                        return Err(invalid("chunk", "after ask only chunks may come"));
                    };
                    file.push(chunk).await?;
                }
                let (file, _bytes, sha256) = file.finish().await?;
                let key = reelsight_catalog::SourceKey::from_sha256(&sha256);
                (source.clone(), Resolved { file, key })
            }
            Subject::Session(_) => return Err(QaError::Internal("a session has no source to open")),
        };
        status.enter(Stage::Probing);
        let index = sources.index(&resolved).await?;
        Ok(Video {
            source,
            resolved,
            index,
        })
    }

    async fn prepare_session(
        &self,
        id: &str,
        accepted: &mut Accepted,
        context: &RequestContext,
        status: &Status,
        count: &DecodedCount,
    ) -> Result<Prepared, QaError> {
        let stored = self.live_session(id).await?;
        let model = &stored.record.model;
        if !accepted.config.model.is_empty() && accepted.config.model != *model {
            return Err(invalid(
                "generation.model",
                format!("the session was made with {model}: leave it empty"),
            ));
        }
        let engine = self.models().get(model)?;
        let report = SamplingReport {
            frames_decoded: 0,
            ..stored.record.sampling_report.clone().unwrap_or_default()
        };
        let (state, rebuilt) = match self.0.kv.get(id) {
            Some(state) => (state, false),
            None => {
                status.enter(Stage::Decoding);
                (self.rebuild(engine, &stored, count, context).await?, true)
            }
        };
        status.enter(Stage::Queued);
        Ok(Prepared::Session {
            stored: Box::new(stored),
            target: AskTarget::Session(state),
            report,
            rebuilt,
        })
    }

    /// Asks the engine and writes down what a session needs.
    async fn answer(
        &self,
        accepted: &Accepted,
        prepared: Prepared,
        context: &RequestContext,
        audience: &Audience,
        status: &Status,
        count: &DecodedCount,
    ) -> Result<AskResult, QaError> {
        let mut rebuilt = false;
        let (target, mut report, engine, kept) = match prepared {
            Prepared::Replay(result) => return Ok(*result),
            Prepared::Video {
                video,
                target,
                report,
            } => {
                for warning in video_warnings(&video.index, &report) {
                    audience.tell(Event::Warning(warning)).await?;
                }
                (
                    target,
                    report,
                    self.models().get(&accepted.config.model)?,
                    Kept::New(video),
                )
            }
            Prepared::Session {
                stored,
                target,
                report,
                rebuilt: again,
            } => {
                rebuilt = again;
                if again {
                    let text =
                        "the session's cache was gone: its video was decoded and its questions asked again";
                    audience
                        .tell(Event::Warning(warning("SESSION_REBUILT", text)))
                        .await?;
                }
                let engine = self.models().get(&stored.record.model)?;
                (target, report, engine, Kept::Old(stored))
            }
        };
        self.refuse_hopeless(engine, context)?;
        let flags = (accepted.citations, accepted.session.is_some());
        let generation = accepted.generation.clone();
        let handle = job::submit(engine, target, &accepted.question, generation, flags, context)?;
        let outcome = self.follow(handle, accepted, audience, status).await?;
        report.frames_decoded = count.get();
        if outcome.frames_damaged > 0 {
            let text = format!("{} of the frames came out damaged", outcome.frames_damaged);
            audience
                .tell(Event::Warning(warning("FRAMES_DAMAGED", &text)))
                .await?;
        }
        let seen = if accepted.is_follow_up() {
            0
        } else {
            outcome.frames_used
        };
        self.models().learn(outcome.times.wall, seen);
        match (kept, &accepted.session) {
            (Kept::New(video), Some(id)) => {
                let (opened, report) = ((&video.resolved, &*video.index), report.clone());
                self.keep_session(id, accepted, video.source, opened, report, &outcome)
                    .await?;
            }
            (Kept::Old(stored), _) => self.extend_session(*stored, accepted, &outcome).await?,
            (Kept::New(_), None) => {}
        }
        let result = result_from_outcome(outcome, accepted, engine, report, rebuilt);
        for citation in result.citations.clone() {
            audience.tell(Event::Citation(citation)).await?;
        }
        Ok(result)
    }

    /// A call that cannot start before its deadline is refused before it takes a place.
    fn refuse_hopeless(&self, engine: &Engine, context: &RequestContext) -> Result<(), QaError> {
        let lanes = self.0.parts.limits.max_active;
        let ahead = engine.queued() + engine.active();
        let hopeless = |deadline: Instant| {
            ahead >= lanes && Instant::now() + self.models().estimate_wait(ahead, lanes) >= deadline
        };
        if context.deadline().is_some_and(hopeless) {
            return Err(EdgeError::DeadlineExceeded { started: false }.into());
        }
        Ok(())
    }

    /// Forwards the engine's events until the job is done.
    async fn follow(
        &self,
        mut handle: AskHandle,
        accepted: &Accepted,
        audience: &Audience,
        status: &Status,
    ) -> Result<AskOutcome, QaError> {
        let mut progress = Progress {
            stage: Stage::Queued.into(),
            ..Progress::default()
        };
        let mut entered = Instant::now();
        let mut ticks = ticker(accepted.progress_interval);
        loop {
            tokio::select! {
                biased;
                event = handle.events.recv() => match event {
                    None => return Err(QaError::Internal("the engine ended a job without a result")),
                    Some(Err(error)) => return Err(error.into()),
                    Some(Ok(EngineEvent::Done(outcome))) => return Ok(*outcome),
                    Some(Ok(EngineEvent::Delta(text))) => {
                        note(&mut progress, &mut entered, Stage::Generating);
                        status.started.store(true, Ordering::Relaxed);
                        audience.tell(Event::Delta(TextDelta { text })).await?;
                    }
                    Some(Ok(other)) => {
                        let before = progress.stage;
                        describe(&mut progress, &mut entered, &other);
                        let waiting = progress.stage() == Stage::Queued;
                        status.started.store(!waiting, Ordering::Relaxed);
                        if progress.stage != before || waiting {
                            audience.tell(Event::Progress(progress)).await?;
                        }
                    }
                },
                _ = ticks.tick() => audience.tell(Event::Progress(progress)).await?,
            }
        }
    }

    async fn remembered(&self, accepted: &Accepted) -> Result<Option<AskResult>, QaError> {
        let (id, fingerprint) = (accepted.request_id.clone(), accepted.fingerprint.clone());
        let since = now_millis() - i64::try_from(self.0.parts.limits.keep_replies.as_millis()).unwrap_or(0);
        match self
            .0
            .parts
            .store
            .run(move |db| db.reply(SCOPE, &id, &fingerprint, since))
            .await?
        {
            None => Ok(None),
            Some(Reply::Different) => Err(QaError::RequestIdReused(accepted.request_id.clone())),
            Some(Reply::Same(bytes)) => prost::Message::decode(bytes.as_slice())
                .map(Some)
                .map_err(|_malformed| QaError::Internal("a remembered answer cannot be read")),
        }
    }

    async fn remember(&self, accepted: &Accepted, result: &AskResult) -> Result<(), QaError> {
        if accepted.request_id.is_empty() {
            return Ok(());
        }
        let (id, fingerprint) = (accepted.request_id.clone(), accepted.fingerprint.clone());
        let bytes = prost::Message::encode_to_vec(result);
        let write = self
            .0
            .parts
            .store
            .run(move |db| db.put_reply(SCOPE, &id, &fingerprint, &bytes, now_millis()));
        Ok(write.await?)
    }
}

/// What the answer is added to.
enum Kept {
    New(Video),
    Old(Box<Stored>),
}

impl Prepared {
    fn report(&self) -> Option<SamplingReport> {
        match self {
            Self::Replay(result) => result.sampling_report.clone(),
            Self::Video { report, .. } | Self::Session { report, .. } => Some(report.clone()),
        }
    }
}

/// Ticks after each period, never at once, and never in bursts.
fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

fn warning(reason: &str, message: &str) -> Warning {
    Warning {
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn video_warnings(index: &PacketIndex, report: &SamplingReport) -> Vec<Warning> {
    let mut warnings: Vec<_> = index
        .warnings
        .iter()
        .map(|w| warning(w.reason, &w.message))
        .collect();
    if report.reduced_to_fit {
        let text = format!(
            "fewer frames than asked for: {} at {:.3} frames per second ({})",
            report.frames_used, report.effective_fps, report.reduced_reason
        );
        warnings.push(warning("SAMPLING_REDUCED", &text));
    }
    warnings
}

/// Enters a stage; its clock starts anew when it is another one.
fn note(progress: &mut Progress, entered: &mut Instant, stage: Stage) {
    if progress.stage() != stage {
        *progress = Progress {
            stage: stage.into(),
            frames_done: progress.frames_done,
            frames_total: progress.frames_total,
            ..Progress::default()
        };
        *entered = Instant::now();
    }
}

fn describe(progress: &mut Progress, entered: &mut Instant, event: &EngineEvent) {
    match event {
        EngineEvent::Queued { position } => {
            note(progress, entered, Stage::Queued);
            progress.queue_position = convert::count(*position);
        }
        EngineEvent::Frames { done: 0, total } => {
            note(progress, entered, Stage::Decoding);
            progress.frames_total = *total as u64;
        }
        EngineEvent::Frames { done, total } => {
            note(progress, entered, Stage::Encoding);
            (progress.frames_done, progress.frames_total) = (*done as u64, *total as u64);
            let fraction = *done as f64 / (*total).max(1) as f64;
            progress.fraction = Some(fraction);
            let left = entered
                .elapsed()
                .mul_f64((1.0 - fraction).max(0.0) / fraction.max(1e-9));
            progress.eta = Some(duration_from_std(left));
        }
        EngineEvent::Prefill => note(progress, entered, Stage::Prefill),
        EngineEvent::Delta(_) | EngineEvent::Done(_) => {}
    }
}

fn result_from_outcome(
    outcome: AskOutcome,
    accepted: &Accepted,
    engine: &Engine,
    report: SamplingReport,
    rebuilt: bool,
) -> AskResult {
    let mut usage = convert::usage(&outcome, &engine.info().name);
    if rebuilt {
        // The cache that this turn used was made for it a moment ago: to the caller nothing was saved.
        usage.cached_tokens = 0;
    }
    AskResult {
        citations: outcome
            .evidence
            .iter()
            .map(|span| convert::citation(span, &outcome.answer))
            .collect(),
        finish_reason: convert::finish_reason(outcome.finish).into(),
        usage: Some(usage),
        sampling_report: Some(report),
        session: accepted.session_name(),
        answer: outcome.answer,
    }
}
