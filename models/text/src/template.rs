//! Chat templates from a model's own files, run by an interpreter with bounded fuel.
//!
//! # Source
//! transformers 5.23 `utils/chat_template_utils.py` (`_compile_jinja_template`): `trim_blocks`, `lstrip_blocks`, loop
//! controls, `raise_exception`, `strftime_now`, a `tojson` that does not escape HTML; Python's string methods.

use minijinja::{
    Environment, Error, ErrorKind,
    syntax::SyntaxConfig,
    value::{Kwargs, Serde, Value},
};
use serde::Serialize;
use serde_json::ser::Formatter;

use crate::{TextError, clock};

/// Instructions that a template may execute; a conversation of a hundred turns needs some ten thousand.
const FUEL: u64 = 2_000_000;
const NAME: &str = "chat";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// In the order in which the model reads them.
    pub content: Vec<Part>,
}

/// One part of a message, as templates see it: `{"type": "text", "text": ...}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Part {
    /// Text.
    Text {
        /// What it says.
        text: String,
    },
    /// The place of an image.
    Image,
    /// The place of a video.
    Video,
}

/// One message as text-only templates see it: `{"role": ..., "content": "..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlainMessage {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What it says.
    pub content: String,
}

impl From<Message> for PlainMessage {
    /// The texts of a message, joined.
    fn from(message: Message) -> Self {
        let texts = message.content.into_iter().filter_map(|part| match part {
            Part::Text { text } => Some(text),
            Part::Image | Part::Video => None,
        });
        Self {
            role: message.role,
            content: texts.collect(),
        }
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    specials: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Compiles `source`. `specials` are the tokens that templates refer to by name (`bos_token`, `eos_token`).
    ///
    /// # Errors
    /// [`TextError::Corrupt`] with the place of the first syntax error.
    pub fn new(source: String, specials: Vec<(String, String)>) -> Result<Self, TextError> {
        let corrupt = |error: Error| TextError::Corrupt {
            file: "the chat template".into(),
            why: error.to_string(),
        };
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(corrupt)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: &str| clock::strftime_now(format));
        environment.add_filter("tojson", tojson);
        environment.add_template_owned(NAME, source).map_err(corrupt)?;
        Ok(Self {
            environment,
            specials,
        })
    }

    /// The conversation as one text; messages are of [`Message`] or [`PlainMessage`]. `add_generation_prompt` ends it where the assistant's answer begins.
    ///
    /// # Errors
    /// [`TextError::Template`] when the template raises or runs out of fuel.
    pub fn render<M: Serialize>(
        &self,
        messages: &[M],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let refused = |error: Error| TextError::Template {
            why: error.to_string(),
        };
        let mut context = serde_json::Map::new();
        for (name, token) in &self.specials {
            context.insert(name.clone(), token.clone().into());
        }
        let messages = serde_json::to_value(messages).map_err(|error| TextError::Template {
            why: error.to_string(),
        })?;
        context.insert("messages".into(), messages);
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        let template = self.environment.get_template(NAME).map_err(refused)?;
        template.render(Serde(&context)).map_err(refused)
    }
}

/// The template of a model folder: `chat_template.jinja`, else `chat_template` of one of `configs` in their order
/// (`chat_template.json`, `processor_config.json`, `tokenizer_config.json`), a text or a list of named ones.
#[must_use]
pub fn chat_template_source(jinja: Option<String>, configs: &[Option<serde_json::Value>]) -> Option<String> {
    jinja.or_else(|| {
        configs
            .iter()
            .flatten()
            .find_map(|config| named_default(&config["chat_template"]))
    })
}

fn named_default(value: &serde_json::Value) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    let named = value
        .as_array()?
        .iter()
        .find(|entry| entry["name"] == "default")?;
    named["template"].as_str().map(ToOwned::to_owned)
}

