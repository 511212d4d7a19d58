//! Runs prompts of token ids through the engine and says how long each took: what measurements talk to.
//!
//! ```text
//! tokens FOLDER [--threads N] [--batch N] [--chunk N] [--draft N] [--cuda]
//! ```
//! Reads one JSON document per line, `{"prompts": [[1, 2, ...], ...], "max_tokens": 64}`: its prompts are asked at the same
//! time. Writes one line for each: `{"seconds": s, "answers": [{"tokens": [...], "first": s, "gaps": [s, ...]}]}`.
#![expect(clippy::print_stdout, reason = "the result")]

use std::{
    error::Error,
    io::{BufRead, Write},
    path::PathBuf,
    thread,
    time::Instant,
};

use reelsight_engine::{AskHandle, AskJob, AskTarget, Engine, EngineConfig, EngineEvent, GenerationOptions};
use reelsight_ort::{Device, runtime};
use reelsight_registry::ModelFolder;
use serde_json::{Value, json};

type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let mut config = EngineConfig {
        max_active: 16,
        kv_cache_bytes: 0,
        // Steps are what is measured, one token each, unless asked otherwise.
        max_draft: 0,
        ..EngineConfig::default()
    };
    let mut folder = PathBuf::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<usize, Failed> {
            Ok(words
                .next()
                .ok_or_else(|| format!("{word} wants a number"))?
                .parse()?)
        };
        match word.as_str() {
            "--threads" => config.intra_threads = number()?,
            "--batch" => config.max_batch = number()?,
            "--cuda" => drop(runtime(None)?.select(Device::Cuda)?),
            "--chunk" => config.prefill_chunk = number()?,
            "--draft" => config.max_draft = number()?,
            _ => folder = word.into(),
        }
    }
    let engine = Engine::load(&ModelFolder::open(&folder)?, config)?;
    println!(
        "{}",
        json!({"ready": engine.info().name, "kv_bytes_per_token": engine.info().kv_bytes_per_token})
    );
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let before = engine.metrics();
        let start = Instant::now();
        let answers = ask(&engine, &request)?;
        let seconds = start.elapsed().as_secs_f64();
        let after = engine.metrics();
        let (steps, runs) = (
            after.step_secs - before.step_secs,
            after.run_secs - before.run_secs,
        );
        println!(
            "{}",
            json!({"seconds": seconds, "answers": answers, "step_secs": steps, "run_secs": runs})
        );
        std::io::stdout().flush()?;
    }
    engine.shutdown();
    Ok(())
}

/// All prompts of a request at once; each is read by a thread of its own.
fn ask(engine: &Engine, request: &Value) -> Result<Vec<Value>, Failed> {
    let max_tokens = request["max_tokens"].as_u64().unwrap_or(64);
    let mut handles = Vec::new();
    for prompt in request["prompts"].as_array().into_iter().flatten() {
        let ids = prompt.as_array().into_iter().flatten().filter_map(Value::as_u64);
        let ids = ids.map(u32::try_from).collect::<Result<Vec<_>, _>>()?;
        let mut job = AskJob::new(AskTarget::Tokens(ids), "");
        job.generation = GenerationOptions {
            max_tokens: usize::try_from(max_tokens)?,
            ..GenerationOptions::default()
        };
        handles.push((Instant::now(), engine.submit(job)?));
    }
    thread::scope(|scope| {
        let readers: Vec<_> = handles
            .into_iter()
            .map(|(start, handle)| scope.spawn(move || read(start, handle)))
            .collect();
        let answers = readers.into_iter().map(|reader| match reader.join() {
            Ok(answer) => answer,
            Err(_panicked) => Err("a reader panicked".into()),
        });
        answers.collect()
    })
}

/// Seconds to the first piece of text and between pieces, and the tokens.
fn read(start: Instant, mut handle: AskHandle) -> Result<Value, Failed> {
    let (mut last, mut first, mut gaps) = (start, None, Vec::new());
    while let Some(event) = handle.events.blocking_recv() {
        match event? {
            EngineEvent::Delta(_) => {
                let now = Instant::now();
                match first {
                    None => first = Some((now - start).as_secs_f64()),
                    Some(_) => gaps.push((now - last).as_secs_f64()),
                }
                last = now;
            }
            EngineEvent::Done(outcome) => {
                let times = outcome.times;
                return Ok(json!({
                    "tokens": outcome.token_ids, "first": first, "gaps": gaps,
                    "prefill": times.prefill.as_secs_f64(), "first_token": times.first_token.as_secs_f64(),
                    "generate": times.generate.as_secs_f64(), "wall": times.wall.as_secs_f64(),
                }));
            }
            _ => {}
        }
    }
    Err("an answer ended without its end".into())
}
