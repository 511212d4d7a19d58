//! KV of running sequences in buffers of fixed capacity, which graphs update in place.
//!
//! One slab has rows of one capacity, `[rows, outer, capacity, inner]` for each cache tensor, so that neighbouring rows
//! are one tensor of a batch without a copy. Memory is taken where tokens were written; a slab that empties is freed.

use std::{ops::Range, sync::Arc};

use reelsight_ort::{Buffer, InPlace, OrtError};

use super::pages::{Pages, Plane, Segment};

/// Rows of one capacity.
#[derive(Debug)]
pub(crate) struct Slab {
    planes: Vec<Plane>,
    buffers: Vec<Buffer>,
    /// Who has which row.
    rows: Vec<Option<u64>>,
    capacity: usize,
}

impl Slab {
    /// `rows` free rows for `capacity` tokens each.
    pub(crate) fn new(planes: &[Plane], rows: usize, capacity: usize) -> Result<Self, OrtError> {
        let buffer =
            |plane: &Plane| Buffer::zeroed(plane.element, rows * plane.outer * capacity * plane.inner);
        Ok(Self {
            planes: planes.to_vec(),
            buffers: planes.iter().map(buffer).collect::<Result<_, _>>()?,
            rows: vec![None; rows],
            capacity,
        })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.iter().all(Option::is_none)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.rows.iter().any(Option::is_none)
    }

    /// Takes the lowest free row.
    pub(crate) fn take(&mut self, owner: u64) -> Option<usize> {
        let row = self.rows.iter().position(Option::is_none)?;
        self.rows[row] = Some(owner);
        Some(row)
    }

    pub(crate) fn free(&mut self, row: usize) {
        self.rows[row] = None;
    }

    /// Who has `row`.
    pub(crate) fn owner(&self, row: usize) -> Option<u64> {
        self.rows[row]
    }

    /// The neighbouring `rows` as caches of one batch; `names` has past and present of each cache tensor.
    pub(crate) fn in_place<'a>(
        &'a mut self,
        rows: Range<usize>,
        names: &'a [(Arc<str>, Arc<str>)],
    ) -> Vec<InPlace<'a>> {
        let capacity = self.capacity;
        let planes = self.planes.iter().zip(&mut self.buffers).zip(names);
        planes
            .map(|((plane, buffer), (past, present))| InPlace {
                past,
                present,
                buffer,
                offset: rows.start * plane.outer * capacity * plane.inner,
                shape: [rows.len(), plane.outer, capacity, plane.inner],
            })
            .collect()
    }

    /// The bytes of tokens `range` of one head.
    fn bytes(&self, plane: Plane, row: usize, outer: usize, range: Range<usize>) -> Range<usize> {
        let first = (row * plane.outer + outer) * self.capacity;
        (first + range.start) * plane.stride()..(first + range.end) * plane.stride()
    }

    /// Moves one token's keys and values to an earlier place in its row.
    pub(crate) fn shift(&mut self, row: usize, from: usize, to: usize) {
        for at in 0..self.planes.len() {
            let plane = self.planes[at];
            for outer in 0..plane.outer {
                let source = self.bytes(plane, row, outer, from..from + 1);
                let target = self.bytes(plane, row, outer, to..to + 1).start;
                self.buffers[at].as_bytes_mut().copy_within(source, target);
            }
        }
    }

    /// Copies tokens `range` of `row` out.
    pub(crate) fn save(&self, row: usize, range: Range<usize>) -> Arc<Segment> {
        let planes = self.planes.iter().zip(&self.buffers).map(|(&plane, buffer)| {
            let heads = (0..plane.outer)
                .map(|outer| &buffer.as_bytes()[self.bytes(plane, row, outer, range.clone())]);
            let mut data = Vec::with_capacity(plane.token_bytes() * range.len());
            heads.for_each(|head| data.extend_from_slice(head));
            data.into_boxed_slice()
        });
        Segment::new(range.len(), planes.collect())
    }

    /// Copies the tokens `range` of `pages` to token `to` of `row` and behind it.
    pub(crate) fn load(&mut self, row: usize, pages: &Pages, range: Range<usize>, to: usize) {
        for at in 0..self.planes.len() {
            let plane = self.planes[at];
            for (outer, token, bytes) in pages.runs(at, plane, range.clone()) {
                let first = to + token - range.start;
                let start = self.bytes(plane, row, outer, first..first).start;
                self.buffers[at].as_bytes_mut()[start..start + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    /// The bytes of one cache tensor's tokens `range` of `row`, `[outer, tokens, inner]`.
    pub(crate) fn plane(&self, at: usize, row: usize, range: Range<usize>) -> Vec<u8> {
        let plane = self.planes[at];
        let mut data = Vec::with_capacity(plane.token_bytes() * range.len());
        for outer in 0..plane.outer {
            data.extend_from_slice(
                &self.buffers[at].as_bytes()[self.bytes(plane, row, outer, range.clone())],
            );
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use reelsight_ort::Element;

    use super::*;

    #[test]
    fn rows_are_saved_loaded_and_shifted_without_touching_others() {
        let planes = [
            Plane {
                outer: 2,
                inner: 1,
                element: Element::F16,
            },
            Plane {
                outer: 1,
                inner: 3,
                element: Element::F32,
            },
        ];
        let mut slab = Slab::new(&planes, 2, 5).unwrap();
        assert_eq!(
            (slab.take(7), slab.take(8), slab.take(9)),
            (Some(0), Some(1), None)
        );
        let data = |seed: u8, tokens: usize, plane: &Plane| -> Box<[u8]> {
            (0..plane.token_bytes() * tokens)
                .map(|at| seed + u8::try_from(at).unwrap())
                .collect()
        };
        let segment = |seed, tokens| {
            Segment::new(
                tokens,
                planes.iter().map(|plane| data(seed, tokens, plane)).collect(),
            )
        };
        let (mut first, mut second) = (Pages::default(), Pages::default());
        first.push(segment(10, 4), 4);
        second.push(segment(100, 2), 2);
        second.push(segment(50, 3), 3);
        slab.load(0, &first, 0..4, 0);
        slab.load(1, &second, 0..5, 0);
        assert_eq!(slab.save(0, 0..4).planes, first.parts()[0].0.planes);
        assert_eq!(slab.save(1, 0..2).planes, second.parts()[0].0.planes);
        assert_eq!(slab.save(1, 2..5).planes, second.parts()[1].0.planes);
        slab.shift(0, 3, 1);
        let (old, new) = (slab.save(0, 3..4), slab.save(0, 1..2));
        assert_eq!(old.planes, new.planes);
        assert_eq!(slab.save(1, 2..5).planes, second.parts()[1].0.planes);
        slab.free(0);
        assert!(slab.has_room() && !slab.is_empty() && slab.owner(1) == Some(8));
        let names: Vec<(Arc<str>, Arc<str>)> = vec![("a".into(), "b".into()), ("c".into(), "d".into())];
        let caches = slab.in_place(1..2, &names);
        assert_eq!((caches[0].offset, caches[0].shape), (10, [1, 2, 5, 1]));
        assert_eq!((caches[1].offset, caches[1].shape), (15, [1, 1, 5, 3]));
    }
}
