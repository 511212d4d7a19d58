//! A model that knows nothing still answers with valid JSON; bad schemas are refused with their place.

use std::path::Path;

use reelsight_text::Tokenizer;
use serde_json::{Value, json};

use super::*;
use crate::{
    GenerationOptions,
    sampling::{Sampler, SequenceState},
};

fn tokenizer() -> Tokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zoo/reelsight-tiny");
    Tokenizer::from_file(&folder.join("tokenizer.json")).unwrap()
}

/// Compiles for the small model's vocabulary.
struct Bench {
    tokenizer: Tokenizer,
    end: std::collections::BTreeSet<u32>,
    grammars: Grammars,
}

impl Bench {
    fn new() -> Self {
        let tokenizer = tokenizer();
        Self {
            end: ["<end_of_utterance>", "<|im_end|>"]
                .iter()
                .filter_map(|end| tokenizer.id(end))
                .collect(),
            tokenizer,
            grammars: Grammars::default(),
        }
    }

    fn compile(&self, source: &str) -> Result<Schema, EngineError> {
        self.grammars.compile(&self.tokenizer, &self.end, source)
    }

    /// An answer drawn from noise: what a model with random weights would say. `None` when it did not end.
    fn babble(&self, schema: &Schema, seed: u64, limit: usize) -> Option<String> {
        let sampler = Sampler::new(&GenerationOptions {
            temperature: 1.0,
            seed: Some(seed),
            ..GenerationOptions::default()
        });
        let mut constraint = Constraint::new(schema);
        let mut generated = Vec::new();
        while generated.len() < limit {
            let mask = constraint.mask().unwrap();
            let state = SequenceState {
                prompt: &[],
                generated: &generated,
            };
            // Embeddings are often padded: the row is longer than the vocabulary.
            let logits: Vec<f32> = (0..832_u64)
                .map(|id| noise(seed, generated.len() as u64, id))
                .collect();
            let id = sampler.next(&logits, &state, Some(&mask)).unwrap().id;
            constraint.accept(id).unwrap();
            generated.push(id);
            if constraint.is_complete() {
                let end = self.end.contains(&id);
                let ids = &generated[..generated.len() - usize::from(end)];
                return Some(self.tokenizer.decode(ids, true).unwrap());
            }
        }
        assert!(!constraint.is_satisfied().unwrap() || limit < 100);
        None
    }
}

