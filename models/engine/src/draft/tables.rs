//! Tables of what followed what, learnt from the model's own rows.

use std::collections::HashMap;

use super::{DraftSource, NO_TEXT};

/// Entries of a table; a full one is emptied, and learnt again in a few answers.
const MAX_ENTRIES: usize = 1 << 16;
/// Continuations that are counted for a pair of tokens.
const MAX_COUNTED: usize = 4;
/// Counts are halved when one reaches this: the table follows what the model says now.
const MAX_COUNT: u16 = 64;

/// Token Recycling: the likeliest successor that each token had when it was last seen. The original keeps eight and
/// guesses a tree; a chain follows the first, so only that is kept.
#[derive(Debug, Default)]
pub(super) struct Recycling(HashMap<u32, u32>);

impl DraftSource for Recycling {
    fn propose(&self, tokens: &[u32], _count: usize) -> Vec<u32> {
        let next = tokens.last().and_then(|last| self.0.get(last));
        next.copied().into_iter().collect()
    }

    fn observe(&mut self, tokens: &[u32], _next: u32, likeliest: u32) {
        let Some(&last) = tokens.last().filter(|&&last| last != NO_TEXT) else {
            return;
        };
        if self.0.len() >= MAX_ENTRIES && !self.0.contains_key(&last) {
            self.0.clear();
        }
        self.0.insert(last, likeliest);
    }
}

/// The tri-grams of ADED: how often which token followed a pair of tokens in the model's own answers.
#[derive(Debug, Default)]
pub(super) struct Trigrams(HashMap<(u32, u32), Vec<(u32, u16)>>);

impl DraftSource for Trigrams {
    fn propose(&self, tokens: &[u32], _count: usize) -> Vec<u32> {
        let [.., first, second] = *tokens else {
            return Vec::new();
        };
        let counted = self.0.get(&(first, second)).map_or(&[][..], Vec::as_slice);
        // The most frequent, the latest of equals.
        let best = counted.iter().max_by_key(|(_, count)| *count);
        best.map(|(token, _)| *token).into_iter().collect()
    }

    fn observe(&mut self, tokens: &[u32], next: u32, _likeliest: u32) {
        let [.., first, second] = *tokens else {
            return;
        };
        if first == NO_TEXT || second == NO_TEXT {
            return;
        }
        if self.0.len() >= MAX_ENTRIES && !self.0.contains_key(&(first, second)) {
            self.0.clear();
        }
        let counted = self.0.entry((first, second)).or_default();
        if let Some(at) = counted.iter().position(|(token, _)| *token == next) {
            let (token, count) = counted.remove(at);
            counted.push((token, count + 1));
        } else {
            if counted.len() == MAX_COUNTED
                && let Some(rarest) = (0..counted.len()).min_by_key(|&at| counted[at].1)
            {
                counted.remove(rarest);
            }
            counted.push((next, 1));
        }
        if counted.iter().any(|(_, count)| *count >= MAX_COUNT) {
            for (_, count) in counted {
                *count = count.div_ceil(2);
            }
        }
    }
}
