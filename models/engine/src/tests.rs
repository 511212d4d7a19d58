//! The decoder's arithmetic on a model with random weights: chunks, crops and masks.

#[path = "../tests/support/made.rs"]
mod made;

use std::{collections::BTreeMap, path::Path, sync::OnceLock};

use proptest::{prelude::*, test_runner::Config};
use reelsight_families::{Prompt, Turn, VideoShown};
use reelsight_media::CancelFlag;
use reelsight_registry::ModelFolder;

use crate::{
    EngineConfig,
    control::Control,
    evidence::{Probe, Scene, ShownFrame},
    graphs::{Features, Step},
    model::Model,
    sequence::Sequence,
};

const SEED: u64 = 5;
const FRAMES: u64 = 6;
/// A chunk of one token goes through other kernels (vector by matrix), which round in another order.
const ROUNDING: f32 = 1e-4;

fn control() -> Control {
    Control {
        cancel: CancelFlag::new(),
        deadline: None,
    }
}

fn load(form: &str) -> Model {
    let config = EngineConfig {
        intra_threads: 1,
        max_active: 1,
        max_queued: 0,
        prefill_chunk: 64,
        vision_batch: 8,
        no_overlap: false,
    };
    Model::load(&ModelFolder::open(&made::twin(form)).unwrap(), &config).unwrap()
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| load("gqa"))
}

/// A question about six frames, with their embeddings.
fn scene(model: &Model) -> (Prompt, BTreeMap<usize, Features>) {
    let video = VideoShown {
        stamps_secs: (0..6).map(f64::from).collect(),
        duration_secs: 6.0,
        size: None,
    };
    let turn = Turn {
        question: "What color is the square?".into(),
        answer: None,
    };
    let pixels = (0..FRAMES).map(|index| {
        let frame = made::frame(SEED, index * 25);
        model.family.video_pixels(&[frame], &video).unwrap()
    });
    let pixels: Vec<_> = pixels.collect();
    let vision = model.vision.as_ref().unwrap();
    let features = vision.run(&pixels, &control()).unwrap();
    let prompt = model.family.prompt(&video, &[turn]).unwrap();
    (prompt, features.into_iter().enumerate().collect())
}

fn prefilled(model: &Model, chunk: usize) -> (Sequence<'_>, Vec<f32>) {
    let (prompt, features) = scene(model);
    let mut sequence = Sequence::new(model, &control()).unwrap();
    let end = prompt.ids.len();
    let logits = sequence
        .prefill(&prompt, end, &features, chunk, &control())
        .unwrap()
        .unwrap();
    (sequence, logits.row(0).to_vec())
}

