//! MPEG-1, MPEG-2 and MPEG-4 part 2: pictures by their type. B-pictures are never referred to in any of them.

use super::{Class, Entry};
use crate::bits::{Bits, start_codes};

const PICTURE: u8 = 0x00;
const LAST_SLICE: u8 = 0xaf;
const SEQUENCE: u8 = 0xb3;
const EXTENSION: u8 = 0xb5;
const GROUP: u8 = 0xb8;
/// The extension that replaces the matrices of a sequence.
const QUANT_MATRIX: u32 = 3;
/// Bytes of a sequence header with both matrices.
const SEQUENCE_BYTES: usize = 136;
const VISUAL_OBJECT_PLANE: u8 = 0xb6;

/// MPEG-1 and MPEG-2 video. State between packets.
#[derive(Default)]
pub(crate) struct Mpeg {
    /// The first sequence header.
    sequence: Option<Vec<u8>>,
    /// Matrices have changed on the way: only a sequence header says which ones hold.
    altered: bool,
    /// Pictures that lead the last I-picture build on it alone.
    closed: bool,
}

impl Mpeg {
    /// # Source
    /// ISO/IEC 13818-2, sections 6.2.2 and 6.3.8 (`closed_gop`), 6.3.9 (`picture_coding_type`).
    pub(super) fn classify(&mut self, data: &[u8], key: bool) -> Class {
        let (mut has_sequence, mut closed, mut kind) = (false, false, None);
        for at in start_codes(data) {
            let rest = &data[at + 4..];
            match data[at + 3] {
                SEQUENCE => {
                    has_sequence = true;
                    self.learn(&rest[..rest.len().min(SEQUENCE_BYTES)]);
                }
                EXTENSION => self.altered |= Bits::new(rest).take(4) == Some(QUANT_MATRIX),
                // After 25 bits of time.
                GROUP => closed = rest.get(3).is_some_and(|byte| byte & 0x40 != 0),
                PICTURE => kind = rest.get(1).map(|byte| byte >> 3 & 7),
                1..=LAST_SLICE => break,
                _ => {}
            }
        }
        match kind {
            Some(1) => {
                self.closed = closed;
                let entry = match (has_sequence || !self.altered, closed) {
                    (false, _) => Entry::None,
                    (true, true) => Entry::Clean,
                    (true, false) => Entry::Open,
                };
                Class {
                    entry,
                    ..Class::default()
                }
            }
            Some(3) => Class {
                disposable: true,
                decodable_leading: self.closed,
                ..Class::default()
            },
            Some(_) => Class::default(),
            None => super::by_key(key),
        }
    }

    fn learn(&mut self, sequence: &[u8]) {
        // Up to the next start code: what follows belongs to others.
        let end = start_codes(sequence).next().unwrap_or(sequence.len());
        let sequence = &sequence[..end];
        match &self.sequence {
            None => self.sequence = Some(sequence.to_vec()),
            Some(first) => self.altered |= first != sequence,
        }
    }
}

/// MPEG-4 part 2. State between packets.
#[derive(Default)]
pub(crate) struct Mpeg4 {
    /// A packet held several pictures: the "packed" streams of `DivX` and Xvid, in which decoders carry the second
    /// picture over to the next packet. They are decoded from their start.
    packed: bool,
}

impl Mpeg4 {
    /// # Source
    /// ISO/IEC 14496-2, section 6.2.5 (`vop_coding_type`).
    pub(super) fn classify(&mut self, data: &[u8], key: bool) -> Class {
        let mut kinds = start_codes(data)
            .filter(|at| data[at + 3] == VISUAL_OBJECT_PLANE)
            .filter_map(|at| Some(data.get(at + 4)? >> 6));
        let kind = kinds.next();
        self.packed |= kinds.next().is_some();
        match kind {
            _ if self.packed => Class::default(),
            Some(0) => super::by_key(true),
            Some(2) => Class {
                disposable: true,
                ..Class::default()
            },
            Some(_) => Class::default(),
            None => super::by_key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQ: [u8; 12] = [0, 0, 1, 0xb3, 0x0c, 0x00, 0x90, 0x13, 0xff, 0xff, 0xe0, 0x18];
    const OTHER_SEQ: [u8; 12] = [0, 0, 1, 0xb3, 0x0c, 0x00, 0x90, 0x13, 0xff, 0xff, 0xe0, 0x1a];
    const OPEN: [u8; 8] = [0, 0, 1, 0xb8, 0, 0x08, 0, 0];
    const CLOSED: [u8; 8] = [0, 0, 1, 0xb8, 0, 0x08, 0, 0x40];

    fn picture(kind: u8) -> [u8; 9] {
        [0, 0, 1, 0, 0, kind << 3, 0, 0, 0]
    }

    #[test]
    fn tells_picture_types_and_closed_groups() {
        let mut mpeg = Mpeg::default();
        let mut of = |parts: &[&[u8]]| mpeg.classify(&parts.concat(), false);
        assert_eq!(of(&[&SEQ, &CLOSED, &picture(1)]).entry, Entry::Clean);
        assert!(of(&[&picture(3)]).decodable_leading);
        assert_eq!(of(&[&picture(2)]), Class::default());
        assert_eq!(of(&[&SEQ, &OPEN, &picture(1)]).entry, Entry::Open);
        let b = of(&[&picture(3)]);
        assert!(b.disposable && !b.decodable_leading);
        assert_eq!(
            of(&[&picture(1)]).entry,
            Entry::Open,
            "the sequence has not changed"
        );
    }

    #[test]
    fn an_i_picture_without_its_sequence_header_is_no_entry_once_that_changed() {
        let mut mpeg = Mpeg::default();
        let mut of = |parts: &[&[u8]]| mpeg.classify(&parts.concat(), true).entry;
        assert_eq!(of(&[&SEQ, &picture(1)]), Entry::Open);
        assert_eq!(of(&[&OTHER_SEQ, &picture(1)]), Entry::Open);
        assert_eq!(of(&[&picture(1)]), Entry::None);
        let matrix = [0, 0, 1, 0xb5, 0x38];
        assert_eq!(
            Mpeg::default()
                .classify(&[&matrix[..], &picture(1)].concat(), true)
                .entry,
            Entry::None
        );
    }

    #[test]
    fn tells_visual_object_planes() {
        let vop = |kind: u8| [0, 0, 1, 0xb6, kind << 6];
        let mut mpeg4 = Mpeg4::default();
        assert_eq!(mpeg4.classify(&vop(0), false).entry, Entry::Open);
        assert!(mpeg4.classify(&vop(2), false).disposable && !mpeg4.classify(&vop(1), false).disposable);
        let short_header = mpeg4.classify(&[0, 0, 0x80], true);
        assert_eq!(short_header.entry, Entry::Open, "the container's word");
    }

    #[test]
    fn once_packed_nothing_is_skipped() {
        let vop = |kind: u8| [0, 0, 1, 0xb6, kind << 6];
        let mut mpeg4 = Mpeg4::default();
        assert_eq!(mpeg4.classify(&[vop(1), vop(2)].concat(), true), Class::default());
        assert_eq!(mpeg4.classify(&vop(2), false), Class::default());
        assert_eq!(mpeg4.classify(&vop(0), true), Class::default());
    }
}
