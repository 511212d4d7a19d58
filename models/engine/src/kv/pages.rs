//! KV at rest: immutable pieces that sequences share.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use reelsight_ort::Element;

/// How one cache tensor of a graph is laid out, batch left out: `[outer, tokens, inner]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plane {
    /// Product of the axes between the batch and the tokens: KV heads.
    pub(crate) outer: usize,
    /// Product of the axes after the tokens: width of a head.
    pub(crate) inner: usize,
    pub(crate) element: Element,
}

impl Plane {
    /// Bytes of one token of one head.
    pub(crate) fn stride(self) -> usize {
        self.inner * self.element.size()
    }

    /// Bytes of one token.
    pub(crate) fn token_bytes(self) -> usize {
        self.outer * self.stride()
    }
}

/// Bytes of one token in all `planes`.
pub(crate) fn token_bytes(planes: &[Plane]) -> usize {
    planes.iter().map(|plane| plane.token_bytes()).sum()
}

/// Keys and values of some neighbouring tokens in all layers. Never changes; whoever continues a sequence adds another.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Tells it from all others of this process.
    pub(crate) id: u64,
    pub(crate) tokens: usize,
    /// One per cache tensor, `[outer, tokens, inner]` each.
    pub(crate) planes: Vec<Box<[u8]>>,
}

impl Segment {
    pub(crate) fn new(tokens: usize, planes: Vec<Box<[u8]>>) -> Arc<Self> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            tokens,
            planes,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.planes.iter().map(|plane| plane.len()).sum()
    }
}

/// The KV of a sequence at rest: pieces in order, of which the last ones used may be used in part. A clone shares them
/// all; two sequences with the same beginning share its pieces (copy on write: what follows is added, never changed).
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    /// With how many of their tokens are used.
    parts: Vec<(Arc<Segment>, usize)>,
}

impl Pages {
    /// Tokens.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|(_, used)| used).sum()
    }

    #[cfg(test)]
    pub(crate) fn parts(&self) -> &[(Arc<Segment>, usize)] {
        &self.parts
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.parts.iter().map(|(segment, _)| segment)
    }

    /// Adds a piece with the next `used` tokens.
    pub(crate) fn push(&mut self, segment: Arc<Segment>, used: usize) {
        if used > 0 {
            let used = used.min(segment.tokens);
            self.parts.push((segment, used));
        }
    }

    /// The first `len` tokens.
    pub(crate) fn head(&self, len: usize) -> Self {
        let mut left = len;
        let mut head = Self::default();
        for (segment, used) in &self.parts {
            let used = left.min(*used);
            head.push(Arc::clone(segment), used);
            left -= used;
        }
        head
    }

    /// The tokens `range` of plane `at`, as `(outer, destination token, bytes)` runs in order.
    pub(crate) fn runs(
        &self,
        at: usize,
        plane: Plane,
        range: Range<usize>,
    ) -> impl Iterator<Item = (usize, usize, &[u8])> {
        let mut start = 0;
        let parts = self.parts.iter().filter_map(move |(segment, used)| {
            let own = start..start + used;
            start = own.end;
            let (from, to) = (range.start.max(own.start), range.end.min(own.end));
            (from < to).then_some((segment, own.start, from, to))
        });
        parts.flat_map(move |(segment, first, from, to)| {
            let (stride, data) = (plane.stride(), &segment.planes[at]);
            (0..plane.outer).map(move |outer| {
                let base = outer * segment.tokens;
                let bytes = (base + from - first) * stride..(base + to - first) * stride;
                (outer, from, &data[bytes])
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANE: Plane = Plane {
        outer: 2,
        inner: 1,
        element: Element::F16,
    };

    /// Tokens `range`; byte `head * 100 + token` twice for each.
    fn segment(range: Range<u8>) -> Arc<Segment> {
        let plane: Vec<u8> = [0, 100]
            .iter()
            .flat_map(|head| range.clone().flat_map(move |token| [head + token; 2]))
            .collect();
        Segment::new(range.len(), vec![plane.into()])
    }

    fn read(pages: &Pages, range: Range<usize>) -> Vec<u8> {
        let mut out = vec![255; PLANE.token_bytes() * range.len()];
        for (outer, token, bytes) in pages.runs(0, PLANE, range.clone()) {
            let at = (outer * range.len() + token - range.start) * 2;
            out[at..at + bytes.len()].copy_from_slice(bytes);
        }
        out
    }

    #[test]
    fn pieces_read_as_one_and_branches_share_them() {
        let mut pages = Pages::default();
        pages.push(segment(0..3), 3);
        pages.push(segment(3..8), 5);
        assert_eq!((pages.len(), token_bytes(&[PLANE, PLANE])), (8, 8));
        let whole = |from: u8, to: u8| -> Vec<u8> {
            [0, 100]
                .iter()
                .flat_map(|head| (from..to).flat_map(move |token| [head + token; 2]))
                .collect()
        };
        assert_eq!(read(&pages, 0..8), whole(0, 8));
        assert_eq!(read(&pages, 2..4), whole(2, 4));

        let mut branch = pages.head(5);
        assert_eq!((branch.len(), branch.parts().len()), (5, 2));
        branch.push(segment(5..6), 1);
        assert_eq!(read(&branch, 0..6), whole(0, 6));
        assert!(Arc::ptr_eq(&branch.parts()[1].0, &pages.parts()[1].0));
        assert_eq!(pages.head(3).parts().len(), 1);
        assert_eq!(pages.head(0).len(), 0);
    }
}
