//! Answers of a given form: what a request says about it, and what the caller is told.

use prost_types::{ListValue, Struct, Value as ProtoValue, value::Kind};
use reelsight_engine::{AnswerForm, AskOutcome, Engine, GenerationOptions, TokenLogprob as Likelihood};
use reelsight_proto::v1::{ChoiceScore, GenerationConfig, TokenLogprob};
use serde_json::Value;

use crate::{QaError, convert::count, validate::invalid};

/// Most log-probabilities in one answer: more would not fit into a message.
const MAX_LOGPROBS: usize = 1 << 16;

/// The form that `config` asks for; a schema is still to be compiled ([`with_schema`]).
pub(crate) fn form(config: &GenerationConfig) -> Result<AnswerForm, QaError> {
    let forms = [
        !config.json_schema.is_empty(),
        !config.choices.is_empty(),
        config.yes_no,
    ];
    if forms.iter().filter(|&&asked| asked).count() > 1 {
        let message = "give one of json_schema, choices and yes_no";
        return Err(invalid("generation.choices", message));
    }
    if config.choices_per_token && config.choices.is_empty() {
        return Err(invalid(
            "generation.choices_per_token",
            "it says how choices are compared: give choices",
        ));
    }
    if !config.json_schema.is_empty() && !config.stop.is_empty() {
        return Err(invalid(
            "generation.stop",
            "stop strings would cut JSON: leave them out",
        ));
    }
    let per_token = config.choices_per_token;
    Ok(match (config.yes_no, config.choices.is_empty()) {
        (true, _) => AnswerForm::YesNo,
        (false, false) => AnswerForm::OneOf {
            choices: config.choices.clone(),
            per_token,
        },
        (false, true) => AnswerForm::Text,
    })
}

/// How many alternatives are reported for each token.
pub(crate) fn logprobs(config: &GenerationConfig) -> Result<Option<usize>, QaError> {
    let Some(wanted) = config.logprobs else {
        return Ok(None);
    };
    let wanted = wanted as usize;
    if wanted
        .saturating_add(1)
        .saturating_mul(config.max_tokens as usize)
        > MAX_LOGPROBS
    {
        let message = format!("(logprobs + 1) * max_tokens is at most {MAX_LOGPROBS}: lower one of them");
        return Err(invalid("generation.logprobs", message));
    }
    Ok(Some(wanted))
}

/// Compiles the schema of `config`, if it has one, into `options`.
pub(crate) async fn with_schema(
    engine: &Engine,
    config: &GenerationConfig,
    options: &mut GenerationOptions,
) -> Result<(), QaError> {
    if config.json_schema.is_empty() {
        return Ok(());
    }
    let (engine, source) = (engine.clone(), config.json_schema.clone());
    let compiled = tokio::task::spawn_blocking(move || engine.schema(&source)).await;
    let compiled = compiled.map_err(|_panicked| QaError::Internal("compiling a schema panicked"))??;
    options.form = AnswerForm::Json(compiled);
    Ok(())
}

/// The answer as a value, when it has the form of one.
pub(crate) fn structured(config: &GenerationConfig, outcome: &AskOutcome) -> Option<ProtoValue> {
    let asked = !config.json_schema.is_empty();
    asked.then(|| serde_json::from_str(&outcome.answer).ok().map(proto_value))?
}

fn proto_value(value: Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.into_iter().map(proto_value).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields
                .into_iter()
                .map(|(name, value)| (name, proto_value(value)))
                .collect(),
        }),
    };
    ProtoValue { kind: Some(kind) }
}

pub(crate) fn token_logprobs(engine: &Engine, outcome: &AskOutcome) -> Vec<TokenLogprob> {
    let entry = |id: u32, logprob: f32| TokenLogprob {
        token_id: id,
        token: engine.token_bytes(id).into(),
        logprob,
        alternatives: Vec::new(),
    };
    let all = outcome.logprobs.iter();
    all.map(|Likelihood { id, logprob, top }| TokenLogprob {
        alternatives: top.iter().map(|&(id, logprob)| entry(id, logprob)).collect(),
        ..entry(*id, *logprob)
    })
    .collect()
}

pub(crate) fn choice_scores(outcome: &AskOutcome) -> Vec<ChoiceScore> {
    let all = outcome.choices.iter();
    all.map(|choice| ChoiceScore {
        text: choice.text.clone(),
        logprob: choice.logprob,
        tokens: count(choice.tokens),
        probability: choice.probability,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use reelsight_proto::status::ServiceError as _;
    use serde_json::json;

    use super::*;

    fn field<T: std::fmt::Debug>(result: Result<T, QaError>) -> String {
        result.unwrap_err().details().field.unwrap()
    }

    #[test]
    fn an_answer_has_one_form() {
        let config = GenerationConfig {
            yes_no: true,
            choices: vec!["a".into(), "b".into()],
            ..GenerationConfig::default()
        };
        assert_eq!(field(form(&config)), "generation.choices");
        let config = GenerationConfig {
            choices_per_token: true,
            ..GenerationConfig::default()
        };
        assert_eq!(field(form(&config)), "generation.choices_per_token");
        let config = GenerationConfig {
            json_schema: "{}".into(),
            stop: vec!["x".into()],
            ..GenerationConfig::default()
        };
        assert_eq!(field(form(&config)), "generation.stop");
        let config = GenerationConfig {
            logprobs: Some(20),
            max_tokens: 4_000,
            ..GenerationConfig::default()
        };
        assert_eq!(field(logprobs(&config)), "generation.logprobs");
        let config = GenerationConfig {
            max_tokens: 100,
            ..config
        };
        assert_eq!(logprobs(&config).unwrap(), Some(20));
    }

    #[test]
    fn json_keeps_its_shape() {
        let value = proto_value(json!({"a": [1.5, null, true], "b": {"c": "\u{e9}"}}));
        let Some(Kind::StructValue(Struct { fields })) = value.kind else {
            panic!("an object");
        };
        let Some(Kind::ListValue(list)) = &fields["a"].kind else {
            panic!("a list");
        };
        assert_eq!(list.values[0].kind, Some(Kind::NumberValue(1.5)));
        assert_eq!(list.values[1].kind, Some(Kind::NullValue(0)));
        assert_eq!(list.values[2].kind, Some(Kind::BoolValue(true)));
    }
}
