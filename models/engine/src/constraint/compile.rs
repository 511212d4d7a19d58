//! From the text of a schema to a grammar over a vocabulary.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use llguidance::{
    Matcher, ParserFactory,
    api::TopLevelGrammar,
    earley::SlicedBiasComputer,
    toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie},
};
use parking_lot::Mutex;
use reelsight_text::{TokenBytes, Tokenizer};
use serde_json::{Map, Value, json};

use super::{Compiled, Schema};
use crate::EngineError;

/// Longest text of a schema in bytes.
const MAX_SCHEMA: usize = 64 << 10;
/// Deepest nesting of a schema.
const MAX_DEPTH: usize = 64;
/// How long parts of a schema are tried alone to find the one that is wrong.
const SEARCH: Duration = Duration::from_millis(300);
/// Keys whose values are schemas by name.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keys whose values are lists of schemas.
const LISTED: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keys whose values are schemas.
const SINGLE: [&str; 3] = ["items", "additionalProperties", "not"];

/// The vocabulary of a model as grammars see it. Made when the first schema comes.
#[derive(Default)]
pub(crate) struct Grammars(Mutex<Option<Arc<ParserFactory>>>);

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Grammars")
    }
}

impl Grammars {
    /// A grammar for `source`, over the vocabulary of `tokenizer`; tokens of `end` end an answer.
    ///
    /// Takes milliseconds, up to a second for schemas at the limit: not for threads that must not block.
    ///
    /// # Errors
    /// [`EngineError::SchemaInvalid`] with the place in the schema.
    pub(crate) fn compile(
        &self,
        tokenizer: &Tokenizer,
        end: &BTreeSet<u32>,
        source: &str,
    ) -> Result<Schema, EngineError> {
        let schema = parse(source)?;
        let factory = self.factory(tokenizer, end)?;
        let mut start = match matcher(&factory, &schema) {
            Ok(start) => start,
            Err(message) => {
                let until = Instant::now() + SEARCH;
                let (pointer, message) = blame(&factory, &schema, &schema, "", message, until);
                return Err(EngineError::SchemaInvalid { pointer, message });
            }
        };
        match start.compute_mask() {
            Ok(mask) if !mask.is_zero() => {}
            Ok(_) => return Err(invalid("no text of the model's vocabulary satisfies it")),
            Err(error) => return Err(invalid(error.to_string())),
        }
        Ok(Schema(Arc::new(Compiled {
            source: source.to_owned(),
            start,
        })))
    }

    fn factory(&self, tokenizer: &Tokenizer, end: &BTreeSet<u32>) -> Result<Arc<ParserFactory>, EngineError> {
        let mut made = self.0.lock();
        if let Some(factory) = &*made {
            return Ok(Arc::clone(factory));
        }
        let factory = Arc::new(factory(tokenizer, end)?);
        *made = Some(Arc::clone(&factory));
        Ok(factory)
    }
}

fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::SchemaInvalid {
        pointer: String::new(),
        message: message.into(),
    }
}

