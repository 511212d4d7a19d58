//! The decoder with the KV of all running sequences.
//!
//! Two kinds of graphs: those that update a cache of fixed capacity in place live in [`Slab`]s, and neighbouring rows are
//! decoded in one run, each with its own length. Those that give a new, longer cache each time keep tensors of their
//! own and run one after the other. Which kind a graph is, is tried at load ([`super::probe`]), not guessed.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use reelsight_ort::{OrtError, Tensor};

use super::{
    pages::{Pages, Segment},
    slab::Slab,
};
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
    rows: usize,
    /// Longest sequence.
    context: usize,
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
            rows: rows.max(1),
            context,
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
        let id = match found {
            Some(id) => id,
            None => {
                let slab = Slab::new(self.decoder.planes(), self.rows, capacity)?;
                self.next_slab += 1;
                self.slabs.insert(self.next_slab, slab);
                self.next_slab
            }
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

    /// Adds tokens to `sequence` in one run.
    pub(crate) fn append(&mut self, sequence: u64, new: Append<'_>) -> Result<Logits, OrtError> {
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

    /// One token for each of `next`, in as few runs as pay; `each` gets the logits after each. Gives the number of runs.
    pub(crate) fn decode(
        &mut self,
        next: Vec<Next>,
        mut each: impl FnMut(u64, &[f32]),
    ) -> Result<usize, OrtError> {
        let mut by_slab: BTreeMap<u64, BTreeMap<usize, Next>> = BTreeMap::new();
        let mut alone = Vec::new();
        for next in next {
            let home = self
                .homes
                .get(&next.sequence)
                .ok_or_else(|| wrong(next.sequence))?;
            match home.place {
                Place::Row { slab, row } if self.layout != Layout::Slabs(Ragged::Alone) => {
                    by_slab.entry(slab).or_default().insert(row, next);
                }
                _ => alone.push(next),
            }
        }
        let mut runs = alone.len();
        for Next {
            sequence,
            token,
            position,
        } in alone
        {
            let new = Append {
                tokens: token,
                positions: &[position],
                shown: None,
                keep: 1,
                states: false,
            };
            let logits = self.append(sequence, new)?;
            each(sequence, logits.row(0));
        }
        for (slab, mut rows) in by_slab {
            for range in ranges(rows.keys().copied(), self.cost) {
                let later = rows.split_off(&range.end);
                let group = std::mem::replace(&mut rows, later);
                self.decode_range(slab, range, group, &mut each)?;
                runs += 1;
            }
        }
        Ok(runs)
    }

    /// One run over the neighbouring rows `range`, of which `group` wants a token. The others go along: what is written
    /// for them lies behind their last token, where nobody looks before it is overwritten.
    fn decode_range(
        &mut self,
        slab_id: u64,
        range: Range<usize>,
        mut group: BTreeMap<usize, Next>,
        each: &mut impl FnMut(u64, &[f32]),
    ) -> Result<(), OrtError> {
        let slab = self.slabs.get_mut(&slab_id).ok_or_else(|| wrong(slab_id))?;
        let lens: Vec<usize> = range
            .clone()
            .map(|row| slab.owner(row).and_then(|owner| self.homes.get(&owner)))
            .map(|home| home.map_or(0, |home| home.len))
            .collect();
        // A full row that only goes along must not be written beyond its end.
        let total = lens.iter().max().map_or(1, |len| len + 1).min(slab.capacity());
        let columns = self.layout == Layout::Slabs(Ragged::Columns);
        let mut mask = vec![0; lens.len() * total];
        for (row, &len) in mask.chunks_exact_mut(total).zip(&lens) {
            row[..len.min(total)].fill(1);
            row[if columns { total - 1 } else { len.min(total - 1) }] = 1;
        }
        let sequences: Vec<Option<u64>> = range
            .clone()
            .map(|row| group.get(&row).map(|next| next.sequence))
            .collect();
        let (tokens, positions) = gather(range.clone(), &mut group);
        let pass = Pass {
            batch: range.len(),
            tokens,
            positions: &positions,
            mask,
            keep: 1,
            states: false,
        };
        let logits = self.decoder.run_in_place(pass, slab, range.clone(), true)?;
        for (at, sequence) in sequences.into_iter().enumerate() {
            let Some(sequence) = sequence else { continue };
            let len = lens[at];
            if columns && len + 1 < total {
                slab.shift(range.start + at, total - 1, len);
            }
            if let Some(home) = self.homes.get_mut(&sequence) {
                home.len += 1;
            }
            each(sequence, logits.row_of(at, 0));
        }
        Ok(())
    }

    /// The tokens `range` of `sequence`, copied out.
    pub(crate) fn save(&self, sequence: u64, range: Range<usize>) -> Result<Arc<Segment>, OrtError> {
        let home = self.homes.get(&sequence).ok_or_else(|| wrong(sequence))?;
        if range.end > home.len || range.start > range.end {
            return Err(wrong(sequence));
        }
        match &home.place {
            Place::Row { slab, row } => {
                let slab = self.slabs.get(slab).ok_or_else(|| wrong(sequence))?;
                Ok(slab.save(*row, range))
            }
            Place::Tensors(tensors) => {
                let planes = tensors.iter().zip(self.decoder.planes()).map(|(tensor, plane)| {
                    let (data, stride) = (tensor.as_bytes(), plane.stride());
                    let heads = (0..plane.outer).map(|outer| {
                        let first = outer * home.len;
                        &data[(first + range.start) * stride..(first + range.end) * stride]
                    });
                    heads.collect::<Vec<_>>().concat().into_boxed_slice()
                });
                Ok(Segment::new(range.len(), planes.collect()))
            }
        }
    }

    /// Fills an empty `sequence` with `pages`.
    pub(crate) fn load(&mut self, sequence: u64, pages: &Pages) -> Result<(), OrtError> {
        self.load_parts(sequence, pages, &[0..pages.len()])
    }

    /// Fills an empty `sequence` with the tokens `parts` of `pages`, one behind the other.
    pub(crate) fn load_parts(
        &mut self,
        sequence: u64,
        pages: &Pages,
        parts: &[Range<usize>],
    ) -> Result<(), OrtError> {
        let len: usize = parts.iter().map(Range::len).sum();
        let tensors = match self.layout {
            Layout::Tensors => self.tensors(pages, parts, len)?,
            Layout::Slabs(_) => Vec::new(),
        };
        let home = self.homes.get_mut(&sequence).ok_or_else(|| wrong(sequence))?;
        match &mut home.place {
            Place::Tensors(place) => *place = tensors,
            Place::Row { slab, row } => {
                if len > home.capacity {
                    return Err(wrong(sequence));
                }
                let slab = self.slabs.get_mut(slab).ok_or_else(|| wrong(sequence))?;
                let mut start = 0;
                for part in parts {
                    slab.load(*row, pages, part.clone(), start);
                    start += part.len();
                }
            }
        }
        home.len = len;
        Ok(())
    }

    fn tensors(&self, pages: &Pages, parts: &[Range<usize>], len: usize) -> Result<Vec<Tensor>, OrtError> {
        if len == 0 {
            return self.decoder.empty_cache();
        }
        let planes = self.decoder.planes().iter().enumerate();
        let tensors = planes.map(|(at, &plane)| {
            let mut data = vec![0; plane.token_bytes() * len];
            let mut start = 0;
            for part in parts {
                for (outer, token, bytes) in pages.runs(at, plane, part.clone()) {
                    let to = (outer * len + start + token - part.start) * plane.stride();
                    data[to..to + bytes.len()].copy_from_slice(bytes);
                }
                start += part.len();
            }
            Tensor::from_bytes(plane.element, &self.decoder.cache_shape(at, len), &data)
        });
        tensors.collect()
    }

    /// The whole cache of `sequence` as tensors of exactly its length, by the names of the outputs that gave them.
    /// Only those that `wanted` names.
    pub(crate) fn named(
        &self,
        sequence: u64,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(Arc<str>, Tensor)>, OrtError> {
        let home = self.homes.get(&sequence).ok_or_else(|| wrong(sequence))?;
        let names = self.decoder.cache_names().iter().enumerate();
        let tensors = names
            .filter(|(_, (_, present))| wanted(present))
            .map(|(at, (_, present))| {
                let tensor = match &home.place {
                    Place::Tensors(tensors) => tensors[at].clone(),
                    Place::Row { slab, row } => {
                        let slab = self.slabs.get(slab).ok_or_else(|| wrong(sequence))?;
                        let data = slab.plane(at, *row, 0..home.len);
                        let element = self.decoder.planes()[at].element;
                        Tensor::from_bytes(element, &self.decoder.cache_shape(at, home.len), &data)?
                    }
                };
                Ok((Arc::clone(present), tensor))
            });
        tensors.collect()
    }
}

/// Tokens and positions of a run over `rows`; those that are not in `group` get those of one that is.
fn gather(rows: Range<usize>, group: &mut BTreeMap<usize, Next>) -> (Tokens, Vec<[u32; 3]>) {
    let (mut embeds, mut ids, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    // The first row of a run is always one that wants a token.
    for row in rows {
        match group.remove(&row) {
            Some(next) => {
                positions.push(next.position);
                match next.token {
                    Tokens::Embeds(values) => embeds.extend(values),
                    Tokens::Ids(values) => ids.extend(values),
                }
            }
            None => {
                let width = embeds.len() / positions.len().max(1);
                embeds.extend_from_within(..width);
                ids.extend_from_within(..ids.len().min(1));
                positions.push([0; 3]);
            }
        }
    }
    let tokens = if ids.is_empty() {
        Tokens::Embeds(embeds)
    } else {
        Tokens::Ids(ids)
    };
    (tokens, positions)
}

/// Runs that cover `rows`, which ascend: a gap is run over where its rows cost less than another run.
fn ranges(rows: impl Iterator<Item = usize>, cost: Cost) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match ranges.last_mut() {
            Some(range) if (row - range.end) as f64 * cost.row <= cost.run => range.end = row + 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

fn wrong(sequence: u64) -> OrtError {
    OrtError::Run {
        session: "KV cache".into(),
        why: format!("sequence {sequence} has no place, or not enough"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_bridged_where_it_pays() {
        let cover = |rows: &[usize], run, row| ranges(rows.iter().copied(), Cost { run, row });
        assert_eq!(cover(&[0, 1, 2], 1.0, 1.0), [0..3]);
        assert_eq!(cover(&[0, 2, 5], 1.0, 1.0), [0..3, 5..6]);
        assert_eq!(cover(&[1, 2, 7], 10.0, 1.0), [1..8]);
        // Where a row more costs what a run more costs, or the other way round, runs are as small as can be.
        assert_eq!(cover(&[0, 1], -0.1, 1.0), [0..1, 1..2]);
    }
}
