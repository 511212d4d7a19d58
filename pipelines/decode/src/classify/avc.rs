//! H.264: IDR pictures, recovery points, non-reference pictures, and fields in packets of their own.

use super::{Class, Entry, framing};
use crate::bits::{self, Bits, Framing};

/// Bytes of a parameter set or slice header that are ever looked at.
const HEADER_BYTES: usize = 256;
/// Parameter sets of either kind that a stream can have.
const MAX_SETS: u32 = 256;

/// What a slice header needs from its sequence parameter set.
#[derive(Debug, Clone, Copy)]
struct Sequence {
    id: u32,
    separate_colour_planes: bool,
    frame_num_bits: u32,
    fields: bool,
}

/// Which field a slice belongs to, and of which frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    frame_num: u32,
    bottom: bool,
    idr: bool,
}

/// State between packets.
pub(crate) struct Avc {
    framing: Framing,
    sequences: Vec<Sequence>,
    /// Picture parameter set to sequence parameter set.
    pictures: Vec<(u32, u32)>,
    /// A first field that waits for its second.
    open_field: Option<Field>,
}

impl Avc {
    pub(super) fn new(extradata: &[u8]) -> Self {
        let mut avc = Self {
            framing: framing(extradata, 4),
            sequences: Vec::new(),
            pictures: Vec::new(),
            open_field: None,
        };
        for unit in parameter_sets(extradata) {
            avc.learn(unit);
        }
        avc
    }

    /// # Source
    /// ITU-T H.264, table 7-1 and annex D.2.8.
    pub(super) fn classify(&mut self, data: &[u8]) -> Class {
        let mut class = Class {
            disposable: true,
            ..Class::default()
        };
        let mut first_slice = None;
        for unit in bits::units(data, self.framing) {
            match unit[0] & 0x1f {
                1 | 2 | 5 => {
                    class.disposable &= unit[0] & 0x60 == 0;
                    if unit[0] & 0x1f == 5 {
                        class.entry = Entry::Clean;
                    }
                    first_slice = first_slice.or(Some(unit));
                }
                6 if class.entry == Entry::None => class.entry = recovery_point(unit),
                7 | 8 => self.learn(unit),
                // Prefixes and slices of scalable and multi-view streams: not understood, hence a reference.
                14 | 15 | 20 | 21 => class.disposable = false,
                _ => {}
            }
        }
        let Some(slice) = first_slice else {
            return Class::default();
        };
        class.second_field = self.pair_up(slice);
        if class.second_field {
            class.entry = Entry::None;
        }
        class
    }

    /// Whether `slice` begins the second field of the picture before it.
    fn pair_up(&mut self, slice: &[u8]) -> bool {
        let field = self.field(slice);
        let pairs = match (self.open_field, field) {
            (Some(first), Some(second)) => {
                first.frame_num == second.frame_num
                    && first.bottom != second.bottom
                    && (first.idr || !second.idr)
            }
            _ => false,
        };
        self.open_field = if pairs { None } else { field };
        pairs
    }

    /// The field of a slice; `None` for a frame, or when the parameter sets are missing.
    fn field(&self, slice: &[u8]) -> Option<Field> {
        let payload = bits::unescaped(slice.get(1..)?, HEADER_BYTES);
        let mut bits = Bits::new(&payload);
        bits.unsigned_golomb()?;
        bits.unsigned_golomb()?;
        let picture = bits.unsigned_golomb()?;
        let &(_, sequence) = self.pictures.iter().find(|(id, _)| *id == picture)?;
        let sequence = self.sequences.iter().find(|known| known.id == sequence)?;
        if sequence.separate_colour_planes {
            bits.skip(2)?;
        }
        let frame_num = bits.take(sequence.frame_num_bits)?;
        if !sequence.fields || !bits.flag()? {
            return None;
        }
        Some(Field {
            frame_num,
            bottom: bits.flag()?,
            idr: slice[0] & 0x1f == 5,
        })
    }

    /// Remembers a parameter set.
    fn learn(&mut self, unit: &[u8]) {
        let Some((&header, rest)) = unit.split_first() else {
            return;
        };
        let payload = bits::unescaped(rest, HEADER_BYTES);
        match header & 0x1f {
            7 => {
                if let Some(sequence) = sequence(&payload) {
                    self.sequences.retain(|known| known.id != sequence.id);
                    self.sequences.push(sequence);
                }
            }
            8 => {
                let mut bits = Bits::new(&payload);
                let (Some(id), Some(sequence)) = (bits.unsigned_golomb(), bits.unsigned_golomb()) else {
                    return;
                };
                if id < MAX_SETS {
                    self.pictures.retain(|(known, _)| *known != id);
                    self.pictures.push((id, sequence));
                }
            }
            _ => {}
        }
    }
}

