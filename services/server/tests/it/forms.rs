//! Answers of a given form over gRPC: JSON of a schema, choices, yes or no, and what is told about tokens.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use prost_types::value::Kind;
use reelsight_proto::v1::{AskRequest, GenerationConfig};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    discovery::health,
    support::{Harness, about_clip, follow_up, reason, repository, twin},
};

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false, "required": ["moving", "times_s"], "properties": {
    "moving": {"type": "boolean"},
    "times_s": {"type": "array", "maxItems": 2, "items": {"type": "integer", "minimum": 0, "maximum": 9}}}}"#;

fn ask(generation: GenerationConfig) -> AskRequest {
    AskRequest {
        generation: Some(generation),
        ..about_clip("does something move?")
    }
}

fn json(schema: &str, max_tokens: u32) -> GenerationConfig {
    GenerationConfig {
        json_schema: schema.to_owned(),
        max_tokens,
        temperature: Some(1.0),
        seed: Some(1),
        ..GenerationConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_comes_as_text_and_as_a_value_and_a_follow_up_may_want_another_form() {
    let harness = Harness::start().await;
    let mut request = ask(GenerationConfig {
        logprobs: Some(3),
        ..json(SCHEMA, 200)
    });
    request.keep_session = true;
    let result = harness.ask(request).await.unwrap().result;
    let answer: serde_json::Value = serde_json::from_str(&result.answer).unwrap();
    assert!(
        answer["moving"].is_boolean() && answer["times_s"].is_array(),
        "{answer}"
    );
    let Some(Kind::StructValue(value)) = result.structured.unwrap().kind else {
        panic!("an object");
    };
    assert_eq!(
        value.fields["moving"].kind,
        Some(Kind::BoolValue(answer["moving"].as_bool().unwrap()))
    );
    let usage = result.usage.unwrap();
    assert_eq!(result.logprobs.len(), usage.completion_tokens as usize);
    let mut text = Vec::new();
    for token in &result.logprobs {
        assert_eq!(token.alternatives.len(), 3);
        assert!(token.logprob <= token.alternatives[0].logprob);
        text.extend_from_slice(&token.token);
    }
    // The tokens' bytes are the answer, up to a control token that may end it.
    assert!(String::from_utf8(text).unwrap().starts_with(&result.answer));

    let choices = vec!["a dog".to_owned(), "a test pattern".to_owned()];
    let chosen = AskRequest {
        generation: Some(GenerationConfig {
            choices: choices.clone(),
            ..GenerationConfig::default()
        }),
        ..follow_up(&result.session, "what is it?")
    };
    let result = harness.ask(chosen).await.unwrap().result;
    assert!(choices.contains(&result.answer) && result.structured.is_none());
    assert_eq!(
        result.choices.iter().map(|c| c.text.clone()).collect::<Vec<_>>(),
        choices
    );
    let (first, second) = (result.choices[0].probability, result.choices[1].probability);
    assert!((first + second - 1.0).abs() < 1e-9);
    assert!((result.confidence.unwrap() - (first - second).abs()).abs() < 1e-9);
    assert!(result.usage.unwrap().cached_tokens > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn yes_and_no_have_probabilities() {
    let harness = Harness::start().await;
    let generation = GenerationConfig {
        yes_no: true,
        ..GenerationConfig::default()
    };
    let result = harness.ask(ask(generation)).await.unwrap().result;
    let (yes, no) = (&result.choices[0], &result.choices[1]);
    assert_eq!((yes.text.as_str(), no.text.as_str()), ("Yes", "No"));
    assert_eq!(
        result.answer,
        if yes.probability >= no.probability {
            "Yes"
        } else {
            "No"
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_field_and_the_server_goes_on() {
    let harness = Harness::start().await;
    let cases = [
        (
            json(r#"{"type": "obj"#, 0),
            "SCHEMA_INVALID",
            "generation.json_schema",
        ),
        (
            json(r#"{"properties": {"a": {"items": {"type": "text"}}}}"#, 0),
            "SCHEMA_INVALID",
            "generation.json_schema/properties/a/items",
        ),
        (
            json(&format!("{{\"title\": \"{}\"}}", "x".repeat(70_000)), 0),
            "SCHEMA_INVALID",
            "generation.json_schema",
        ),
        (
            json(r#"{"type": "string", "minLength": 900}"#, 8),
            "SCHEMA_UNSATISFIED",
            "generation.max_tokens",
        ),
        (
            GenerationConfig {
                yes_no: true,
                ..json(SCHEMA, 0)
            },
            "INVALID_REQUEST",
            "generation.choices",
        ),
        (
            GenerationConfig {
                choices: vec!["only".into()],
                ..GenerationConfig::default()
            },
            "INVALID_REQUEST",
            "generation.choices",
        ),
        (
            GenerationConfig {
                top_h: Some(1.5),
                ..GenerationConfig::default()
            },
            "INVALID_REQUEST",
            "generation.top_h",
        ),
        (
            GenerationConfig {
                logprobs: Some(21),
                ..GenerationConfig::default()
            },
            "INVALID_REQUEST",
            "generation.logprobs",
        ),
    ];
    for (generation, why, field) in cases {
        let status = harness.ask(ask(generation)).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, why),
            "{status}"
        );
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field);
    }
    assert!(
        !harness
            .ask(about_clip("and now?"))
            .await
            .unwrap()
            .result
            .answer
            .is_empty()
    );
}

/// A copy of the model that computes what is no number.
fn broken() -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("broken-{}", std::process::id()));
    let python = Command::new(repository().join(".venv/bin/python"))
        .arg(repository().join("models/engine/tests/broken.py"))
        .args([twin(), out.clone()])
        .output()
        .unwrap();
    assert!(
        python.status.success(),
        "{}",
        String::from_utf8_lossy(&python.stderr)
    );
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_computes_no_numbers_is_not_serving_and_the_others_are() {
    let harness = Harness::with_models(vec![twin(), broken()]).await;
    let health = |model: &str| health(harness.channel.clone(), format!("reelsight.v1.QaService{model}"));
    let well = harness
        .server
        .qa()
        .models()
        .all()
        .map(|engine| engine.info().name.clone());
    let well = well.into_iter().find(|name| name != "broken").unwrap();
    assert_eq!(health("/broken").await, "SERVING");
    let generation = GenerationConfig {
        model: "broken".into(),
        ..GenerationConfig::default()
    };
    let status = harness.ask(ask(generation)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "MODEL_BROKEN")
    );
    assert!(status.message().contains("fp32"), "{status}");
    // The health service is told by a task of its own.
    for _ in 0..100 {
        if health("/broken").await == "NOT_SERVING" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(health("/broken").await, "NOT_SERVING");
    assert_eq!(health(&format!("/{well}")).await, "SERVING");
    assert_eq!(health("").await, "SERVING");
    assert!(
        !harness
            .ask(about_clip("and you?"))
            .await
            .unwrap()
            .result
            .answer
            .is_empty()
    );
}