fn noise(seed: u64, place: u64, id: u64) -> f32 {
    let mixed = (seed ^ (place << 20) ^ (id << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
    mixed as f32 / (1_u32 << 21) as f32
}

fn schemas() -> Vec<Value> {
    let text = json!({"type": "string", "maxLength": 12});
    vec![
        json!({"type": "object", "properties": {"answer": text, "sure": {"type": "boolean"}},
            "required": ["answer", "sure"], "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 700}, "maxItems": 5}),
        json!({"type": "array", "items": text, "minItems": 2, "maxItems": 3}),
        json!({"enum": ["red", "green", 3, null, {"a": [1, 2]}]}),
        json!({"const": {"fixed": true}}),
        json!({"type": "string", "pattern": "^[a-z]{2,5}-[0-9]{3}$"}),
        json!({"type": "string", "minLength": 3, "maxLength": 6}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "string", "format": "time"}),
        json!({"type": "integer", "minimum": 0, "maximum": 59}),
        json!({"type": "number", "minimum": 0, "maximum": 1}),
        json!({"type": ["boolean", "null"]}),
        json!({"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 10, "maximum": 99}]}),
        json!({"oneOf": [{"const": "a"}, {"const": "b"}]}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]},
            {"additionalProperties": false, "properties": {"a": true}}]}),
        json!({"$defs": {"span": {"type": "object", "properties": {
                "start_s": {"type": "integer", "minimum": 0, "maximum": 999},
                "end_s": {"type": "integer", "minimum": 0, "maximum": 999}},
                "required": ["start_s", "end_s"], "additionalProperties": false}},
            "type": "array", "items": {"$ref": "#/$defs/span"}, "minItems": 1, "maxItems": 3}),
        json!({"type": "object", "properties": {"people": {"type": "array", "maxItems": 2, "items": {"type": "object",
            "properties": {"name": text, "age": {"type": "integer", "minimum": 1, "maximum": 120}},
            "required": ["name"], "additionalProperties": false}}}, "required": ["people"],
            "additionalProperties": false}),
        json!({"type": "array", "prefixItems": [{"type": "boolean"}, text], "items": false, "minItems": 2}),
        json!({"type": "object", "additionalProperties": {"type": "boolean"}, "propertyNames": {"pattern": "^k[0-9]$"},
            "maxProperties": 3}),
        json!({"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 140}),
        json!({"type": "object", "properties": {"a~b/c": {"type": "null"}, "\u{e9}": {"const": "\u{1f642}"}},
            "required": ["a~b/c", "\u{e9}"], "additionalProperties": false}),
    ]
}

#[test]
fn a_model_of_noise_answers_with_valid_json() {
    let bench = Bench::new();
    let mut answered = 0;
    for schema in schemas() {
        let judge = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap();
        let compiled = match bench.compile(&schema.to_string()) {
            Ok(compiled) => compiled,
            Err(error) => {
                // What cannot be enforced is refused, never ignored; no more than one of these.
                assert!(error.to_string().contains("cannot be used"), "{error}");
                continue;
            }
        };
        answered += 1;
        for seed in 0..4 {
            let answer = bench
                .babble(&compiled, seed, 2_000)
                .unwrap_or_else(|| panic!("{schema} did not end"));
            let value: Value =
                serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{answer:?}: {error}"));
            assert!(judge.is_valid(&value), "{answer} does not satisfy {schema}");
        }
    }
    assert!(answered >= 20, "only {answered} schemas were taken");
}

#[test]
fn an_answer_that_is_cut_is_not_satisfied() {
    let bench = Bench::new();
    let schema = bench.compile(r#"{"type": "string", "minLength": 500}"#).unwrap();
    assert_eq!(bench.babble(&schema, 1, 20), None);
    assert!(!Constraint::new(&schema).is_satisfied().unwrap());
}

#[test]
fn control_tokens_and_text_around_json_are_never_allowed() {
    let bench = Bench::new();
    let schema = bench.compile(r#"{"type": "string", "maxLength": 4}"#).unwrap();
    let mut constraint = Constraint::new(&schema);
    let start = constraint.mask().unwrap();
    let quote = bench.tokenizer.id("\"").unwrap();
    assert!(start.allows(quote as usize));
    for word in ["<|im_start|>", "<image>", "<end_of_utterance>", "a", "{"] {
        assert!(
            !start.allows(bench.tokenizer.id(word).unwrap() as usize),
            "{word}"
        );
    }
    assert!(!start.allows(5_000));
    constraint.accept(quote).unwrap();
    assert!(
        !constraint
            .mask()
            .unwrap()
            .allows(bench.tokenizer.id("<image>").unwrap() as usize)
    );
    assert_eq!(constraint.valid_prefix(&[quote, quote]).unwrap(), 1);
    constraint.accept(quote).unwrap();
    assert!(constraint.is_satisfied().unwrap());
}

fn refusal(bench: &Bench, source: &str) -> (String, String) {
    match bench.compile(source) {
        Err(EngineError::SchemaInvalid { pointer, message }) => (pointer, message),
        other => panic!("{source}: {other:?}"),
    }
}

#[test]
fn bad_schemas_are_refused_with_their_place() {
    let bench = Bench::new();
    assert!(refusal(&bench, "{\"type\": ").1.contains("not JSON"));
    assert!(refusal(&bench, "[1]").1.contains("JSON object"));
    assert!(
        refusal(&bench, &format!("{{\"title\": \"{}\"}}", "x".repeat(70_000)))
            .1
            .contains("bytes")
    );
    let deep = format!("{}1{}", "{\"a\":".repeat(80), "}".repeat(80));
    assert!(refusal(&bench, &deep).1.contains("deeper"));
    let place = |source: &Value| refusal(&bench, &source.to_string()).0;
    assert_eq!(place(&json!({"type": "nonsense"})), "");
    assert_eq!(
        place(&json!({"type": "object", "properties": {"ok": true, "a/b": {"type": "text"}}})),
        "/properties/a~1b"
    );
    assert_eq!(
        place(
            &json!({"anyOf": [{"type": "null"}, {"type": "array", "items": {"pattern": "(", "type": "string"}}]})
        ),
        "/anyOf/1/items"
    );
    assert_eq!(place(&json!({"$ref": "#/$defs/none"})), "");
    assert_eq!(place(&json!({"$ref": "https://example.com/schema.json"})), "");
    // Keywords that cannot be enforced are not dropped in silence.
    assert_eq!(
        place(&json!({"type": "array", "items": {"type": "array", "uniqueItems": true}})),
        "/items"
    );
    assert_eq!(place(&json!({"type": "integer", "minimum": 5, "maximum": 1})), "");
}

/// Takes the first allowed token again and again, as far as the grammar's limits of work allow.
fn follow(schema: &Schema, tokens: usize) {
    let mut constraint = Constraint::new(schema);
    for _ in 0..tokens {
        let next = match constraint.mask() {
            Ok(mask) => (0_u32..900).find(|&id| mask.allows(id as usize)).unwrap(),
            Err(EngineError::SchemaInvalid { .. }) => return,
            Err(other) => panic!("{other}"),
        };
        constraint.accept(next).unwrap();
        if constraint.is_complete() {
            return;
        }
    }
}

/// Schemas that are small to send and large to work with.
#[test]
fn hostile_schemas_end_in_time_and_leave_the_vocabulary_usable() {
    let bench = Bench::new();
    let many: Vec<Value> = (0..2_000)
        .map(|at| json!({"const": format!("choice {at}")}))
        .collect();
    let wide: serde_json::Map<String, Value> = (0..1_500)
        .map(|at| {
            (
                format!("p{at}"),
                json!({"type": "string", "pattern": "(nonsense"}),
            )
        })
        .collect();
    let hostile = [
        json!({"type": "string", "maxLength": 1_000_000_000}),
        json!({"type": "string", "minLength": 2_000_000_000}),
        json!({"type": "string", "pattern": "^((a{1,500}){1,500}){1,500}$"}),
        json!({"type": "string", "pattern": "^(a|b|ab)*c(a|b|ab)*d(a|b|ab)*e$"}),
        json!({"type": "array", "items": {"$ref": "#"}}),
        json!({"$ref": "#"}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        json!({"anyOf": many}),
        json!({"type": "object", "properties": wide}),
        json!({"type": "array", "minItems": 1_000_000, "maxItems": 1_000_000_000}),
        json!({"type": "integer", "multipleOf": 1_000_003, "minimum": -1e300, "maximum": 1e300}),
    ];
    let begun = std::time::Instant::now();
    for schema in &hostile {
        match bench.compile(&schema.to_string()) {
            Ok(compiled) => follow(&compiled, 30),
            Err(EngineError::SchemaInvalid { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(begun.elapsed().as_secs() < 120, "{:?}", begun.elapsed());
    assert!(bench.compile(r#"{"type": "boolean"}"#).is_ok());
}
