//! Guessing ahead changes how fast an answer comes and nothing else.
#![expect(clippy::unwrap_used, reason = "only tests call the helpers")]

mod support;

use reelsight_engine::{AnswerForm, AskJob, AskTarget, Engine, EngineConfig, GenerationOptions};
use support::{ask, config, job, load, plan, video};

fn with_drafts(max_draft: usize) -> Engine {
    load(&EngineConfig {
        max_draft,
        ..config()
    })
}

fn generation(temperature: f32, seed: u64, form: AnswerForm) -> GenerationOptions {
    GenerationOptions {
        max_tokens: if form == AnswerForm::Text { 48 } else { 160 },
        temperature,
        seed: Some(seed),
        // Noise over the whole vocabulary would never repeat anything.
        top_k: 6,
        form,
        ..GenerationOptions::default()
    }
}

/// Questions that invite copying, greedy and sampled, as text and as JSON, about nothing and about a video.
fn jobs(engine: &Engine) -> Vec<AskJob> {
    let mut jobs = Vec::new();
    let schema =
        r#"{"type": "array", "maxItems": 6, "items": {"enum": ["red square", "red circle", "blue square"]}}"#;
    for (at, temperature) in [0.0, 0.7, 0.0, 1.0].into_iter().enumerate() {
        let question = "Say red square, red square, red square, red square: red square, red";
        let form = if at < 2 {
            AnswerForm::Text
        } else {
            AnswerForm::Json(engine.schema(schema).unwrap())
        };
        let generation = generation(temperature, at as u64, form);
        jobs.push(AskJob {
            generation: generation.clone(),
            ..job(AskTarget::Text, question)
        });
        let plan = plan(engine, 60, question);
        jobs.push(AskJob {
            generation,
            citations: true,
            ..job(video(2, &plan), question)
        });
    }
    jobs
}

#[test]
fn answers_with_guesses_are_those_without() {
    let (plain, guessing) = (with_drafts(0), with_drafts(10));
    let pairs = jobs(&plain).into_iter().zip(jobs(&guessing));
    for (at, (one, other)) in pairs.enumerate() {
        let (one, other) = (ask(&plain, one), ask(&guessing, other));
        assert_eq!(one.token_ids, other.token_ids, "ask {at}");
        assert_eq!(
            (one.answer, one.evidence),
            (other.answer, other.evidence),
            "ask {at}"
        );
        // The session that is left is the same, too.
        let question = "And then?";
        let next = |engine: &Engine, session| ask(engine, job(AskTarget::Session(session), question));
        let one = next(&plain, one.session.unwrap());
        let other = next(&guessing, other.session.unwrap());
        assert_eq!(
            (one.token_ids, one.cached_tokens),
            (other.token_ids, other.cached_tokens),
            "ask {at}"
        );
    }
    let (plain, guessing) = (plain.metrics(), guessing.metrics());
    assert_eq!((plain.draft_passes, plain.drafted_tokens), (0, 0));
    assert!(
        guessing.draft_passes > 0 && guessing.accepted_tokens > 0,
        "{guessing:?}"
    );
    assert!(guessing.accepted_tokens <= guessing.drafted_tokens);
    assert_eq!(plain.decoded_tokens, guessing.decoded_tokens);
    assert_eq!(
        plain.decode_steps,
        guessing.decode_steps + guessing.accepted_tokens
    );
}
