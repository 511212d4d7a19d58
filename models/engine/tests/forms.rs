//! Answers of a given form: JSON of a schema, a choice, yes or no; and what is told about tokens.
#![expect(clippy::unwrap_used, reason = "only tests call the helpers")]

mod support;

use std::path::Path;

use reelsight_engine::{
    AnswerForm, AskJob, AskOutcome, AskTarget, Engine, EngineError, EngineEvent, GenerationOptions,
};
use reelsight_registry::ModelFolder;
use serde_json::{Value, json};
use support::{ask, config, engine, follow_up, job, plan, twin, video, wait};

const QUESTION: &str = "What color is the square?";
const FRAMES: u32 = 60;
const SEED: u64 = 3;

fn about_video(generation: GenerationOptions) -> AskJob {
    let plan = plan(&engine(), FRAMES, QUESTION);
    AskJob {
        generation,
        ..job(video(SEED, &plan), QUESTION)
    }
}

fn sampled(seed: u64, max_tokens: usize, form: AnswerForm) -> GenerationOptions {
    GenerationOptions {
        max_tokens,
        temperature: 1.0,
        seed: Some(seed),
        form,
        ..GenerationOptions::default()
    }
}

#[test]
fn random_weights_answer_with_json_that_satisfies_the_schema() {
    let schemas = [
        json!({"type": "object", "additionalProperties": false, "required": ["color", "seen", "times_s"], "properties": {
            "color": {"enum": ["red", "green", "blue"]}, "seen": {"type": "boolean"},
            "times_s": {"type": "array", "maxItems": 3, "items": {"type": "integer", "minimum": 0, "maximum": 59}}}}),
        json!({"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string", "maxLength": 5}}),
    ];
    for schema in schemas {
        let compiled = engine().schema(&schema.to_string()).unwrap();
        for (seed, temperature) in [(1, 1.0), (2, 0.0)] {
            let generation = GenerationOptions {
                temperature,
                logprobs: Some(2),
                ..sampled(seed, 300, AnswerForm::Json(compiled.clone()))
            };
            let (outcome, events) = wait(engine().submit(about_video(generation)).unwrap()).unwrap();
            let value: Value = serde_json::from_str(&outcome.answer).unwrap();
            assert!(
                jsonschema::is_valid(&schema, &value),
                "{} does not satisfy {schema}",
                outcome.answer
            );
            assert_eq!(deltas(&events), outcome.answer);
            assert_eq!(outcome.logprobs.len(), outcome.token_ids.len());
            // The model's own belief: a token that the mask forced can be among the unlikely ones.
            for (token, id) in outcome.logprobs.iter().zip(&outcome.token_ids) {
                assert_eq!((token.id, token.top.len()), (*id, 2));
                assert!(token.logprob <= token.top[0].1 && token.top[0].1 < 0.0);
            }
        }
    }
}

