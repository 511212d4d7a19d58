//! The streaming detokeniser against decoding everything at once.
#![expect(clippy::unwrap_used, reason = "only tests call the helpers")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use reelsight_text::{Detokenizer, TokenBytes, Tokenizer};
use serde_json::json;

/// How byte-level tokenizers write the byte `byte`, as GPT-2 has it.
fn letter(byte: u8) -> char {
    let plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if plain(byte) {
        return char::from(byte);
    }
    let nth = (0..byte).filter(|&other| !plain(other)).count();
    char::from_u32(256 + u32::try_from(nth).unwrap()).unwrap()
}

/// A byte-level BPE with one token per byte, a few merges and a control token.
fn tokenizer() -> Tokenizer {
    let mut vocab: BTreeMap<String, usize> = (0..=255_u8)
        .map(|byte| (letter(byte).to_string(), usize::from(byte)))
        .collect();
    let space = letter(b' ');
    let pairs = [
        ("t".into(), "h".into()),
        ("th".into(), "e".to_string()),
        (space.to_string(), "a".into()),
    ];
    for (left, right) in &pairs {
        vocab.insert(format!("{left}{right}"), vocab.len());
    }
    let merges: Vec<_> = pairs
        .iter()
        .map(|(left, right)| format!("{left} {right}"))
        .collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let end = json!({"id": 259, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true});
    let file = json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": [end], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges},
    });
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, file.to_string()).unwrap();
    Tokenizer::from_file(path.path()).unwrap()
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> (Vec<String>, String) {
    let mut detokenizer = Detokenizer::new(tokenizer);
    let pieces: Vec<_> = ids.iter().map(|&id| detokenizer.push(id).unwrap()).collect();
    (pieces, detokenizer.finish().unwrap())
}

#[test]
fn a_character_comes_whole_with_its_last_byte() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("a\u{1f642}b", false).unwrap();
    let (pieces, rest) = stream(&tokenizer, &ids);
    assert_eq!(pieces, ["a", "", "", "", "\u{1f642}", "b"]);
    assert_eq!(rest, "");
}

#[test]
fn control_tokens_are_left_out_and_found_in_text() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("the<end>a", false).unwrap();
    assert_eq!(ids, [257, 259, u32::from(b'a')]);
    assert_eq!(stream(&tokenizer, &ids).0.concat(), "thea");
    assert_eq!(tokenizer.control_token_in("say <end> now"), Some("<end>"));
    assert_eq!(tokenizer.control_token_in("say <en d>"), None);
}

#[test]
fn a_saved_truncation_does_not_cut_prompts() {
    assert_eq!(tokenizer().encode("abcdefgh", false).unwrap().len(), 8);
}

#[test]
fn damaged_files_are_refused() {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, "{\"version\": \"1.0\"").unwrap();
    assert!(
        Tokenizer::from_file(path.path())
            .unwrap_err()
            .to_string()
            .contains("damaged")
    );
}

proptest! {
    #[test]
    fn pieces_of_any_text_join_to_it_and_never_split_a_character(text in "(the| a|[ -~]|\\PC){0,120}") {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text, false).unwrap();
        let (pieces, rest) = stream(&tokenizer, &ids);
        // Only a U+FFFD that is really in the text waits for the end.
        prop_assert!(rest.chars().all(|char| char == char::REPLACEMENT_CHARACTER));
        prop_assert_eq!(pieces.concat() + &rest, text.as_str());
    }

    #[test]
    fn bytes_of_the_tokens_of_any_text_join_to_it(text in "(the| a|[ -~]|\\PC){0,120}") {
        let tokenizer = tokenizer();
        let known = tokenizer.token_bytes().unwrap();
        prop_assert_eq!(&known[259], &TokenBytes::Control("<end>".into()));
        let mut bytes = Vec::<u8>::new();
        for id in tokenizer.encode(&text, false).unwrap() {
            match &known[id as usize] {
                TokenBytes::Text(text) => bytes.extend(text),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(bytes, text.as_bytes());
    }

    #[test]
    fn pieces_of_any_ids_join_to_what_all_of_them_decode_to(ids in prop::collection::vec(0..260_u32, 0..150)) {
        let tokenizer = tokenizer();
        let (pieces, rest) = stream(&tokenizer, &ids);
        prop_assert_eq!(pieces.concat() + &rest, tokenizer.decode(&ids, true).unwrap());
    }
}
