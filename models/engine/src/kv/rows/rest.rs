//! Between rows and pages: what rests, and what runs again.

use std::{ops::Range, sync::Arc};

use reelsight_ort::{OrtError, Tensor};

use super::{Layout, Place, Rows, wrong};
use crate::kv::pages::{Pages, Segment};

impl Rows {
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
        self.load_parts(sequence, pages, std::slice::from_ref(&(0..pages.len())))
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
