//! Ids, positions, pixels, logits and greedy tokens of every family against what transformers made of the same weights.
//!
//! `models/training/reelsight_twins` writes a folder from a seed with numpy and onnx alone; its `golden.py` wrote the
//! expected values, which are committed (`make golden`).
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod support;

use std::path::{Path, PathBuf};

use reelsight_families::{ChatTurn, Conversation, Family, Media, VideoShown};
use reelsight_media::{RgbFrame, Timeline};
use reelsight_preprocess::VisionInput;
use reelsight_registry::ModelFolder;
use reelsight_sampling::sample;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use support::{Runner, picture, twin};

/// Largest difference of a logit.
const TOLERANCE: f32 = 1e-3;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    let text = value.as_str().unwrap();
    text.split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

/// A medium of a case with its frames.
struct Shown {
    media: Media,
    frames: Vec<RgbFrame>,
}

/// Pictures as the formula makes them, videos as the family samples them.
fn show(family: &dyn Family, medium: &Value, expected: &mut impl Iterator<Item = Vec<u32>>) -> Shown {
    let [seed, width, height] = ["seed", "width", "height"].map(|name| number(&medium[name]));
    if medium["kind"] == "image" {
        return Shown {
            media: Media::Image { width, height },
            frames: vec![picture(seed, width, height, 0)],
        };
    }
    let (frames, fps) = (number(&medium["frames"]), number(&medium["fps"]));
    let timeline = support::timeline(frames, fps);
    let (rate, most) = family.default_sampling();
    let picked = sample(&timeline, &family.sampling_rule(rate, most), None)
        .unwrap()
        .frames;
    let picked: Vec<u32> = picked.iter().map(|&at| u32::try_from(at).unwrap()).collect();
    assert_eq!(picked, expected.next().unwrap(), "sampled frames of {medium}");
    let video = VideoShown {
        stamps_secs: picked.iter().map(|&at| f64::from(at) / f64::from(fps)).collect(),
        duration_secs: duration(&timeline),
        size: Some((width, height)),
    };
    Shown {
        media: Media::Video(video),
        frames: picked
            .iter()
            .map(|&at| picture(seed + at, width, height, at))
            .collect(),
    }
}

fn duration(timeline: &Timeline) -> f64 {
    timeline.base().secs(timeline.end())
}

fn conversation(case: &Value, media: &[Shown]) -> Conversation {
    let mut media = media.iter().map(|shown| shown.media.clone());
    let turn = |turn: &Value| ChatTurn {
        media: media
            .by_ref()
            .take(turn["media"].as_array().unwrap().len())
            .collect(),
        question: turn["question"].as_str().unwrap().to_owned(),
        answer: turn["answer"].as_str().map(ToOwned::to_owned),
    };
    Conversation {
        system: case["system"].as_str().map(ToOwned::to_owned),
        turns: case["turns"].as_array().unwrap().iter().map(turn).collect(),
    }
}

/// What each medium becomes for the vision graph, by medium.
fn pixels(family: &dyn Family, media: &[Shown]) -> Vec<Vec<VisionInput>> {
    let images = media
        .iter()
        .filter(|shown| matches!(shown.media, Media::Image { .. }))
        .count();
    let inputs = |shown: &Shown| match &shown.media {
        Media::Image { .. } => family.image_pixels(&shown.frames[0], images).unwrap(),
        Media::Video(video) => shown
            .frames
            .chunks(family.frames_per_slot())
            .map(|group| family.video_pixels(group, video).unwrap())
            .collect(),
    };
    media.iter().map(inputs).collect()
}

/// The order of the reference: all images, then all videos.
fn digest(media: &[Shown], inputs: &[Vec<VisionInput>]) -> Option<String> {
    if media.is_empty() {
        return None;
    }
    let mut hasher = Sha256::new();
    for videos in [false, true] {
        for (shown, inputs) in media.iter().zip(inputs) {
            if matches!(shown.media, Media::Video(_)) == videos {
                for value in inputs.iter().flat_map(VisionInput::data) {
                    hasher.update(value.to_le_bytes());
                }
            }
        }
    }
    Some(hex::encode(hasher.finalize()))
}

/// Runs all cases of a family; `manifest` is what `reelsight.json` says where the case does not.
fn holds(name: &str) {
    let root = twin(name);
    let cases: Value =
        serde_json::from_slice(&std::fs::read(golden(&format!("{name}.json"))).unwrap()).unwrap();
    let rows = std::fs::read(golden(&format!("{name}.f32"))).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 20);
    let logits: Vec<f32> = rows
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let runner = Runner::load(&ModelFolder::open(&root).unwrap());
    for (at, (case, expected)) in cases
        .iter()
        .zip(logits.chunks_exact(logits.len() / cases.len()))
        .enumerate()
    {
        let rule = case["mrope_text_restart"].as_str().unwrap_or("max_all");
        std::fs::write(
            root.join("reelsight.json"),
            json!({"mrope_text_restart": rule}).to_string(),
        )
        .unwrap();
        let folder = ModelFolder::open(&root).unwrap();
        let tokenizer = reelsight_families::tokenizer(&folder).unwrap();
        let family = reelsight_families::load(&folder, &tokenizer).unwrap();
        let end = reelsight_families::end_tokens(&folder, &tokenizer).unwrap();

        let mut sampled = case["frames"].as_array().unwrap().iter().map(numbers);
        let turns = case["turns"].as_array().unwrap().iter();
        let media: Vec<_> = turns
            .flat_map(|turn| turn["media"].as_array().unwrap())
            .map(|medium| show(&*family, medium, &mut sampled))
            .collect();
        let prompt = family.chat(&conversation(case, &media)).unwrap();
        assert_eq!(prompt.ids, numbers(&case["ids"]), "{name} {at}: ids");
        if let Some(axes) = case["positions"].as_array() {
            for (axis, expected) in axes.iter().enumerate() {
                let found: Vec<_> = (0..prompt.ids.len())
                    .map(|token| prompt.positions.at(token)[axis])
                    .collect();
                assert_eq!(found, numbers(expected), "{name} {at}: positions on axis {axis}");
            }
        }
        let inputs = pixels(&*family, &media);
        assert_eq!(
            digest(&media, &inputs).as_deref(),
            case["pixels"].as_str(),
            "{name} {at}: pixels"
        );

        let features = runner.see(
            &*family,
            &media.iter().map(|shown| &shown.media).collect::<Vec<_>>(),
            &prompt,
            &inputs,
        );
        let (first, tokens) = runner.greedy(&prompt, &features, &end, 8);
        let off = first
            .iter()
            .zip(expected)
            .map(|(found, expected)| (found - expected).abs())
            .fold(0.0, f32::max);
        assert!(off < TOLERANCE, "{name} {at}: logits differ by {off}");
        assert_eq!(tokens, numbers(&case["tokens"]), "{name} {at}: tokens");
    }
}

#[test]
fn llama_is_what_transformers_makes_of_it() {
    holds("llama");
}

#[test]
fn qwen2_is_what_transformers_makes_of_it() {
    holds("qwen2");
}

#[test]
fn qwen2_vl_is_what_transformers_makes_of_it() {
    holds("qwen2_vl");
}

#[test]
fn qwen2_5_vl_is_what_transformers_makes_of_it() {
    holds("qwen2_5_vl");
}

#[test]
fn llava_onevision_is_what_transformers_makes_of_it() {
    holds("llava_onevision");
}

#[test]
fn idefics3_is_what_transformers_makes_of_it() {
    holds("idefics3");
}

#[test]
fn smolvlm_is_what_transformers_makes_of_it() {
    holds("smolvlm");
}
