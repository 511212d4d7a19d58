//! The life of an ask, from acceptance to result. One future: whoever drops it frees everything.

use std::{pin::Pin, time::Duration};

use reelsight_decode::PacketIndex;
use reelsight_edge::{EdgeError, RequestContext};
use reelsight_engine::{AskHandle, AskOutcome, Engine, EngineEvent};
use reelsight_proto::{
    time::duration_from_std,
    v1::{AskAccepted, AskResult, Progress, SamplingReport, Stage, TextDelta, Warning, ask_response::Event},
};
use tokio::time::{Instant, sleep};

use crate::{
    Qa, QaError,
    accept::Accepted,
    convert, forms,
    job::{self, DecodedCount},
    prepare::{Fresh, Origin, Prepared},
    progress::{Audience, Run, Stages, Status, ticker},
};

/// The first event goes out after this, whether the plan is known or not; 100 ms are promised.
const FIRST_EVENT: Duration = Duration::from_millis(50);

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
        let run = Run {
            context,
            audience,
            status: status.clone(),
            decoded: DecodedCount::default(),
        };
        tokio::select! {
            biased;
            () = context.late() => Err(EdgeError::DeadlineExceeded { started: status.has_started() }.into()),
            () = self.0.parts.shutdown.cancelled() => Err(EdgeError::Draining.into()),
            // What an ask carries is too much for the stack of every task that waits for one.
            result = Box::pin(self.live(accepted, &run)) => result,
        }
    }

    async fn live(&self, mut accepted: Accepted, run: &Run<'_>) -> Result<AskResult, QaError> {
        let (began, audience) = (Instant::now(), run.audience);
        let mut announced = AskAccepted {
            request_id: run.context.request_id().to_owned(),
            session: accepted.session_name(),
            plan: None,
        };
        let interval = accepted.progress_interval;
        let (prepared, _held) = {
            let preparing = self.prepare(&mut accepted, run);
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
                    with_progress(preparing, interval, run).await?
                }
            }
        };
        let result = match prepared {
            Prepared::Replay(result) => {
                audience
                    .tell(Event::Delta(TextDelta {
                        text: result.answer.clone(),
                    }))
                    .await?;
                *result
            }
            Prepared::Fresh(fresh) => {
                let source_time = began.elapsed();
                let mut result = self.answer(&accepted, *fresh, run).await?;
                if let Some(usage) = &mut result.usage {
                    usage.source_time = Some(duration_from_std(source_time));
                }
                self.remember(&accepted, &result).await?;
                result
            }
        };
        for citation in result.citations.clone() {
            audience.tell(Event::Citation(citation)).await?;
        }
        audience.tell(Event::Result(result.clone())).await?;
        Ok(result)
    }

    /// Asks the engine and writes down what a session needs.
    async fn answer(&self, accepted: &Accepted, fresh: Fresh, run: &Run<'_>) -> Result<AskResult, QaError> {
        let Fresh {
            origin,
            target,
            mut report,
            model,
        } = fresh;
        for warning in warnings(&origin, &report) {
            run.audience.tell(Event::Warning(warning)).await?;
        }
        let engine = self.models().get(&model)?;
        self.refuse_hopeless(engine, run.context)?;
        let flags = (accepted.citations, accepted.session.is_some());
        let generation = accepted.generation.clone();
        let handle = job::submit(engine, target, &accepted.question, generation, flags, run.context)?;
        let outcome = follow(handle, accepted, run).await;
        match &outcome {
            Ok(_) => self.models().found(&model, true),
            Err(error) if error.is_model_broken() => self.models().found(&model, false),
            Err(_) => {}
        }
        let outcome = outcome?;
        report.frames_decoded = run.decoded.get();
        if outcome.frames_damaged > 0 {
            let text = format!("{} of the frames came out damaged", outcome.frames_damaged);
            run.audience
                .tell(Event::Warning(warning("FRAMES_DAMAGED", &text)))
                .await?;
        }
        let mut usage = convert::usage(&outcome, &model);
        match origin {
            Origin::Video(video) => {
                self.models().learn(outcome.times.wall, outcome.frames_used);
                if let Some(id) = &accepted.session {
                    let opened = (&video.resolved, &*video.index);
                    self.keep_session(id, accepted, video.source, opened, report.clone(), &outcome)
                        .await?;
                }
            }
            Origin::Session { stored, rebuilt } => {
                self.models().learn(outcome.times.wall, 0);
                if rebuilt {
                    // The cache that this turn used was made for it a moment ago: to the caller nothing was saved.
                    usage.cached_tokens = 0;
                }
                self.extend_session(*stored, accepted, &outcome).await?;
            }
        }
        Ok(AskResult {
            citations: outcome
                .evidence
                .iter()
                .map(|span| convert::citation(span, &outcome.answer))
                .collect(),
            finish_reason: convert::finish_reason(outcome.finish).into(),
            usage: Some(usage),
            sampling_report: Some(report),
            session: accepted.session_name(),
            structured: forms::structured(&accepted.config, &outcome),
            logprobs: forms::token_logprobs(engine, &outcome),
            choices: forms::choice_scores(&outcome),
            confidence: outcome.confidence(),
            answer: outcome.answer,
        })
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
}

/// Waits for `work`, telling its stage at every tick.
async fn with_progress<T>(
    mut work: Pin<&mut impl Future<Output = Result<T, QaError>>>,
    every: Duration,
    run: &Run<'_>,
) -> Result<T, QaError> {
    let mut ticks = ticker(every);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => {
                let progress = Progress { stage: run.status.stage(), ..Progress::default() };
                run.audience.tell(Event::Progress(progress)).await?;
            }
        }
    }
}

/// Forwards the engine's events until the job is done.
async fn follow(mut handle: AskHandle, accepted: &Accepted, run: &Run<'_>) -> Result<AskOutcome, QaError> {
    let mut stages = Stages::queued();
    let mut ticks = ticker(accepted.progress_interval);
    loop {
        tokio::select! {
            biased;
            event = handle.events.recv() => match event {
                None => return Err(QaError::Internal("the engine ended a job without a result")),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(EngineEvent::Done(outcome))) => return Ok(*outcome),
                Some(Ok(event)) => {
                    let is_news = stages.describe(&event);
                    run.status.set_started(stages.progress.stage() != Stage::Queued);
                    if is_news {
                        run.audience.tell(Event::Progress(stages.progress)).await?;
                    }
                    if let EngineEvent::Delta(text) = event {
                        run.audience.tell(Event::Delta(TextDelta { text })).await?;
                    }
                }
            },
            _ = ticks.tick() => run.audience.tell(Event::Progress(stages.progress)).await?,
        }
    }
}

fn warning(reason: &str, message: &str) -> Warning {
    Warning {
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn warnings(origin: &Origin, report: &SamplingReport) -> Vec<Warning> {
    match origin {
        Origin::Video(video) => video_warnings(&video.index, report),
        Origin::Session { rebuilt: false, .. } => Vec::new(),
        Origin::Session { rebuilt: true, .. } => {
            let text = "the session's cache was gone: its video was decoded and its questions asked again";
            vec![warning("SESSION_REBUILT", text)]
        }
    }
}

fn video_warnings(index: &PacketIndex, report: &SamplingReport) -> Vec<Warning> {
    let mut warnings: Vec<_> = index
        .warnings
        .iter()
        .map(|w| warning(&w.reason, &w.message))
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