/// The largest difference of two rows of logits.
fn distance(row: &[f32], other: &[f32]) -> f32 {
    assert_eq!(row.len(), other.len());
    row.iter()
        .zip(other)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

proptest! {
    #![proptest_config(Config { cases: 12, failure_persistence: None, ..Config::default() })]

    #[test]
    fn prefill_in_any_chunks_gives_the_logits_of_one_pass(cuts in prop::collection::vec(1..140_usize, 0..6), chunk in 1..200_usize) {
        let model = model();
        let (prompt, features) = scene(model);
        let (_, expected) = prefilled(model, usize::MAX);
        let mut cuts = cuts;
        cuts.retain(|&cut| cut < prompt.ids.len());
        cuts.sort_unstable();
        cuts.push(prompt.ids.len());
        let mut sequence = Sequence::new(model, &control()).unwrap();
        let mut logits = None;
        for end in cuts {
            logits = sequence.prefill(&prompt, end, &features, chunk, &control()).unwrap().or(logits);
        }
        let logits = logits.unwrap();
        prop_assert!(distance(logits.row(0), &expected) < ROUNDING);
    }

    #[test]
    fn a_cropped_cache_continues_as_if_the_rest_had_never_been(keep in 1..150_usize) {
        let model = model();
        let (prompt, features) = scene(model);
        let (mut sequence, expected) = prefilled(model, 64);
        sequence.truncate(keep.min(prompt.ids.len() - 1), &control()).unwrap();
        let end = prompt.ids.len();
        let logits = sequence.prefill(&prompt, end, &features, 64, &control()).unwrap().unwrap();
        prop_assert!(distance(logits.row(0), &expected) < ROUNDING);
    }
}

#[test]
fn every_form_of_decoder_graph_gives_the_same_logits() {
    let (_, expected) = prefilled(model(), 64);
    for form in ["plain", "gqa-implicit"] {
        let (_, logits) = prefilled(&load(form), 64);
        assert!(distance(&logits, &expected) < 1e-3, "{form}");
    }
}

#[test]
fn a_hidden_frame_cannot_be_seen() {
    let model = model();
    let (prompt, mut features) = scene(model);
    let mut run = |pixels: f32, hide: bool| {
        features.insert(2, vec![pixels; features[&2].len()].into());
        let mut sequence = Sequence::new(model, &control()).unwrap();
        // The third frame is the last thing in the cache, so nothing else has seen it.
        let end = prompt.frames[2].block.end;
        sequence.prefill(&prompt, end, &features, 64, &control()).unwrap();
        let mut shown = vec![true; end];
        shown[prompt.frames[2].block.clone()].fill(!hide);
        let embeds = model
            .embed
            .run(&prompt.ids[prompt.video_tokens()..], &control())
            .unwrap();
        let step = Step {
            embeds,
            shown: Some(&shown),
            keep: 1,
        };
        model
            .decoder
            .run(&sequence.cache, step, &control())
            .unwrap()
            .0
            .row(0)
            .to_vec()
    };
    assert_eq!(run(0.1, true), run(-0.7, true));
    assert_ne!(run(0.1, false), run(-0.7, false));
}

/// The likelihood of an answer with frames hidden, against transformers with the same zeros in its attention mask.
#[test]
fn likelihoods_with_hidden_frames_equal_those_of_transformers() {
    let model = model();
    let (prompt, _) = scene(model);
    let (sequence, _) = prefilled(model, 64);
    let answer = [300, 25, 310, 77];
    let masks: [&[usize]; 5] = [&[], &[2], &[0, 1, 2, 3, 4, 5], &[1, 2, 3, 4, 5], &[0, 5]];
    let frames: Vec<_> = (0..6_u32)
        .map(|at| ShownFrame {
            index: u64::from(at),
            start_secs: f64::from(at),
            end_secs: f64::from(at) + 1.0,
        })
        .collect();
    let scene = Scene {
        model,
        prompt: &prompt,
        cache: &sequence.cache,
        frames: &frames,
        answer: &answer,
    };
    let probe = Probe::new(&scene, &control()).unwrap();
    let ours = masks.map(|hidden| {
        probe
            .likelihood(|frame| !hidden.contains(&frame), &control())
            .unwrap()
    });
    let blocks: Vec<_> = prompt
        .frames
        .iter()
        .map(|slot| [slot.block.start, slot.block.end])
        .collect();
    let request = serde_json::json!({
        "ids": prompt.ids, "video_tokens": prompt.video_tokens(), "answer": answer, "blocks": blocks, "hidden": masks,
        "seed": SEED, "frames": (0..FRAMES).map(|index| index * 25).collect::<Vec<_>>(),
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/masked.py");
    let folder = made::twin("gqa");
    let printed = made::run_python(&[
        script.to_str().unwrap(),
        folder.to_str().unwrap(),
        &request.to_string(),
    ]);
    let theirs: Vec<f64> = serde_json::from_str(&printed).unwrap();
    for ((ours, theirs), hidden) in ours.iter().zip(&theirs).zip(masks) {
        assert!((ours - theirs).abs() < 2e-3, "{hidden:?}: {ours} and {theirs}");
    }
    assert!(
        (ours[0] - ours[2]).abs() > 0.01,
        "hiding all frames changes nothing: {ours:?}"
    );
}