/// `json.dumps` as templates use it.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let bad = |error: &dyn std::fmt::Display| Error::new(ErrorKind::BadSerialization, error.to_string());
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort: Option<bool> = options.get("sort_keys")?;
    options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let mut json = serde_json::to_value(value).map_err(|error| bad(&error))?;
    if sort == Some(true) {
        json.sort_all_objects();
    }
    let default = if indent.is_some() {
        (",", ": ")
    } else {
        (", ", ": ")
    };
    let (item, key) = match separators.as_deref() {
        None => (default.0.to_owned(), default.1.to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators is a pair")),
    };
    let mut text = Vec::new();
    let formatter = PythonFormatter {
        item,
        key,
        indent,
        depth: 0,
        filled: false,
    };
    json.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(|error| bad(&error))?;
    Ok(Value::from_safe_string(
        String::from_utf8(text).map_err(|error| bad(&error))?,
    ))
}

/// Punctuation of Python's `json.dumps`.
struct PythonFormatter {
    item: String,
    key: String,
    indent: Option<usize>,
    depth: usize,
    filled: bool,
}

impl PythonFormatter {
    fn line<W: ?Sized + std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
        let Some(indent) = self.indent else { return Ok(()) };
        write!(writer, "\n{:width$}", "", width = indent * self.depth)
    }

    fn open<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, bracket: &str) -> std::io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket.as_bytes())
    }

    fn close<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, bracket: &str) -> std::io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(writer)?;
        }
        self.filled = true;
        writer.write_all(bracket.as_bytes())
    }

    fn next<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.line(writer)
    }
}

impl Formatter for PythonFormatter {
    fn begin_array<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.open(writer, "[")
    }
    fn end_array<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.close(writer, "]")
    }
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.next(writer, first)
    }
    fn end_array_value<W: ?Sized + std::io::Write>(&mut self, _: &mut W) -> std::io::Result<()> {
        self.filled = true;
        Ok(())
    }
    fn begin_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.open(writer, "{")
    }
    fn end_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.close(writer, "}")
    }
    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.next(writer, first)
    }
    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }
    fn end_object_value<W: ?Sized + std::io::Write>(&mut self, _: &mut W) -> std::io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, TextError> {
        let template = ChatTemplate::new(source.into(), vec![("bos_token".into(), "<s>".into())])?;
        let content = vec![
            Part::Video,
            Part::Text {
                text: " <b>hi</b> ".into(),
            },
        ];
        template.render(
            &[Message {
                role: "user",
                content,
            }],
            true,
        )
    }

    #[test]
    fn speaks_the_dialect_of_published_templates() {
        let source = "{{ bos_token }}{% for message in messages %}\n    {% set ns = namespace(seen=false) %}\n\
            {% for part in message['content'] %}{% if part.type == 'video' %}{% set ns.seen = true %}{% continue %}\
            {% endif %}{{ part['text'].strip() }}|{{ part.get('none', 'x') }}{% endfor %}\
            {% if ns.seen %}{{ message.role | capitalize }}{% endif %}\n{% endfor %}\
            {%- if add_generation_prompt %}{{ 'A:' }}{% endif %}";
        assert_eq!(render(source).unwrap(), "<s><b>hi</b>|xUserA:");
    }

    #[test]
    fn json_has_pythons_punctuation() {
        let source = "{{ {'a': [1, 'é<', none, true], 'b': {}} | tojson }}";
        assert_eq!(
            render(source).unwrap(),
            r#"{"a": [1, "é<", null, true], "b": {}}"#
        );
        let source = "{{ {'a': [1, 2], 'b': []} | tojson(indent=2) }}";
        assert_eq!(
            render(source).unwrap(),
            "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": []\n}"
        );
    }

    #[test]
    fn a_template_may_refuse_and_may_not_run_forever() {
        let refused = render("{{ raise_exception('roles must alternate') }}")
            .unwrap_err()
            .to_string();
        assert!(refused.contains("roles must alternate"), "{refused}");
        let endless = "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}";
        assert!(matches!(render(endless), Err(TextError::Template { .. })));
        assert!(matches!(render("{% for %}"), Err(TextError::Corrupt { .. })));
    }

    #[test]
    fn the_template_file_wins_over_configurations() {
        let list = serde_json::json!({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]});
        let text = serde_json::json!({"chat_template": "p"});
        assert_eq!(
            chat_template_source(Some("j".into()), &[Some(text.clone())]).as_deref(),
            Some("j")
        );
        assert_eq!(
            chat_template_source(None, &[None, Some(list), Some(text)]).as_deref(),
            Some("d")
        );
        assert_eq!(chat_template_source(None, &[Some(serde_json::json!({}))]), None);
    }
}
