//! The same tokens as transformers for the same weights, frames and questions.
#![expect(clippy::unwrap_used, reason = "only tests call the helpers")]

mod support;

use std::path::Path;

use reelsight_engine::{AskTarget, Engine, SamplingRequest};
use reelsight_families::{Turn, VideoShown};
use reelsight_registry::ModelFolder;
use serde_json::Value;
use support::{ask, config, frame, job, timeline, twin, video};

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

/// Runs `reference.py` once on the model of the other tests.
fn reference(folder: &Path) -> (std::path::PathBuf, Vec<Value>) {
    let out = folder.join("reference");
    std::fs::create_dir_all(&out).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference.py");
    support::run_python(&[
        script.to_str().unwrap(),
        folder.to_str().unwrap(),
        out.to_str().unwrap(),
    ]);
    let cases = std::fs::read(out.join("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert!(cases.len() >= 20);
    (out, cases)
}

#[test]
fn prompts_pixels_and_greedy_tokens_equal_those_of_transformers() {
    let root = twin("gqa");
    let (out, cases) = reference(&root);
    let folder = ModelFolder::open(&root).unwrap();
    let tokenizer = reelsight_families::tokenizer(&folder).unwrap();
    let family = reelsight_families::load(&folder, &tokenizer).unwrap();
    let engine = Engine::load(&folder, config()).unwrap();
    for (at, case) in cases.iter().enumerate() {
        let (seed, question) = (
            u64::from(number(&case["seed"])),
            case["question"].as_str().unwrap(),
        );
        let request = SamplingRequest::default();
        let plan = engine
            .plan(&timeline(number(&case["frames"])), &request, question, 16)
            .unwrap();

        let stamps_secs: Vec<_> = plan.times.iter().map(|time| time.secs()).collect();
        let shown = VideoShown {
            stamps_secs,
            duration_secs: plan.duration_secs,
            size: None,
        };
        let turn = Turn {
            question: question.into(),
            answer: None,
        };
        assert_eq!(
            family.prompt(&shown, &[turn]).unwrap().ids,
            ids(&case["ids"]),
            "prompt {at}"
        );

        let expected = std::fs::read(out.join(format!("pixels-{at}.f32"))).unwrap();
        let pixels = plan.frames.iter().flat_map(|&index| {
            let frame = frame(seed, index);
            family.video_pixels(&[frame], &shown).unwrap().data().to_vec()
        });
        let pixels: Vec<u8> = pixels.flat_map(f32::to_le_bytes).collect();
        assert_eq!(pixels.len(), expected.len(), "pixels {at}");
        assert!(pixels == expected, "pixels {at}");

        let first = ask(&engine, job(video(seed, &plan), question));
        assert_eq!(first.token_ids, ids(&case["tokens"]), "answer {at}");
        assert_eq!(first.answer, case["answer"].as_str().unwrap(), "answer {at}");

        let session = first.session.unwrap();
        let next = ask(
            &engine,
            job(
                AskTarget::Session(session),
                case["next_question"].as_str().unwrap(),
            ),
        );
        assert_eq!(
            next.prompt_tokens,
            ids(&case["next"]["ids"]).len(),
            "follow-up {at}"
        );
        assert_eq!(next.token_ids, ids(&case["next"]["tokens"]), "follow-up {at}");
        assert!(next.cached_tokens > plan.visual_tokens, "follow-up {at}");
    }
}
