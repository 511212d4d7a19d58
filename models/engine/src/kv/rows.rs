//! The decoder with the KV of all running sequences.
//!
//! Two kinds of graphs: those that update a cache of fixed capacity in place live in [`Slab`]s, and neighbouring rows are
//! decoded in one run, each with its own length. Those that give a new, longer cache each time keep tensors of their
//! own and run one after the other. Which kind a graph is, is tried at load ([`super::probe`]), not guessed.

mod batch;
mod rest;

use std::collections::{BTreeMap, HashMap};

use reelsight_ort::{OrtError, Tensor};

use super::slab::Slab;
use crate::graphs::{Decoder, Logits, Pass, Tokens};

/// Smallest capacity of a row.
const SMALLEST: usize = 256;

/// How rows of different lengths share a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ragged {
    /// Each row's length is the sum of its mask: a new token lands behind the row's own last one.
    Sums,
    /// All rows are as long as the mask is wide: new tokens land in the last column and are moved to their place.
    Columns,
    /// They do not.
    Alone,
}

/// Where graphs leave the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In place, in slabs.
    Slabs(Ragged),
    /// In new tensors.
    Tensors,
}

/// What a decode step costs, in seconds: `run + rows * row`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    pub(crate) run: f64,
    pub(crate) row: f64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) decoder: Decoder,
    layout: Layout,
    cost: Cost,
    /// Rows of one slab.
    per_slab: usize,
    /// Longest sequence.
    context: usize,
    /// Whether the graph gives logits of the last token alone, however many are wanted.
    last_only: bool,
    slabs: BTreeMap<u64, Slab>,
    next_slab: u64,
    homes: HashMap<u64, Home>,
}

#[derive(Debug)]
struct Home {
    len: usize,
    capacity: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Row { slab: u64, row: usize },
    Tensors(Vec<Tensor>),
}

/// One token of one sequence, to be decoded with others.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) sequence: u64,
    pub(crate) token: Tokens,
    pub(crate) position: [u32; 3],
}

/// New tokens of one sequence.
#[derive(Debug)]
pub(crate) struct Append<'a> {
    pub(crate) tokens: Tokens,
    pub(crate) positions: &'a [[u32; 3]],
    /// Cached tokens that must not be seen: by index, `false` hides. `None` shows all.
    pub(crate) shown: Option<&'a [bool]>,
    /// See [`Pass::keep`].
    pub(crate) keep: usize,
    /// See [`Pass::states`].
    pub(crate) states: bool,
}

