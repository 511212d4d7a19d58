//! Answers of a given form from the command line, with the model that ships.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;

use reelsight_tests::{encode, reelsight, reelsight_json};
use serde_json::Value;
use tempfile::TempDir;

fn clip(folder: &TempDir) -> String {
    let path = folder.path().join("clip.mp4");
    let pattern = "testsrc2=size=320x180:rate=25:duration=4";
    encode(&path, pattern, &["-c:v", "libx264", "-pix_fmt", "yuv420p"]).unwrap();
    path.display().to_string()
}

fn ask(clip: &str, options: &[&str]) -> (i32, Value) {
    let fixed = ["ask", clip, "How many objects are shown?", "--json"];
    reelsight_json(&[&fixed, options].concat()).unwrap()
}

#[test]
fn the_answer_that_is_written_is_the_likeliest_choice() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let (code, written) = ask(&clip, &["--logprobs", "2"]);
    assert_eq!(code, 0, "{written}");
    let answer = written["answer"].as_str().unwrap();
    let tokens = written["logprobs"].as_array().unwrap();
    assert_eq!(
        tokens.len() as u64,
        written["usage"]["completion_tokens"].as_u64().unwrap()
    );
    // Greedy: every token is the first of its alternatives.
    assert!(
        tokens
            .iter()
            .all(|token| token["id"] == token["alternatives"][0]["id"]),
        "{written}"
    );

    let (code, chosen) = ask(&clip, &["--choice", "purple elephants", "--choice", answer]);
    assert_eq!(
        (code, chosen["answer"].as_str().unwrap()),
        (0, answer),
        "{chosen}"
    );
    let choices = chosen["choices"].as_array().unwrap();
    let probability = |at: usize| choices[at]["probability"].as_f64().unwrap();
    assert!(
        probability(1) > 0.9 && (probability(0) + probability(1) - 1.0).abs() < 1e-9,
        "{chosen}"
    );
    assert!((chosen["confidence"].as_f64().unwrap() - (probability(1) - probability(0))).abs() < 1e-9);
    // The likelihood of the chosen text is that of its tokens when they were written.
    let sum: f64 = tokens
        .iter()
        .map(|token| token["logprob"].as_f64().unwrap())
        .sum();
    assert!(
        (choices[1]["logprob"].as_f64().unwrap() - sum).abs() < 1e-2,
        "{sum} and {chosen}"
    );

    let text = String::from_utf8(
        reelsight(&["ask", &clip, "Is there a star?", "--yes-no"])
            .unwrap()
            .stdout,
    )
    .unwrap();
    assert!(text.starts_with("Yes\n") || text.starts_with("No\n"), "{text}");
    assert!(text.contains(" %  Yes\n") && text.contains(" %  No\n"), "{text}");
}

#[test]
fn json_satisfies_its_schema_and_bad_schemas_are_explained() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let path = folder.path().join("schema.json");
    let file = path.display().to_string();
    let schema = r#"{"type": "object", "required": ["count", "shapes"], "additionalProperties": false, "properties": {
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "shapes": {"type": "array", "maxItems": 2, "items": {"enum": ["circle", "square", "star"]}}}}"#;
    fs::write(&path, schema).unwrap();
    let (code, document) = ask(&clip, &["--schema", &file, "--max-tokens", "200"]);
    assert_eq!(code, 0, "{document}");
    let value: Value = serde_json::from_str(document["answer"].as_str().unwrap()).unwrap();
    assert_eq!(document["structured"], value);
    assert!(
        (0..10).contains(&value["count"].as_i64().unwrap()) && value["shapes"].is_array(),
        "{value}"
    );

    let (code, cut) = ask(&clip, &["--schema", &file, "--max-tokens", "2"]);
    assert_eq!(
        (code, cut["error"]["reason"].as_str().unwrap()),
        (3, "SCHEMA_UNSATISFIED"),
        "{cut}"
    );
    fs::write(&path, r#"{"properties": {"a": {"type": "text"}}}"#).unwrap();
    let (code, bad) = ask(&clip, &["--schema", &file]);
    assert_eq!(
        (code, bad["error"]["reason"].as_str().unwrap()),
        (3, "SCHEMA_INVALID"),
        "{bad}"
    );
    assert!(
        bad["error"]["message"]
            .as_str()
            .unwrap()
            .contains("/properties/a"),
        "{bad}"
    );
    let (code, missing) = ask(&clip, &["--schema", "no-such-file.json"]);
    assert_eq!(
        (code, missing["error"]["reason"].as_str().unwrap()),
        (3, "SCHEMA_UNREADABLE"),
        "{missing}"
    );
}

#[test]
fn a_seed_repeats_an_answer_and_wrong_options_are_usage_errors() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let sampled = [
        "--temperature",
        "1.5",
        "--top-k",
        "50",
        "--min-p",
        "0.01",
        "--seed",
        "7",
    ];
    let (_, first) = ask(&clip, &sampled);
    let (code, again) = ask(&clip, &sampled);
    assert_eq!((code, &first["answer"]), (0, &again["answer"]));
    for options in [
        &["--yes-no", "--choice", "a"][..],
        &["--choice-per-token"],
        &["--top-k", "-1"],
    ] {
        let run = reelsight(&[&["ask", &clip, "What?"], options].concat()).unwrap();
        assert_eq!(run.status.code(), Some(2), "{options:?}");
    }
    for (options, field) in [
        (["--top-p", "2"], "top_p"),
        (["--min-p", "1"], "min_p"),
        (["--logprobs", "99"], "alternatives"),
        (["--choice", "only one"], "choices"),
    ] {
        let (code, document) = ask(&clip, &options);
        assert_eq!(code, 3, "{document}");
        assert!(
            document["error"]["message"].as_str().unwrap().contains(field),
            "{document}"
        );
    }
}
