//! Which bytes each token stands for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{TextError, Tokenizer};

/// A token as bytes of text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TokenBytes {
    /// Bytes that the token adds to the text; not always whole characters.
    Text(Vec<u8>),
    /// A control token, by its name. It adds nothing to the text.
    Control(String),
    /// The vocabulary has no token with this id.
    #[default]
    Unused,
}

/// How a vocabulary spells bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Each byte is one printable character: the table of GPT-2.
    ByteLevel,
    /// Text as it is, with this mark for a space, and `<0x0A>` for bytes that are no character of the vocabulary.
    Marked(char),
}

impl Tokenizer {
    /// What each token stands for, by id.
    ///
    /// # Errors
    /// [`TextError::Tokenize`] when the tokenizer's decoder does not put texts together from its tokens' bytes.
    pub fn token_bytes(&self) -> Result<Vec<TokenBytes>, TextError> {
        let decoder = serde_json::to_value(self.inner().get_decoder()).unwrap_or_default();
        let spelling = spelling(&decoder).ok_or_else(|| TextError::Tokenize {
            why: format!(
                "tokens of the decoder {} cannot be taken as bytes",
                decoder["type"]
            ),
        })?;
        let mut tokens = Vec::new();
        let vocabulary: BTreeMap<String, u32> = self.inner().get_vocab(false).into_iter().collect();
        for (token, id) in vocabulary {
            put(&mut tokens, id, TokenBytes::Text(spelling.bytes(&token)));
        }
        for (id, added) in self.inner().get_added_tokens_decoder() {
            let token = if added.special {
                TokenBytes::Control(added.content)
            } else {
                TokenBytes::Text(added.content.into_bytes())
            };
            put(&mut tokens, id, token);
        }
        Ok(tokens)
    }
}

fn put(tokens: &mut Vec<TokenBytes>, id: u32, token: TokenBytes) {
    let id = id as usize;
    if tokens.len() <= id {
        tokens.resize(id + 1, TokenBytes::Unused);
    }
    tokens[id] = token;
}

/// The spelling that `decoder` undoes.
fn spelling(decoder: &Value) -> Option<Spelling> {
    match decoder["type"].as_str()? {
        "ByteLevel" => Some(Spelling::ByteLevel),
        "Metaspace" => Some(Spelling::Marked(decoder["replacement"].as_str()?.chars().next()?)),
        "ByteFallback" => Some(Spelling::Marked(' ')),
        "Replace" if decoder["content"].as_str() == Some(" ") => Some(Spelling::Marked(
            decoder["pattern"]["String"].as_str()?.chars().next()?,
        )),
        "Sequence" => {
            let all: Vec<Spelling> = decoder["decoders"]
                .as_array()?
                .iter()
                .filter_map(spelling)
                .collect();
            // A mark for spaces says more than the fallback alone.
            let better = all.iter().find(|&&one| one != Spelling::Marked(' '));
            better.or(all.first()).copied()
        }
        _ => None,
    }
}

impl Spelling {
    fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => byte_level(token).unwrap_or_else(|| token.as_bytes().to_vec()),
            Self::Marked(mark) => match fallback_byte(token) {
                Some(byte) => vec![byte],
                None => token.replace(mark, " ").into_bytes(),
            },
        }
    }
}

/// The byte of `<0x0A>`.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// # Source
/// `bytes_to_unicode` of GPT-2: printable Latin-1 characters stand for themselves, the other bytes, in order, for the
/// characters from U+0100 up.
fn byte_level(token: &str) -> Option<Vec<u8>> {
    token.chars().map(byte_of).collect()
}

fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        let mut bytes: Vec<u8> = (0..=0x143_u32)
            .filter_map(char::from_u32)
            .filter_map(byte_of)
            .collect();
        assert_eq!(bytes.len(), 256);
        bytes.sort_unstable();
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(at, &byte)| at == usize::from(byte))
        );
        // Space, newline, delete, soft hyphen: the names that everybody knows from vocabularies.
        let named = [
            ('\u{120}', 0x20),
            ('\u{10a}', 0x0A),
            ('\u{121}', 0x7F),
            ('\u{143}', 0xAD),
        ];
        assert!(
            named
                .iter()
                .all(|&(character, byte)| byte_of(character) == Some(byte))
        );
    }

    #[test]
    fn spellings_are_read_from_decoders() {
        let llama = json!({"type": "Sequence", "decoders": [
            {"type": "ByteFallback"},
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        assert_eq!(spelling(&llama), Some(Spelling::Marked('\u{2581}')));
        assert_eq!(spelling(&json!({"type": "ByteLevel"})), Some(Spelling::ByteLevel));
        assert_eq!(spelling(&json!({"type": "WordPiece"})), None);
        assert_eq!(spelling(&Value::Null), None);
        let marked = Spelling::Marked('\u{2581}');
        assert_eq!(marked.bytes("\u{2581}a"), b" a");
        assert_eq!(marked.bytes("<0x0A>"), b"\n");
        assert_eq!(marked.bytes("<0xZZ>"), b"<0xZZ>");
    }
}
