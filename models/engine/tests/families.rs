//! Every family through the whole engine: the tokens that transformers generates, for videos and for text.
//!
//! Folders and expected values are those of `models/families/tests/parity.rs`.
#![expect(clippy::unwrap_used, reason = "only tests call the helpers")]

mod support;

use std::path::{Path, PathBuf};

use reelsight_engine::{AskJob, AskTarget, Engine, GenerationOptions, SamplingRequest};
use reelsight_media::{IterSource, MediaTime, Pts, RgbFrame, TimeBase, Timeline};
use reelsight_registry::ModelFolder;
use serde_json::{Value, json};
use support::{ask, config, repository, run_python};

const NEW_TOKENS: usize = 8;

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    let text = value.as_str().unwrap();
    text.split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

fn twin(family: &str) -> PathBuf {
    let out = std::env::temp_dir().join(format!("reelsight-engine-{family}-{}", std::process::id()));
    std::fs::remove_dir_all(&out).ok();
    run_python(&["-m", "reelsight_twins.twins", family, out.to_str().unwrap()]);
    out
}

/// Picture `index` of a case's video, by the formula of `reelsight_twins/cases.py`.
fn picture(seed: u32, (width, height): (u32, u32), index: u32) -> RgbFrame {
    let seed = seed + index;
    let mut data = Vec::with_capacity((width * height * 3) as usize);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let inside = ((x + seed * 5) / 16 + (y + seed * 3) / 16).is_multiple_of(5);
        let ground = [x * 3 + seed, y * 4 + seed * 7, (x * y / 5 + seed * 11) * 2];
        let square = [seed * 53 % 256, (seed * 17 + 90) % 256, 220];
        let colour = if inside { square } else { ground };
        data.extend(colour.map(|value| u8::try_from(value % 256).unwrap()));
    }
    RgbFrame {
        width,
        height,
        data: data.into(),
        index: u64::from(index),
        time: MediaTime {
            pts: Pts(i64::from(index)),
            base: TimeBase::new(1, 25).unwrap(),
        },
        damaged: false,
    }
}

/// The case's video as a target, planned by the engine.
fn target(engine: &Engine, medium: &Value, question: &str, expected: &[u32]) -> AskTarget {
    let [seed, width, height, frames, fps] =
        ["seed", "width", "height", "frames", "fps"].map(|name| number(&medium[name]));
    let base = TimeBase::new(1, fps).unwrap();
    let timeline = Timeline::new(base, (0..i64::from(frames)).collect(), i64::from(frames)).unwrap();
    let request = SamplingRequest {
        picture: Some((width, height)),
        ..SamplingRequest::default()
    };
    let plan = engine.plan(&timeline, &request, question, NEW_TOKENS).unwrap();
    let frames: Vec<u32> = plan.frames.iter().map(|&at| u32::try_from(at).unwrap()).collect();
    assert_eq!(frames, expected, "planned frames");
    let pictures = frames
        .into_iter()
        .map(move |at| picture(seed, (width, height), at));
    let pictures: Vec<_> = pictures.collect();
    AskTarget::Video {
        plan,
        open: Box::new(move |_| Ok(Box::new(IterSource::new(pictures)))),
        key: None,
    }
}

/// Asks every single-turn case that a video service can be asked; gives how many there were.
fn holds(name: &str) -> usize {
    let root = twin(name);
    let golden = repository().join(format!("models/families/tests/golden/{name}.json"));
    let cases: Value = serde_json::from_slice(&std::fs::read(Path::new(&golden)).unwrap()).unwrap();
    let mut asked = 0;
    for rule in ["max_all", "max_hw"] {
        let manifest = json!({"mrope_text_restart": rule}).to_string();
        std::fs::write(root.join("reelsight.json"), manifest).unwrap();
        let engine = Engine::load(&ModelFolder::open(&root).unwrap(), config()).unwrap();
        for (at, case) in cases.as_array().unwrap().iter().enumerate() {
            let [turn] = &**case["turns"].as_array().unwrap() else {
                continue;
            };
            let question = turn["question"].as_str().unwrap();
            let target = match &**turn["media"].as_array().unwrap() {
                [] => AskTarget::Text,
                [video] if video["kind"] == "video" => {
                    target(&engine, video, question, &numbers(&case["frames"][0]))
                }
                _ => continue,
            };
            // Cases without a rule hold under both.
            let other = case["mrope_text_restart"].as_str().is_some_and(|own| own != rule);
            if other || case["system"].is_string() {
                continue;
            }
            let job = AskJob {
                generation: GenerationOptions {
                    max_tokens: NEW_TOKENS,
                    ..GenerationOptions::default()
                },
                ..AskJob::new(target, question)
            };
            let outcome = ask(&engine, job);
            assert_eq!(outcome.prompt_tokens, numbers(&case["ids"]).len(), "{name} {at}");
            assert_eq!(outcome.token_ids, numbers(&case["tokens"]), "{name} {at}");
            asked += 1;
        }
        engine.shutdown();
    }
    asked
}

#[test]
fn qwen2_5_vl_answers_as_in_transformers() {
    assert!(holds("qwen2_5_vl") >= 14);
}

#[test]
fn qwen2_vl_answers_as_in_transformers() {
    assert!(holds("qwen2_vl") >= 14);
}

#[test]
fn llava_onevision_answers_as_in_transformers() {
    assert!(holds("llava_onevision") >= 12);
}

#[test]
fn smolvlm_answers_as_in_transformers() {
    assert!(holds("smolvlm") >= 10);
}

#[test]
fn text_models_answer_as_in_transformers() {
    assert!(holds("llama") >= 16);
    assert!(holds("qwen2") >= 16);
}
