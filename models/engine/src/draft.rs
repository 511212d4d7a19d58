//! Guesses at the next tokens, checked by the decoder many at a time.
//!
//! A decoder that runs one token reads all of its weights for it; running a handful costs hardly more. So cheap sources
//! guess how the answer goes on, the decoder runs the guesses in one pass, and a token is drawn from each row of logits
//! for as long as the drawn token is the guessed one. Every token is drawn from the row, at the place and with the
//! random number that it would have had without guesses ([`crate::sampling`]): answers are the same, greedy or sampled,
//! up to the rounding of kernels that differ for one token and for many.
//!
//! What sources learn stays with the tenant: a shared table would let one tenant's answers leak into another's timing.
//!
//! # Source
//! Prompt lookup decoding; Token Recycling (arXiv 2408.08696), as a chain; the adaptive tri-gram of ADED
//! (arXiv 2407.00187).

mod lookup;
mod pace;
mod tables;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, time::Duration};

use lookup::PromptLookup;
use pace::{Pace, Trust};
use tables::{Recycling, Trigrams};

/// Stands for tokens that are no text: never guessed, never matched.
pub(crate) const NO_TEXT: u32 = u32::MAX;
/// Tenants whose tables are kept.
const MAX_TENANTS: usize = 32;

/// Something that guesses.
pub(crate) trait DraftSource: fmt::Debug + Send {
    /// Up to `count` tokens that may follow `tokens`.
    fn propose(&self, tokens: &[u32], count: usize) -> Vec<u32>;

    /// Learns that `next` was drawn after `tokens`, and that `likeliest` would have been the greedy choice.
    fn observe(&mut self, tokens: &[u32], next: u32, likeliest: u32);
}

/// What one tenant's answers have taught, and whether guessing pays.
#[derive(Debug)]
pub(crate) struct Drafts {
    /// Asked in this order for each piece of a guess, as far as they are trusted.
    sources: Vec<(Box<dyn DraftSource>, Trust)>,
    /// Who made how much of the last guess.
    pieces: Vec<(usize, usize)>,
    pace: Pace,
    used: u64,
}

impl Drafts {
    /// Guesses of up to `longest` tokens.
    pub(crate) fn new(longest: usize) -> Self {
        Self::of(
            vec![
                Box::<PromptLookup>::default(),
                Box::<Trigrams>::default(),
                Box::<Recycling>::default(),
            ],
            longest,
        )
    }

    fn of(sources: Vec<Box<dyn DraftSource>>, longest: usize) -> Self {
        Self {
            sources: sources
                .into_iter()
                .map(|source| (source, Trust::default()))
                .collect(),
            pieces: Vec::new(),
            pace: Pace::new(longest),
            used: 0,
        }
    }

    /// How `tokens` may go on: as far as any source has an idea, at most as far as the pace says and `room` allows.
    pub(crate) fn propose(&mut self, tokens: &[u32], room: usize) -> Vec<u32> {
        let count = self.pace.length().min(room);
        self.pieces.clear();
        let mut whole = tokens.to_vec();
        let end = tokens.len() + count;
        while whole.len() < end {
            let left = end - whole.len();
            let Some((source, piece)) = self.piece(&whole, left) else {
                break;
            };
            self.pieces.push((source, piece.len()));
            whole.extend(piece);
        }
        whole.split_off(tokens.len())
    }

    /// The first idea of a trusted source.
    fn piece(&mut self, tokens: &[u32], count: usize) -> Option<(usize, Vec<u32>)> {
        self.sources
            .iter_mut()
            .enumerate()
            .find_map(|(at, (source, trust))| {
                let mut piece = source.propose(tokens, count);
                piece.truncate(count);
                (!piece.is_empty() && trust.allows()).then_some((at, piece))
            })
    }

    /// A step without guesses took so long.
    pub(crate) fn plain(&mut self, took: Duration) {
        self.pace.plain(took);
    }

    /// A pass over the last guess is over.
    pub(crate) fn guessed(&mut self, outcome: Outcome) {
        let mut right = outcome.accepted;
        for (source, length) in std::mem::take(&mut self.pieces) {
            let accepted = right.min(length);
            self.sources[source].1.learn(accepted, length);
            if accepted < length {
                break;
            }
            right -= length;
        }
        self.pace.guessed(outcome);
    }

    /// See [`DraftSource::observe`].
    pub(crate) fn observe(&mut self, tokens: &[u32], next: u32, likeliest: u32) {
        for (source, _) in &mut self.sources {
            source.observe(tokens, next, likeliest);
        }
    }
}

/// The tables of all tenants.
#[derive(Debug)]
pub(crate) struct Tenants {
    longest: usize,
    clock: u64,
    known: BTreeMap<u64, Drafts>,
}

impl Tenants {
    /// Guesses of up to `longest` tokens; 0 makes none.
    pub(crate) fn new(longest: usize) -> Self {
        Self {
            longest,
            clock: 0,
            known: BTreeMap::new(),
        }
    }

    /// What `tenant` has taught; `None` where nobody wants guesses. The tenant that was away longest is forgotten first.
    pub(crate) fn of(&mut self, tenant: u64) -> Option<&mut Drafts> {
        if self.longest == 0 {
            return None;
        }
        self.clock += 1;
        if !self.known.contains_key(&tenant) && self.known.len() >= MAX_TENANTS {
            let oldest = self.known.iter().min_by_key(|(_, drafts)| drafts.used);
            if let Some(oldest) = oldest.map(|(&tenant, _)| tenant) {
                self.known.remove(&oldest);
            }
        }
        let longest = self.longest;
        let drafts = self.known.entry(tenant).or_insert_with(|| Drafts::new(longest));
        drafts.used = self.clock;
        Some(drafts)
    }
}

/// What a pass over guesses came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Guessed tokens.
    pub(crate) proposed: usize,
    /// Of these: drawn as guessed.
    pub(crate) accepted: usize,
    /// What it took.
    pub(crate) took: Duration,
}
