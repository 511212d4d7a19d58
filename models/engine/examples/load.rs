//! What the scheduler brings: throughput of asks that come together, gaps while a long prompt is prefilled, overhead,
//! memory. Prints one line of JSON per part.
//!
//! ```text
//! cargo run --release -p reelsight-engine --example load -- MODEL_FOLDER THREADS [PART...]
//! ```
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool")]

use std::{
    path::Path,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use reelsight_engine::{
    AskHandle, AskJob, AskOutcome, AskTarget, Engine, EngineConfig, EngineEvent, GenerationOptions, TraceSpan,
};
use reelsight_registry::ModelFolder;
use serde_json::{Value, json};

/// Asks that come together.
const TOGETHER: usize = 8;
const PROMPT: usize = 64;
const ANSWER: usize = 64;
/// The long prompt, as far as the context allows.
const LONG: usize = 4096;
const CHUNK: usize = 512;
/// Asks of the memory test.
const MIXED: usize = 500;

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().unwrap_or_else(|| "models/zoo/reelsight-tiny".into());
    let threads = args.next().and_then(|threads| threads.parse().ok()).unwrap_or(2);
    let wanted: Vec<String> = args.collect();
    let folder = ModelFolder::open(Path::new(&folder)).unwrap();
    let config = EngineConfig {
        intra_threads: threads,
        max_active: TOGETHER,
        max_queued: MIXED,
        max_batch: TOGETHER,
        prefill_chunk: CHUNK,
        kv_bytes: 8 << 30,
        // What batching brings, without guesses.
        max_draft: 0,
        ..EngineConfig::default()
    };
    let load = || Engine::load(&folder, config.clone()).unwrap();
    let engine = load();
    let info = engine.info();
    println!(
        "{}",
        json!({ "model": info.name, "precision": info.precision, "threads": threads,
            "kv_bytes_per_token": info.kv_bytes_per_token })
    );
    let parts: [(&str, &dyn Fn() -> Value); 5] = [
        ("together", &|| throughput(&load)),
        ("gap", &|| gap(&engine)),
        ("follow_up", &|| follow_up(&engine)),
        ("running_memory", &|| running_memory(&engine)),
        ("mixed_memory", &|| mixed_memory(&engine)),
    ];
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("{}", json!({ name: part() }));
        }
    }
}

/// A prompt that no other seed begins like.
fn prompt(seed: usize, len: usize) -> AskTarget {
    let id = |at: usize| u32::try_from(3 + (seed * 131 + at * 17 + at * at % 29) % 400).unwrap();
    AskTarget::Tokens((0..len).map(id).collect())
}

fn submit(engine: &Engine, seed: usize, len: usize, answer: usize) -> AskHandle {
    let job = AskJob {
        generation: GenerationOptions {
            max_tokens: answer,
            ..GenerationOptions::default()
        },
        trace: true,
        ..AskJob::new(prompt(seed, len), "")
    };
    engine.submit(job).unwrap()
}

/// As [`submit`], read by a thread of its own: an ask that nobody reads waits for its reader.
fn run(engine: &Engine, seed: usize, len: usize, answer: usize) -> JoinHandle<AskOutcome> {
    let handle = submit(engine, seed, len, answer);
    std::thread::spawn(move || wait(handle))
}

fn wait(mut handle: AskHandle) -> AskOutcome {
    loop {
        if let EngineEvent::Done(outcome) = handle.events.blocking_recv().unwrap().unwrap() {
            return *outcome;
        }
    }
}

/// Tokens of answers per second, one ask after the other and all at once.
fn throughput(load: &dyn Fn() -> Engine) -> Value {
    let measure = |together: bool| {
        let engine = load();
        wait(submit(&engine, 99, 16, 4));
        let before = engine.metrics();
        let begun = Instant::now();
        let mut tokens = 0;
        if together {
            let handles: Vec<_> = (0..TOGETHER)
                .map(|seed| run(&engine, seed, PROMPT, ANSWER))
                .collect();
            tokens += handles
                .into_iter()
                .map(|ask| ask.join().unwrap().completion_tokens)
                .sum::<usize>();
        } else {
            for seed in 0..TOGETHER {
                tokens += wait(submit(&engine, seed, PROMPT, ANSWER)).completion_tokens;
            }
        }
        let secs = begun.elapsed().as_secs_f64();
        let after = engine.metrics();
        let (steps, runs) = (
            after.step_secs - before.step_secs,
            after.run_secs - before.run_secs,
        );
        (tokens as f64 / secs, 1.0 - runs / steps, after)
    };
    let (alone, _, single) = measure(false);
    let (together, overhead, batched) = measure(true);
    json!({
        "asks": TOGETHER, "prompt_tokens": PROMPT, "answer_tokens": ANSWER,
        "tokens_per_second_one_by_one": alone, "tokens_per_second_together": together, "ratio": together / alone,
        "mean_batch": batched.batch.mean, "overhead_share_together": overhead,
        "first_token_secs_alone": single.first_token.p50, "token_secs_alone": single.token.p50,
        "token_secs_together": batched.token.p50,
    })
}

