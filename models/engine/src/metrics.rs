//! What the engine has done and how fast, since it was loaded.

use std::{
    collections::VecDeque,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{TraceSpan, draft::Outcome};

/// Samples of which quantiles are told.
const WINDOW: usize = 512;
/// Tokens of a slice of prefill from which its time says something about tokens.
const TELLING: usize = 32;
/// How fast the best time of a token is forgotten, from one slice to the next.
const FORGET: f64 = 1.02;

/// A quantity that is measured again and again.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Measurements.
    pub count: u64,
    /// Mean of all of them.
    pub mean: f64,
    /// Median of the last 512.
    pub p50: f64,
    /// 95th percentile of the last 512.
    pub p95: f64,
    /// Largest of all.
    pub max: f64,
}

/// A snapshot of the engine's figures. Times are in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EngineMetrics {
    /// From submission to the first token.
    pub first_token: Summary,
    /// From one token of an answer to the next.
    pub token: Summary,
    /// Answers per decode step.
    pub batch: Summary,
    /// Steps that decoded.
    pub decode_steps: u64,
    /// Steps that prefilled.
    pub prefill_steps: u64,
    /// Tokens of answers.
    pub decoded_tokens: u64,
    /// Tokens of prompts that were run; cached ones are not.
    pub prefilled_tokens: u64,
    /// Time of all steps.
    pub step_secs: f64,
    /// Part of it that was spent inside ONNX Runtime.
    pub run_secs: f64,
    /// Bytes of cached tokens of running asks.
    pub kv_running_bytes: usize,
    /// Bytes that running asks have taken room for.
    pub kv_reserved_bytes: usize,
    /// Bytes at rest in memory.
    pub kv_host_bytes: usize,
    /// Bytes at rest on disk.
    pub kv_disk_bytes: u64,
    /// Videos that were looked for among the prefixes at rest.
    pub prefix_lookups: u64,
    /// Those that were found.
    pub prefix_hits: u64,
    /// Asks that had to give their place up for another.
    pub preemptions: u64,
    /// Passes over guessed tokens.
    pub draft_passes: u64,
    /// Tokens that were guessed.
    pub drafted_tokens: u64,
    /// Of these: the ones that became part of an answer.
    pub accepted_tokens: u64,
}

impl EngineMetrics {
    /// Part of the steps' time that was not spent inside ONNX Runtime, 0 to 1.
    #[must_use]
    pub fn overhead(&self) -> f64 {
        if self.step_secs > 0.0 {
            1.0 - self.run_secs / self.step_secs
        } else {
            0.0
        }
    }
}

#[derive(Debug, Default)]
struct Series {
    count: u64,
    sum: f64,
    max: f64,
    last: VecDeque<f64>,
}