/// A JSON object of bounded size and depth.
fn parse(source: &str) -> Result<Value, EngineError> {
    if source.len() > MAX_SCHEMA {
        let message = format!(
            "the schema has {} bytes and at most {MAX_SCHEMA} are taken",
            source.len()
        );
        return Err(invalid(message));
    }
    let schema: Value =
        serde_json::from_str(source).map_err(|error| invalid(format!("it is not JSON: {error}")))?;
    if !schema.is_object() {
        return Err(invalid(
            "a schema is a JSON object, for example {\"type\": \"object\"}",
        ));
    }
    if depth(&schema) > MAX_DEPTH {
        return Err(invalid(format!("it is nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(schema)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn factory(tokenizer: &Tokenizer, end: &BTreeSet<u32>) -> Result<ParserFactory, EngineError> {
    let model = |message: String| EngineError::Model {
        message: format!("answers in JSON cannot be had from this model: {message}"),
    };
    let tokens = tokenizer
        .token_bytes()
        .map_err(|error| model(error.to_string()))?;
    let known = |id: &&u32| (**id as usize) < tokens.len();
    let end: Vec<u32> = end.iter().filter(known).copied().collect();
    let Some(&first) = end.first() else {
        return Err(model("no token ends its answers".into()));
    };
    let words: Vec<Vec<u8>> = tokens.into_iter().map(word).collect();
    let size = u32::try_from(words.len()).map_err(|error| model(error.to_string()))?;
    let trie = TokTrie::from(&TokRxInfo::new(size, first), &words).with_eos_tokens(&end);
    // Tokens are never forced: the model says how it spells what the schema leaves open and what it does not.
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let slices = SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        .map_err(|error| model(error.to_string()))?;
    factory.quiet();
    factory.limits_mut().verbose_errors = false;
    Ok(factory)
}

/// A token as the grammar's trie wants it: control tokens behind a byte that no text has.
fn word(token: TokenBytes) -> Vec<u8> {
    match token {
        TokenBytes::Text(bytes) => bytes,
        TokenBytes::Control(name) => {
            let mut marked = vec![TokTrie::SPECIAL_TOKEN_MARKER];
            marked.extend(name.into_bytes());
            marked
        }
        TokenBytes::Unused => Vec::new(),
    }
}

/// Before the first token of an answer, or what is wrong with the schema.
fn matcher(factory: &ParserFactory, schema: &Value) -> Result<Matcher, String> {
    let mut schema = schema.clone();
    if let Value::Object(fields) = &mut schema {
        // What a request says about the grammar itself is not its business.
        fields.insert("x-guidance".into(), json!({"whitespace_pattern": "[ \n]"}));
    }
    let matcher = Matcher::new(factory.create_parser(TopLevelGrammar::from_json_schema(schema)));
    match matcher.get_error() {
        None => Ok(matcher),
        Some(error) => Err(error),
    }
}

/// The innermost part of `schema` that cannot be compiled alone, as a JSON pointer, and why.
fn blame(
    factory: &ParserFactory,
    root: &Value,
    schema: &Value,
    pointer: &str,
    message: String,
    until: Instant,
) -> (String, String) {
    for (below, part) in parts(schema) {
        if Instant::now() >= until {
            break;
        }
        let alone = with_definitions(root, part);
        if let Err(why) = matcher(factory, &alone) {
            return blame(factory, root, part, &format!("{pointer}{below}"), why, until);
        }
    }
    (pointer.to_owned(), message)
}

/// Schemas inside `schema`, each with its place.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        match value {
            Value::Object(named) if NAMED.contains(&key.as_str()) => {
                parts.extend(
                    named
                        .iter()
                        .map(|(name, part)| (format!("/{key}/{}", escaped(name)), part)),
                );
            }
            Value::Array(listed) if LISTED.contains(&key.as_str()) => {
                parts.extend(
                    listed
                        .iter()
                        .enumerate()
                        .map(|(at, part)| (format!("/{key}/{at}"), part)),
                );
            }
            Value::Object(_) if SINGLE.contains(&key.as_str()) => parts.push((format!("/{key}"), value)),
            _ => {}
        }
    }
    // A definition is to blame only where no part that uses it is closer.
    parts.sort_by_key(|(pointer, _)| pointer.starts_with("/$defs") || pointer.starts_with("/definitions"));
    parts
}

/// A name as JSON pointers have it.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// `part` beside the definitions that it may refer to.
fn with_definitions(root: &Value, part: &Value) -> Value {
    let Value::Object(fields) = part else {
        return part.clone();
    };
    let mut alone: Map<String, Value> = fields.clone();
    for key in ["$defs", "definitions"] {
        if let (Some(definitions), false) = (root.get(key), alone.contains_key(key)) {
            alone.insert(key.into(), definitions.clone());
        }
    }
    Value::Object(alone)
}