/// The parameter sets in an `avcC` record or in Annex B extradata.
fn parameter_sets(extradata: &[u8]) -> Vec<&[u8]> {
    if extradata.first() != Some(&1) {
        return bits::units(extradata, Framing::AnnexB);
    }
    let mut sets = Vec::new();
    let Some(&count) = extradata.get(5) else {
        return sets;
    };
    let mut at = 6;
    let mut left = usize::from(count & 31);
    let mut pictures = false;
    loop {
        if left == 0 {
            if pictures {
                return sets;
            }
            let Some(&count) = extradata.get(at) else {
                return sets;
            };
            (left, pictures, at) = (usize::from(count), true, at + 1);
            continue;
        }
        let Some(&[high, low]) = extradata.get(at..at + 2) else {
            return sets;
        };
        let length = usize::from(high) << 8 | usize::from(low);
        let Some(set) = extradata.get(at + 2..at + 2 + length) else {
            return sets;
        };
        if !set.is_empty() {
            sets.push(set);
        }
        (left, at) = (left - 1, at + 2 + length);
    }
}

/// # Source
/// ITU-T H.264, section 7.3.2.1.1, up to `frame_mbs_only_flag`.
fn sequence(payload: &[u8]) -> Option<Sequence> {
    let mut bits = Bits::new(payload);
    let profile = bits.take(8)?;
    bits.skip(16)?;
    let id = bits.unsigned_golomb().filter(|&id| id < MAX_SETS)?;
    let mut separate_colour_planes = false;
    if matches!(
        profile,
        44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
    ) {
        let chroma = bits.unsigned_golomb()?;
        if chroma == 3 {
            separate_colour_planes = bits.flag()?;
        }
        bits.unsigned_golomb()?;
        bits.unsigned_golomb()?;
        bits.skip(1)?;
        if bits.flag()? {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    let frame_num_bits = bits.unsigned_golomb().filter(|&log2| log2 <= 12)? + 4;
    match bits.unsigned_golomb()? {
        0 => {
            bits.unsigned_golomb()?;
        }
        1 => {
            bits.skip(1)?;
            bits.signed_golomb()?;
            bits.signed_golomb()?;
            for _ in 0..bits.unsigned_golomb().filter(|&count| count <= 255)? {
                bits.signed_golomb()?;
            }
        }
        _ => {}
    }
    bits.unsigned_golomb()?;
    bits.skip(1)?;
    bits.unsigned_golomb()?;
    bits.unsigned_golomb()?;
    Some(Sequence {
        id,
        separate_colour_planes,
        frame_num_bits,
        fields: !bits.flag()?,
    })
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.signed_golomb()? + 256) % 256;
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// The entry that a supplemental message announces. Only exact recovery counts: after an inexact one, pictures are
/// merely similar to those of a whole decode.
fn recovery_point(unit: &[u8]) -> Entry {
    const RECOVERY_POINT: usize = 6;
    let payload = bits::unescaped(&unit[1..], 4 * HEADER_BYTES);
    let mut rest = payload.as_slice();
    while rest.len() > 2 {
        let (Some(kind), Some(size)) = (message_number(&mut rest), message_number(&mut rest)) else {
            break;
        };
        let Some((message, after)) = rest.split_at_checked(size) else {
            break;
        };
        if kind == RECOVERY_POINT {
            let mut bits = Bits::new(message);
            return match (bits.unsigned_golomb(), bits.flag()) {
                (Some(0), Some(true)) => Entry::Open,
                (Some(frames), Some(true)) => Entry::Gradual(frames),
                _ => Entry::None,
            };
        }
        rest = after;
    }
    Entry::None
}

/// A type or size: bytes of 255 add up until another byte ends it.
fn message_number(data: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    loop {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        number += usize::from(byte);
        if byte != 255 {
            return Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(units: &[&[u8]]) -> Class {
        let data: Vec<u8> = units
            .iter()
            .flat_map(|unit| [&[0, 0, 1], *unit].concat())
            .collect();
        Avc::new(&[]).classify(&data)
    }

    #[test]
    fn tells_idr_reference_and_disposable_pictures() {
        assert_eq!(of(&[&[0x67, 1], &[0x65, 0x80]]).entry, Entry::Clean);
        assert!(!of(&[&[0x65, 0x80]]).disposable);
        assert!(of(&[&[0x01, 0x80]]).disposable);
        assert!(!of(&[&[0x41, 0x80]]).disposable);
        assert!(
            !of(&[&[0x01, 0x80], &[0x21, 0x80]]).disposable,
            "every slice must be non-reference"
        );
        assert!(
            !of(&[&[0x0e, 0x80], &[0x01, 0x80]]).disposable,
            "scalable streams are not understood"
        );
        assert!(!of(&[&[0x09, 0x10]]).disposable, "no picture: nothing is known");
    }

    #[test]
    fn believes_exact_recovery_points_only() {
        // Type 6, size 1: ue(0) = 1, exact = 1, then broken link and slice groups.
        assert_eq!(
            of(&[&[0x06, 6, 1, 0b1100_0100, 0x80], &[0x41, 0x80]]).entry,
            Entry::Open
        );
        assert_eq!(
            of(&[&[0x06, 6, 1, 0b1000_0100, 0x80], &[0x41, 0x80]]).entry,
            Entry::None
        );
        assert_eq!(
            of(&[&[0x06, 6, 1, 0b0111_0001, 0x80], &[0x41, 0x80]]).entry,
            Entry::Gradual(2)
        );
        // Another message in front.
        let both = [0x06, 5, 2, 9, 9, 6, 1, 0b1100_0100, 0x80];
        assert_eq!(of(&[&both, &[0x41, 0x80]]).entry, Entry::Open);
    }
}