fn spans<'t>(trace: &'t [TraceSpan], name: &'t str) -> impl Iterator<Item = &'t TraceSpan> {
    trace.iter().filter(move |span| span.name == name)
}

/// The longest that running answers wait for a token while a long prompt comes in.
fn gap(engine: &Engine) -> Value {
    let long = LONG.min(engine.info().context_tokens - 256);
    let running: Vec<_> = (0..TOGETHER - 1).map(|seed| run(engine, seed, 64, 200)).collect();
    std::thread::sleep(Duration::from_secs(2));
    let prefill = wait(submit(engine, 77, long, 2));
    let slice = spans(&prefill.trace, "prefill")
        .map(|span| span.duration)
        .max()
        .unwrap();
    let mut worst = Duration::ZERO;
    let mut step = Duration::ZERO;
    for outcome in running.into_iter().map(|ask| ask.join().unwrap()) {
        let decoded: Vec<_> = spans(&outcome.trace, "decode").collect();
        step = step.max(decoded.iter().map(|span| span.duration).max().unwrap_or_default());
        let gaps = decoded
            .windows(2)
            .map(|pair| (pair[1].start + pair[1].duration).saturating_sub(pair[0].start + pair[0].duration));
        worst = worst.max(gaps.max().unwrap_or_default());
    }
    json!({
        "running": TOGETHER - 1, "prompt_tokens": long, "chunk": CHUNK, "worst_gap_ms": ms(worst),
        "slowest_slice_ms": ms(slice), "slowest_decode_step_ms": ms(step), "allowed_ms": ms(slice + 2 * step),
    })
}

/// A second question after a long first one, which need not be prefilled again.
fn follow_up(engine: &Engine) -> Value {
    let question = "Tell me about the following words. ".to_owned() + &"river stone light ".repeat(500);
    let ask = |target, question: &str| {
        let job = AskJob {
            generation: GenerationOptions {
                max_tokens: 4,
                ..GenerationOptions::default()
            },
            keep_session: true,
            ..AskJob::new(target, question)
        };
        engine.submit(job).map(wait)
    };
    let Ok(first) = ask(AskTarget::Text, &question) else {
        return Value::Null;
    };
    let Some(session) = first.session else {
        return Value::Null;
    };
    let second = ask(AskTarget::Session(session), "And now?").unwrap();
    let (one, two) = (
        first.times.first_token.as_secs_f64(),
        second.times.first_token.as_secs_f64(),
    );
    json!({
        "prompt_tokens": first.prompt_tokens, "cached_tokens": second.cached_tokens, "first_secs": one,
        "follow_up_secs": two, "ratio": one / two,
    })
}

/// KV bytes as the model's configuration says, and as memory grows.
fn running_memory(engine: &Engine) -> Value {
    wait(submit(engine, 5, 1024, 2));
    let before = resident();
    let handles: Vec<_> = (0..TOGETHER)
        .map(|seed| submit(engine, seed, 1024, 400))
        .collect();
    let whole = TOGETHER * 1024 * engine.info().kv_bytes_per_token;
    let mut predicted = 0;
    while predicted < whole {
        std::thread::sleep(Duration::from_millis(20));
        predicted = engine.metrics().kv_running_bytes;
    }
    let grown = resident().saturating_sub(before);
    handles.into_iter().for_each(drop);
    json!({ "asks": TOGETHER, "predicted_bytes": predicted, "measured_bytes": grown,
        "ratio": grown as f64 / predicted.max(1) as f64 })
}

/// Whether memory grows over many asks of all kinds.
fn mixed_memory(engine: &Engine) -> Value {
    let mut at = Vec::new();
    for round in 0..5 {
        let handles: Vec<_> = (0..MIXED / 5)
            .map(|ask| {
                let seed = round * 1000 + ask;
                submit(engine, seed, 8 + seed * 37 % 300, 1 + seed * 13 % 12)
            })
            .collect();
        for (ask, handle) in handles.into_iter().enumerate() {
            // Some go away in the middle.
            if ask % 10 == 3 {
                drop(handle);
            } else {
                wait(handle);
            }
        }
        at.push(resident());
    }
    json!({ "asks": MIXED, "resident_bytes_after_each_fifth": at })
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
