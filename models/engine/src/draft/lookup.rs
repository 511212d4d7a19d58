//! Answers copy: from the question, from transcripts and captions in the prompt, from themselves.

use super::{DraftSource, NO_TEXT};

/// Longest end of the text that is looked for, and the shortest: one token alone is found everywhere.
const LONGEST: usize = 3;
const SHORTEST: usize = 2;

/// Finds where the end of the text occurred before, and guesses that it goes on as it did there.
#[derive(Debug, Default)]
pub(super) struct PromptLookup;

impl DraftSource for PromptLookup {
    fn propose(&self, tokens: &[u32], count: usize) -> Vec<u32> {
        (SHORTEST..=LONGEST)
            .rev()
            .find_map(|length| continuation(tokens, length, count))
            .unwrap_or_default()
    }

    fn observe(&mut self, _tokens: &[u32], _next: u32, _likeliest: u32) {}
}

/// What followed the latest earlier occurrence of the last `length` tokens.
fn continuation(tokens: &[u32], length: usize, count: usize) -> Option<Vec<u32>> {
    let start = tokens.len().checked_sub(length)?;
    let (before, end) = tokens.split_at(start);
    if end.contains(&NO_TEXT) {
        return None;
    }
    // An occurrence may overlap the end itself, as in a run of one token.
    let found = (0..before.len())
        .rev()
        .find(|&at| tokens[at..].starts_with(end))?;
    let follows = tokens[found + length..].iter().copied();
    let text: Vec<u32> = follows.take(count).take_while(|&id| id != NO_TEXT).collect();
    (!text.is_empty()).then_some(text)
}
