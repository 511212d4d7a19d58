//! One token for each of many sequences, in as few runs as pay.

use std::{collections::BTreeMap, ops::Range};

use reelsight_ort::OrtError;

use super::{Append, Cost, Layout, Next, Place, Ragged, Rows, wrong};
use crate::graphs::{Pass, Tokens};

impl Rows {
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
}

/// Tokens and positions of a run over `rows`; those that are not in `group` get those of one that is.
fn gather(rows: Range<usize>, group: &mut BTreeMap<usize, Next>) -> (Tokens, Vec<[u32; 3]>) {
    let (mut embeds, mut ids, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    // The first row of a run is always one that wants a token.
    for row in rows {
        let Some(next) = group.remove(&row) else {
            let width = embeds.len() / positions.len().max(1);
            embeds.extend_from_within(..width);
            ids.extend_from_within(..ids.len().min(1));
            positions.push([0; 3]);
            continue;
        };
        positions.push(next.position);
        match next.token {
            Tokens::Embeds(values) => embeds.extend(values),
            Tokens::Ids(values) => ids.extend(values),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_bridged_where_it_pays() {
        let cover = |rows: &[usize], run, row| -> Vec<(usize, usize)> {
            let ranges = ranges(rows.iter().copied(), Cost { run, row }).into_iter();
            ranges.map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(cover(&[0, 1, 2], 1.0, 1.0), [(0, 3)]);
        assert_eq!(cover(&[0, 2, 5], 1.0, 1.0), [(0, 3), (5, 6)]);
        assert_eq!(cover(&[1, 2, 7], 10.0, 1.0), [(1, 8)]);
        // Where a row more costs what a run more costs, or the other way round, runs are as small as can be.
        assert_eq!(cover(&[0, 1], -0.1, 1.0), [(0, 1), (1, 2)]);
    }
}