impl Series {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(value);
    }

    fn summary(&self) -> Summary {
        let mut sorted: Vec<f64> = self.last.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted.get(sorted.len() * percent / 100).copied().unwrap_or(0.0);
        Summary {
            count: self.count,
            mean: if self.count > 0 {
                self.sum / self.count as f64
            } else {
                0.0
            },
            p50: at(50),
            p95: at(95),
            max: self.max,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    figures: EngineMetrics,
    first_token: Series,
    token: Series,
    batch: Series,
    /// Seconds of one token of prefill, at best.
    prefill_token: Option<f64>,
    /// Threads of pipelines that were told to stop.
    ending: Vec<JoinHandle<()>>,
    /// What the last traced ask did.
    last_trace: Vec<TraceSpan>,
}

/// Where the scheduler writes its figures down.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<State>);

impl Recorder {
    /// Runs something inside ONNX Runtime.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.0.lock().figures.run_secs += begun.elapsed().as_secs_f64();
        result
    }

    /// A step of the scheduler took so long.
    pub(crate) fn stepped(&self, took: Duration) {
        self.0.lock().figures.step_secs += took.as_secs_f64();
    }

    pub(crate) fn prefilled(&self, tokens: usize, took: Duration) {
        let mut state = self.0.lock();
        state.figures.prefill_steps += 1;
        state.figures.prefilled_tokens += tokens as u64;
        let each = took.as_secs_f64() / tokens.max(1) as f64;
        // Short runs cost what a run costs, not what tokens cost; and nobody is refused for a slow moment.
        if tokens >= TELLING {
            let known = state.prefill_token.unwrap_or(each);
            state.prefill_token = Some(each.min(known * FORGET));
        }
    }

    pub(crate) fn decoded(&self, batch: usize) {
        let mut state = self.0.lock();
        state.figures.decode_steps += 1;
        state.figures.decoded_tokens += batch as u64;
        state.batch.add(batch as f64);
    }

    /// A pass over guesses.
    pub(crate) fn leapt(&self, outcome: Outcome) {
        let mut state = self.0.lock();
        let figures = &mut state.figures;
        figures.decode_steps += 1;
        figures.decoded_tokens += outcome.accepted as u64 + 1;
        figures.draft_passes += 1;
        figures.drafted_tokens += outcome.proposed as u64;
        figures.accepted_tokens += outcome.accepted as u64;
        state.batch.add(1.0);
    }

    pub(crate) fn first_token(&self, after: Duration) {
        self.0.lock().first_token.add(after.as_secs_f64());
    }

    pub(crate) fn next_token(&self, after: Duration) {
        self.0.lock().token.add(after.as_secs_f64());
    }

    pub(crate) fn looked_up(&self, wanted: bool, found: bool) {
        let mut state = self.0.lock();
        state.figures.prefix_lookups += u64::from(wanted);
        state.figures.prefix_hits += u64::from(found);
    }

    pub(crate) fn preempted(&self) {
        self.0.lock().figures.preemptions += 1;
    }

    pub(crate) fn kv(&self, running: usize, reserved: usize) {
        let mut state = self.0.lock();
        (state.figures.kv_running_bytes, state.figures.kv_reserved_bytes) = (running, reserved);
    }

    /// Keeps the trace of an ask that has ended.
    pub(crate) fn traced(&self, spans: &[TraceSpan]) {
        if !spans.is_empty() {
            self.0.lock().last_trace = spans.to_vec();
        }
    }

    pub(crate) fn last_trace(&self) -> Vec<TraceSpan> {
        self.0.lock().last_trace.clone()
    }

    /// How long prefilling `tokens` takes at best, going by what was measured.
    pub(crate) fn prefill_time(&self, tokens: usize) -> Duration {
        let each = self.0.lock().prefill_token.unwrap_or(0.0);
        Duration::try_from_secs_f64(each * tokens as f64).unwrap_or(Duration::MAX)
    }

    /// Takes threads that are about to end.
    pub(crate) fn reap(&self, threads: Vec<JoinHandle<()>>) {
        self.0.lock().ending.extend(threads);
    }

    /// Joins those that have ended, or all.
    pub(crate) fn join(&self, all: bool) {
        let done: Vec<_> = self
            .0
            .lock()
            .ending
            .extract_if(.., |thread| all || thread.is_finished())
            .collect();
        for thread in done {
            if thread.join().is_err() {
                tracing::error!("a thread of a pipeline panicked");
            }
        }
    }

    pub(crate) fn snapshot(&self) -> EngineMetrics {
        let state = self.0.lock();
        EngineMetrics {
            first_token: state.first_token.summary(),
            token: state.token.summary(),
            batch: state.batch.summary(),
            ..state.figures
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up() {
        let recorder = Recorder::default();
        for ms in 1..=100 {
            recorder.next_token(Duration::from_millis(ms));
        }
        recorder.decoded(3);
        recorder.decoded(1);
        recorder.prefilled(100, Duration::from_secs(2));
        recorder.stepped(Duration::from_secs(4));
        recorder.looked_up(true, true);
        recorder.looked_up(true, false);
        let figures = recorder.snapshot();
        assert_eq!(
            (figures.token.count, figures.decoded_tokens, figures.decode_steps),
            (100, 4, 2)
        );
        assert!((figures.token.p50 - 0.051).abs() < 1e-9 && (figures.token.p95 - 0.096).abs() < 1e-9);
        assert!((figures.token.max - 0.1).abs() < 1e-9 && (figures.batch.mean - 2.0).abs() < 1e-9);
        assert_eq!(recorder.prefill_time(50), Duration::from_secs(1));
        assert_eq!((figures.prefix_lookups, figures.prefix_hits), (2, 1));
        assert!((figures.overhead() - 1.0).abs() < 1e-9);
    }
}