impl Rows {
    /// Sequences of up to `context` tokens, up to `rows` of them in one run.
    pub(crate) fn new(decoder: Decoder, layout: Layout, cost: Cost, rows: usize, context: usize) -> Self {
        Self {
            decoder,
            layout,
            cost,
            per_slab: rows.max(1),
            context,
            last_only: false,
            slabs: BTreeMap::new(),
            next_slab: 0,
            homes: HashMap::new(),
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn set(&mut self, layout: Layout, cost: Cost) {
        (self.layout, self.cost) = (layout, cost);
    }

    /// Whether logits of several tokens cost a run each.
    pub(crate) fn last_only(&self) -> bool {
        self.last_only
    }

    pub(crate) fn set_last_only(&mut self, last_only: bool) {
        self.last_only = last_only;
    }

    /// Tokens that a sequence of `tokens` takes room for.
    pub(crate) fn capacity_for(&self, tokens: usize) -> usize {
        match self.layout {
            Layout::Slabs(_) => tokens.next_power_of_two().max(SMALLEST).min(self.context + 1),
            Layout::Tensors => tokens,
        }
    }

    /// Bytes of cached tokens.
    pub(crate) fn used_bytes(&self) -> usize {
        self.homes.values().map(|home| home.len).sum::<usize>() * self.decoder.bytes_per_token()
    }

    /// Bytes that running sequences have taken room for.
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.homes.values().map(|home| home.capacity).sum::<usize>() * self.decoder.bytes_per_token()
    }

    /// Makes room for `sequence`.
    pub(crate) fn open(&mut self, sequence: u64, tokens: usize) -> Result<(), OrtError> {
        let capacity = self.capacity_for(tokens);
        let place = match self.layout {
            Layout::Tensors => Place::Tensors(self.decoder.empty_cache()?),
            Layout::Slabs(_) => self.row(sequence, capacity)?,
        };
        let home = Home {
            len: 0,
            capacity,
            place,
        };
        self.homes.insert(sequence, home);
        Ok(())
    }

    fn row(&mut self, sequence: u64, capacity: usize) -> Result<Place, OrtError> {
        let fits = |slab: &Slab| slab.capacity() == capacity && slab.has_room();
        let found = self.slabs.iter().find(|(_, slab)| fits(slab)).map(|(&id, _)| id);
        let id = if let Some(id) = found {
            id
        } else {
            let slab = Slab::new(self.decoder.planes(), self.per_slab, capacity)?;
            self.next_slab += 1;
            self.slabs.insert(self.next_slab, slab);
            self.next_slab
        };
        let row = self.slabs.get_mut(&id).and_then(|slab| slab.take(sequence));
        row.map(|row| Place::Row { slab: id, row })
            .ok_or_else(|| wrong(sequence))
    }

    /// Forgets `sequence`, if it is there.
    pub(crate) fn close(&mut self, sequence: u64) {
        if let Some(Home {
            place: Place::Row { slab: id, row },
            ..
        }) = self.homes.remove(&sequence)
            && let Some(slab) = self.slabs.get_mut(&id)
        {
            slab.free(row);
            if slab.is_empty() {
                self.slabs.remove(&id);
            }
        }
    }

    /// Tokens of `sequence`.
    pub(crate) fn len(&self, sequence: u64) -> usize {
        self.homes.get(&sequence).map_or(0, |home| home.len)
    }

    /// Keeps the first `len` tokens of `sequence`.
    pub(crate) fn truncate(&mut self, sequence: u64, len: usize) -> Result<(), OrtError> {
        let axis_two = |tensor: &Tensor, axis: usize| tensor.head(axis, len);
        let axis = self.decoder.cache_axis();
        let Some(home) = self.homes.get_mut(&sequence).filter(|home| len < home.len) else {
            return Ok(());
        };
        if let Place::Tensors(tensors) = &mut home.place {
            let cut = tensors.iter().map(|tensor| axis_two(tensor, axis));
            *tensors = cut.collect::<Result<_, _>>()?;
        }
        home.len = len;
        Ok(())
    }

    /// Adds tokens to `sequence`: in one run, where the graph gives all the logits that are wanted.
    pub(crate) fn append(&mut self, sequence: u64, new: Append<'_>) -> Result<Logits, OrtError> {
        if !self.last_only || new.keep < 2 {
            return self.append_at_once(sequence, new);
        }
        let count = new.positions.len();
        let mut rows = Vec::with_capacity(new.keep);
        let mut from = 0;
        for to in count + 1 - new.keep.min(count)..=count {
            let part = Append {
                tokens: new.tokens.part(from..to, count),
                positions: &new.positions[from..to],
                keep: 1,
                ..new
            };
            rows.push(self.append_at_once(sequence, part)?);
            from = to;
        }
        Ok(Logits::joined(&rows))
    }

    fn append_at_once(&mut self, sequence: u64, new: Append<'_>) -> Result<Logits, OrtError> {
        let home = self.homes.get_mut(&sequence).ok_or_else(|| wrong(sequence))?;
        let Append {
            tokens,
            positions,
            shown,
            keep,
            states,
        } = new;
        let total = home.len + positions.len();
        if matches!(home.place, Place::Row { .. }) && total > home.capacity {
            return Err(wrong(sequence));
        }
        let mut mask = vec![1; total];
        for (bit, &shown) in mask.iter_mut().zip(shown.unwrap_or_default()) {
            *bit = i64::from(shown);
        }
        let pass = Pass {
            batch: 1,
            tokens,
            positions,
            mask,
            keep,
            states,
        };
        let cached = home.len > 0;
        let logits = match &mut home.place {
            Place::Tensors(tensors) => {
                let (logits, present) = self.decoder.run(pass, tensors)?;
                *tensors = present;
                logits
            }
            Place::Row { slab, row } => {
                let slab = self.slabs.get_mut(slab).ok_or_else(|| wrong(sequence))?;
                self.decoder.run_in_place(pass, slab, *row..*row + 1, cached)?
            }
        };
        home.len = total;
        Ok(logits)
    }

    /// Runs tokens after the first `len` of `sequence` and forgets them again; what came after `len` is lost.
    pub(crate) fn probe(&mut self, sequence: u64, len: usize, new: Append<'_>) -> Result<Logits, OrtError> {
        self.truncate(sequence, len)?;
        let before = self.homes.get(&sequence).and_then(|home| match &home.place {
            Place::Tensors(tensors) => Some(tensors.clone()),
            Place::Row { .. } => None,
        });
        let logits = self.append(sequence, new);
        if let Some(home) = self.homes.get_mut(&sequence) {
            home.len = len;
            if let Some(tensors) = before {
                home.place = Place::Tensors(tensors);
            }
        }
        logits
    }
}

fn wrong(sequence: u64) -> OrtError {
    OrtError::Run {
        session: "KV cache".into(),
        why: format!("sequence {sequence} has no place, or not enough"),
    }
}
