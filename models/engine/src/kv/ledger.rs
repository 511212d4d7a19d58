//! What each cached token is: the table that everything which keeps, drops or moves KV reads.

use std::ops::Range;

use reelsight_families::Prompt;

/// What a token is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first tokens, which attention leans on whatever they say.
    Sink,
    /// Text before the first frame.
    System,
    /// Says when a frame is shown, or marks where it begins and ends.
    Timestamp,
    /// A piece of a frame, by its place among the frames shown.
    Visual(u32),
    /// Text after the frames.
    Text,
    /// The model's own words.
    Generated,
}

/// Sinks at the start of each sequence.
const SINKS: usize = 4;

/// One cached token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u32,
    pub(crate) kind: Kind,
    /// Where it stands on the axes of time, row and column: what its key was rotated by. Not its place in the cache.
    pub(crate) position: [u32; 3],
}

/// The tokens of one sequence in order, one for one with its cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    pub(crate) fn from_entries(entries: Vec<Entry>) -> Self {
        Self { entries }
    }

    /// Cached tokens.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Tokens at the start of `prompt` that are cached as they are there: the same ids at the same positions.
    pub(crate) fn common_prefix(&self, prompt: &Prompt) -> usize {
        let same = |&(at, (entry, id)): &(usize, (&Entry, &u32))| {
            entry.id == *id && entry.position == prompt.positions.at(at)
        };
        self.entries
            .iter()
            .zip(&prompt.ids)
            .enumerate()
            .take_while(same)
            .count()
    }

    /// Keeps the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
    }

    /// Adds the tokens `range` of `prompt`.
    pub(crate) fn extend(&mut self, prompt: &Prompt, range: Range<usize>) {
        self.entries.extend(range.map(|at| Entry {
            id: prompt.ids[at],
            kind: kind(prompt, at),
            position: prompt.positions.at(at),
        }));
    }

    /// Adds a generated token.
    pub(crate) fn push(&mut self, id: u32, position: [u32; 3]) {
        self.entries.push(Entry {
            id,
            kind: Kind::Generated,
            position,
        });
    }
}

fn kind(prompt: &Prompt, at: usize) -> Kind {
    let first = prompt
        .frames
        .first()
        .map_or(prompt.ids.len(), |slot| slot.block.start);
    let frame = prompt.frames.partition_point(|slot| slot.block.end <= at);
    match prompt.frames.get(frame) {
        _ if at < SINKS.min(first) => Kind::Sink,
        _ if at < first && !prompt.frames.is_empty() => Kind::System,
        Some(slot) if slot.visual.contains(&at) => Kind::Visual(u32::try_from(frame).unwrap_or(u32::MAX)),
        Some(slot) if slot.block.contains(&at) => Kind::Timestamp,
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use reelsight_families::FrameSlot;

    use super::*;

    fn prompt() -> Prompt {
        let slot = |from: usize, medium| FrameSlot {
            block: from..from + 4,
            visual: from + 2..from + 4,
            medium,
            pictures: 0..1,
        };
        Prompt {
            ids: (100..116).collect(),
            frames: vec![slot(6, 0), slot(10, 1)],
            ..Prompt::default()
        }
    }

    #[test]
    fn tokens_are_what_the_prompt_made_them() {
        let prompt = prompt();
        let mut ledger = Ledger::default();
        ledger.extend(&prompt, 0..9);
        ledger.extend(&prompt, 9..16);
        ledger.push(7, prompt.positions.at(16));
        let kinds: Vec<_> = ledger.entries().iter().map(|entry| entry.kind).collect();
        let expected = [
            [Kind::Sink; 4].as_slice(),
            &[Kind::System; 2],
            &[Kind::Timestamp; 2],
            &[Kind::Visual(0); 2],
            &[Kind::Timestamp; 2],
            &[Kind::Visual(1); 2],
            &[Kind::Text; 2],
            &[Kind::Generated],
        ];
        assert_eq!(kinds, expected.concat());
        assert_eq!((ledger.len(), ledger.entries()[16].position), (17, [16; 3]));
    }

    #[test]
    fn a_prefix_is_common_when_ids_and_positions_are() {
        let told = prompt();
        let mut ledger = Ledger::default();
        ledger.extend(&told, 0..16);
        assert_eq!(ledger.common_prefix(&told), 16);
        let mut other = told.clone();
        other.ids[12] = 0;
        assert_eq!(ledger.common_prefix(&other), 12);
        let moved =
            reelsight_families::Positions::new((0..16).map(|at| [at, at, u32::from(at == 5) + at]).collect());
        let moved = Prompt {
            positions: moved,
            ..told
        };
        assert_eq!(ledger.common_prefix(&moved), 5);
        ledger.truncate(3);
        assert_eq!(ledger.common_prefix(&moved), 3);
    }
}