fn deltas(events: &[EngineEvent]) -> String {
    let text = |event: &EngineEvent| match event {
        EngineEvent::Delta(text) => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[test]
fn json_that_is_cut_is_an_error_and_the_engine_goes_on() {
    let schema = engine()
        .schema(r#"{"type": "string", "minLength": 400}"#)
        .unwrap();
    let job = about_video(sampled(1, 12, AnswerForm::Json(schema)));
    let error = wait(engine().submit(job).unwrap()).unwrap_err();
    assert!(
        matches!(*error, EngineError::SchemaUnsatisfied { tokens: 12 }),
        "{error}"
    );
    let bad = engine()
        .schema(r#"{"properties": {"a": {"type": "text"}}}"#)
        .unwrap_err();
    assert!(
        matches!(bad, EngineError::SchemaInvalid { ref pointer, .. } if pointer == "/properties/a"),
        "{bad}"
    );
    assert!(
        !ask(&engine(), about_video(sampled(1, 4, AnswerForm::Text)))
            .token_ids
            .is_empty()
    );
}

/// Log-probabilities and ids of `answers` in transformers.
fn reference(answers: &[&str], ends: bool) -> Vec<(f64, Vec<u32>)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chosen.py");
    let request =
        json!({"seed": SEED, "frames": FRAMES, "question": QUESTION, "answers": answers, "ends": ends});
    let folder = twin("gqa");
    let arguments = [
        script.to_str().unwrap(),
        folder.to_str().unwrap(),
        &request.to_string(),
    ];
    serde_json::from_str(&support::run_python(&arguments)).unwrap()
}

fn choose(form: AnswerForm) -> AskOutcome {
    let generation = GenerationOptions {
        form,
        ..GenerationOptions::default()
    };
    ask(&engine(), about_video(generation))
}

#[test]
fn choices_are_as_likely_as_transformers_finds_them() {
    let texts = ["blue", "a red square", "It is green, I think.", "7"];
    let theirs = reference(&texts, true);
    for per_token in [false, true] {
        let choices = texts.iter().map(ToString::to_string).collect();
        let outcome = choose(AnswerForm::OneOf { choices, per_token });
        for (ours, (theirs, ids)) in outcome.choices.iter().zip(&theirs) {
            assert!(
                (ours.logprob - theirs).abs() < 2e-3,
                "{}: {} and {theirs}",
                ours.text,
                ours.logprob
            );
            assert_eq!(ours.tokens, ids.len());
        }
        let compared = |(log, ids): &(f64, Vec<u32>)| if per_token { log / ids.len() as f64 } else { *log };
        let best = (0..texts.len()).max_by(|&a, &b| compared(&theirs[a]).total_cmp(&compared(&theirs[b])));
        let best = best.unwrap();
        assert_eq!(
            (outcome.answer.as_str(), &outcome.token_ids),
            (texts[best], &theirs[best].1)
        );
        let sum: f64 = outcome.choices.iter().map(|choice| choice.probability).sum();
        let mut sorted: Vec<f64> = outcome.choices.iter().map(|choice| choice.probability).collect();
        sorted.sort_by(f64::total_cmp);
        assert!((sum - 1.0).abs() < 1e-9);
        assert!((outcome.confidence().unwrap() - (sorted[3] - sorted[2])).abs() < 1e-12);
    }
}

#[test]
fn yes_and_no_are_weighed_by_how_answers_begin() {
    let spellings = ["Yes", "yes", "YES", "No", "no", "NO"];
    let theirs: Vec<f64> = reference(&spellings, false)
        .iter()
        .map(|(log, _)| log.exp())
        .collect();
    let outcome = choose(AnswerForm::YesNo);
    let (yes, no): (f64, f64) = (theirs[..3].iter().sum(), theirs[3..].iter().sum());
    let probability = outcome.choices[0].probability;
    assert!(
        (probability - yes / (yes + no)).abs() < 1e-3,
        "{probability} and {}",
        yes / (yes + no)
    );
    assert_eq!(outcome.answer, if yes > no { "Yes" } else { "No" });
    assert!((outcome.choices[1].logprob.exp() - no).abs() < 1e-3);
}

#[test]
fn a_session_goes_on_after_a_choice_as_after_a_written_answer() {
    let choices = vec!["a red square".to_owned(), "nothing at all".to_owned()];
    let generation = GenerationOptions {
        form: AnswerForm::OneOf {
            choices,
            per_token: false,
        },
        ..GenerationOptions::default()
    };
    let cited = AskJob {
        citations: true,
        ..about_video(generation)
    };
    let chosen = ask(&engine(), cited);
    assert!(!chosen.evidence.is_empty());
    let next = follow_up(&engine(), chosen.session.as_ref().unwrap(), "And where?");
    assert!(next.cached_tokens > next.visual_tokens);
    // Without any cache: the same question about the same conversation.
    let again = follow_up(&engine(), chosen.session.as_ref().unwrap(), "And where?");
    assert_eq!(next.token_ids, again.token_ids);
    assert_eq!(next.prompt_tokens, again.prompt_tokens);
}

#[test]
fn a_seed_gives_the_same_tokens_alone_and_among_others() {
    let engine = engine();
    let text = |seed| AskJob {
        generation: sampled(seed, 24, AnswerForm::Text),
        ..job(AskTarget::Text, "Tell me about squares.")
    };
    let alone: Vec<_> = (1..=3).map(|seed| ask(&engine, text(seed)).token_ids).collect();
    assert_ne!(alone[0], alone[1]);
    let handles: Vec<_> = (1..=3).map(|seed| engine.submit(text(seed)).unwrap()).collect();
    let together: Vec<_> = handles
        .into_iter()
        .map(|handle| wait(handle).unwrap().0.token_ids)
        .collect();
    assert_eq!(alone, together);
}

#[test]
fn logits_that_are_no_numbers_end_the_ask_and_not_the_engine() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken.py");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broken-{}", std::process::id()));
    let folder = twin("gqa");
    support::run_python(&[
        script.to_str().unwrap(),
        folder.to_str().unwrap(),
        out.to_str().unwrap(),
    ]);
    let engine = Engine::load(&ModelFolder::open(&out).unwrap(), config()).unwrap();
    let boolean = engine.schema(r#"{"type": "boolean"}"#).unwrap();
    for form in [
        AnswerForm::Text,
        AnswerForm::YesNo,
        AnswerForm::Json(boolean),
        AnswerForm::Text,
    ] {
        for temperature in [0.0, 1.0] {
            let generation = GenerationOptions {
                temperature,
                form: form.clone(),
                ..GenerationOptions::default()
            };
            let asked = AskJob {
                generation,
                ..job(AskTarget::Text, QUESTION)
            };
            let error = wait(engine.submit(asked).unwrap()).unwrap_err();
            assert!(
                matches!(*error, EngineError::BadLogits { position: 0 }),
                "{error}"
            );
        }
    }
    std::fs::remove_dir_all(out).unwrap();
}

fn one_of(choices: &[&str]) -> AnswerForm {
    AnswerForm::OneOf {
        choices: choices.iter().map(ToString::to_string).collect(),
        per_token: false,
    }
}

#[test]
fn parameters_out_of_range_are_named() {
    type Change = fn(&mut GenerationOptions);
    let cases: [(&str, Change); 15] = [
        ("temperature", |options| options.temperature = f32::NAN),
        ("top_p", |options| options.top_p = 0.0),
        ("min_p", |options| options.min_p = 1.0),
        ("top_h", |options| options.top_h = -0.1),
        ("repetition_penalty", |options| options.repetition_penalty = 0.0),
        ("frequency_penalty", |options| options.frequency_penalty = 2.1),
        ("presence_penalty", |options| {
            options.presence_penalty = f32::INFINITY;
        }),
        ("logprobs", |options| options.logprobs = Some(21)),
        ("stop", |options| options.stop = vec![String::new()]),
        ("stop", |options| {
            options.stop = vec!["a".into()];
            options.form = AnswerForm::Json(engine().schema(r#"{"type": "boolean"}"#).unwrap());
        }),
        ("choices", |options| options.form = one_of(&["a"])),
        ("choices", |options| options.form = one_of(&["a", " a"])),
        ("choices", |options| options.form = one_of(&["a", " "])),
        ("choices", |options| {
            options.form = one_of(&["a", &"x".repeat(257)]);
        }),
        ("logprobs", |options| {
            options.form = AnswerForm::YesNo;
            options.logprobs = Some(0);
        }),
    ];
    for (name, change) in cases {
        let mut generation = GenerationOptions::default();
        change(&mut generation);
        match engine().submit(about_video(generation)) {
            Err(EngineError::InvalidInput { field, .. }) => assert_eq!(field, format!("generation.{name}")),
            other => panic!("{name}: {other:?}"),
        }
    }
}
