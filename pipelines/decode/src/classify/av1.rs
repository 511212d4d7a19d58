//! AV1: which packets a packet refers to, from the slots that frame headers name and refresh.

use super::{Class, Entry};
use crate::bits::Bits;

const SEQUENCE_HEADER: u8 = 1;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;
const KEY_FRAME: u32 = 0;
const INTRA_ONLY_FRAME: u32 = 2;
const SWITCH_FRAME: u32 = 3;
const SLOTS: usize = 8;
/// The value by which a sequence leaves a choice to its frames.
const SELECT: u32 = 2;

/// State between packets.
pub(crate) struct Av1 {
    sequence: Option<Sequence>,
    slots: [Slot; SLOTS],
    packet: u32,
    /// Packets that the last one refers to; `None` once anything was not understood.
    references: Option<Vec<u32>>,
}

/// What a slot of the decoder's frame store holds.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    packet: Option<u32>,
    key: bool,
}

/// What a frame header needs from the sequence header.
#[derive(Debug, Clone, Copy)]
struct Sequence {
    reduced: bool,
    /// Lengths of a frame's identity and of a difference of two, when they are present.
    identity_bits: Option<(u32, u32)>,
    screen_content_tools: u32,
    integer_motion: u32,
    order_hint_bits: u32,
}

/// What a frame header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// A frame that was decoded before is shown.
    Existing(usize),
    /// A frame is decoded.
    New {
        key: bool,
        shown: bool,
        refresh: u32,
        referred: u32,
    },
}

impl Av1 {
    pub(super) fn new(extradata: &[u8]) -> Self {
        let mut av1 = Self {
            sequence: None,
            slots: Default::default(),
            packet: 0,
            references: Some(Vec::new()),
        };
        // An `av1C` record holds its units after four bytes.
        for (kind, payload) in units(extradata.get(4..).unwrap_or_default()).unwrap_or_default() {
            if kind == SEQUENCE_HEADER {
                av1.sequence = sequence(payload);
            }
        }
        av1
    }

    /// Packets that the last classified packet refers to; `None` when the stream is not understood.
    pub(super) fn references(&self) -> Option<&[u32]> {
        self.references.as_deref()
    }

    pub(super) fn classify(&mut self, data: &[u8], key: bool) -> Class {
        let class = self.read(data);
        self.packet += 1;
        class.unwrap_or_else(|| {
            self.references = None;
            Class {
                entry: if key { Entry::Open } else { Entry::None },
                ..Class::default()
            }
        })
    }

    fn read(&mut self, data: &[u8]) -> Option<Class> {
        let mut references = Vec::new();
        let (mut frames, mut shown, mut entry) = (0, false, Entry::None);
        for (kind, payload) in units(data)? {
            match kind {
                SEQUENCE_HEADER => self.sequence = Some(sequence(payload)?),
                FRAME_HEADER | FRAME => {
                    let header = header(payload, self.sequence.as_ref()?)?;
                    if let Header::New {
                        key: true,
                        shown: true,
                        ..
                    } = header
                        && frames == 0
                    {
                        entry = Entry::Clean;
                    }
                    shown |= self.apply(header, &mut references);
                    frames += 1;
                }
                _ => {}
            }
        }
        references.sort_unstable();
        references.dedup();
        if let Some(known) = &mut self.references {
            *known = references;
        }
        Some(Class {
            entry,
            hidden: !shown,
            ..Class::default()
        })
    }

    /// Follows one frame through the slots. Says whether it is shown.
    fn apply(&mut self, header: Header, references: &mut Vec<u32>) -> bool {
        let packet = self.packet;
        let mut refer = |slot: Slot| references.extend(slot.packet.filter(|&other| other != packet));
        match header {
            Header::Existing(slot) => {
                let slot = self.slots[slot];
                refer(slot);
                if slot.key {
                    // Showing a key frame late puts it into every slot.
                    self.slots = [Slot {
                        packet: Some(packet),
                        key: true,
                    }; SLOTS];
                }
                true
            }
            Header::New {
                key,
                shown,
                refresh,
                referred,
            } => {
                for (number, slot) in self.slots.iter_mut().enumerate() {
                    if referred >> number & 1 == 1 {
                        refer(*slot);
                    }
                    if refresh >> number & 1 == 1 {
                        *slot = Slot {
                            packet: Some(packet),
                            key,
                        };
                    }
                }
                shown
            }
        }
    }
}

/// The units of a packet: type and payload. `None` for what is cut off or spatially layered.
fn units(mut data: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut units = Vec::new();
    while let Some((&first, rest)) = data.split_first() {
        let (extended, sized) = (first & 4 != 0, first & 2 != 0);
        data = rest;
        if extended {
            let (&extension, rest) = data.split_first()?;
            if extension >> 3 & 3 > 0 {
                return None;
            }
            data = rest;
        }
        let size = if sized { leb128(&mut data)? } else { data.len() };
        let (payload, rest) = data.split_at_checked(size)?;
        units.push((first >> 3 & 15, payload));
        data = rest;
    }
    Some(units)
}

fn leb128(data: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for at in 0..8 {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// # Source
/// AV1 bitstream specification 1.0.0 with errata 1, section 5.5.1. Streams with a decoder model are not understood:
/// they are rare, and their frame headers carry times in front of everything else.
fn sequence(payload: &[u8]) -> Option<Sequence> {
    let mut bits = Bits::new(payload);
    bits.skip(4)?;
    let reduced = bits.flag()?;
    if reduced {
        bits.skip(5)?;
    } else {
        operating_points(&mut bits)?;
    }
    let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
    bits.skip((width_bits + height_bits) as usize)?;
    let mut identity_bits = None;
    if !reduced && bits.flag()? {
        let difference = bits.take(4)? + 2;
        identity_bits = Some((difference + bits.take(3)? + 1, difference));
    }
    bits.skip(3)?;
    let (mut screen_content_tools, mut integer_motion, mut order_hint_bits) = (SELECT, SELECT, 0);
    if !reduced {
        bits.skip(4)?;
        let order_hint = bits.flag()?;
        if order_hint {
            bits.skip(2)?;
        }
        if !bits.flag()? {
            screen_content_tools = bits.take(1)?;
        }
        if screen_content_tools > 0 && !bits.flag()? {
            integer_motion = bits.take(1)?;
        }
        if order_hint {
            order_hint_bits = bits.take(3)? + 1;
        }
    }
    Some(Sequence {
        reduced,
        identity_bits,
        screen_content_tools,
        integer_motion,
        order_hint_bits,
    })
}

fn operating_points(bits: &mut Bits<'_>) -> Option<()> {
    if bits.flag()? {
        bits.skip(64)?;
        if bits.flag()? {
            bits.unsigned_golomb()?;
        }
        if bits.flag()? {
            return None;
        }
    }
    let display_delay = bits.flag()?;
    for _ in 0..=bits.take(5)? {
        bits.skip(12)?;
        if bits.take(5)? > 7 {
            bits.skip(1)?;
        }
        if display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

/// # Source
/// AV1 bitstream specification 1.0.0 with errata 1, section 5.9.2, up to the references.
fn header(payload: &[u8], sequence: &Sequence) -> Option<Header> {
    let mut bits = Bits::new(payload);
    if sequence.reduced {
        return Some(Header::New {
            key: true,
            shown: true,
            refresh: 0xff,
            referred: 0,
        });
    }
    if bits.flag()? {
        return Some(Header::Existing(bits.take(3)? as usize));
    }
    let kind = bits.take(2)?;
    let shown = bits.flag()?;
    if !shown {
        bits.skip(1)?;
    }
    let key = kind == KEY_FRAME;
    let resilient = kind == SWITCH_FRAME || (key && shown) || bits.flag()?;
    bits.skip(1)?;
    let tools = if sequence.screen_content_tools == SELECT {
        bits.take(1)?
    } else {
        sequence.screen_content_tools
    };
    if tools > 0 && sequence.integer_motion == SELECT {
        bits.skip(1)?;
    }
    if let Some((identity, _)) = sequence.identity_bits {
        bits.skip(identity as usize)?;
    }
    if kind != SWITCH_FRAME {
        bits.skip(1)?;
    }
    bits.skip(sequence.order_hint_bits as usize)?;
    let intra = key || kind == INTRA_ONLY_FRAME;
    if !intra && !resilient {
        bits.skip(3)?;
    }
    let refresh = if kind == SWITCH_FRAME || (key && shown) {
        0xff
    } else {
        bits.take(8)?
    };
    if intra {
        return Some(Header::New {
            key,
            shown,
            refresh,
            referred: 0,
        });
    }
    if resilient {
        bits.skip(SLOTS * sequence.order_hint_bits as usize)?;
    }
    let referred = referred_slots(&mut bits, sequence)?;
    Some(Header::New {
        key,
        shown,
        refresh,
        referred,
    })
}

/// The slots that an inter frame names, as bits; all of them when it names them in the short form.
fn referred_slots(bits: &mut Bits<'_>, sequence: &Sequence) -> Option<u32> {
    if sequence.order_hint_bits > 0 && bits.flag()? {
        return Some(0xff);
    }
    let mut slots = 0;
    for _ in 0..7 {
        slots |= 1 << bits.take(3)?;
        if let Some((_, difference)) = sequence.identity_bits {
            bits.skip(difference as usize)?;
        }
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTER: Header = Header::New {
        key: false,
        shown: true,
        refresh: 0b10,
        referred: 0b01,
    };

    fn following(headers: &[Header]) -> Vec<Vec<u32>> {
        let mut av1 = Av1::new(&[]);
        let mut step = |&header| {
            let mut references = Vec::new();
            av1.apply(header, &mut references);
            av1.packet += 1;
            references
        };
        headers.iter().map(&mut step).collect()
    }

    #[test]
    fn follows_the_slots() {
        let key = Header::New {
            key: true,
            shown: true,
            refresh: 0xff,
            referred: 0,
        };
        let other = Header::New {
            key: false,
            shown: true,
            refresh: 0,
            referred: 0b11,
        };
        assert_eq!(
            following(&[key, INTER, INTER, other]),
            [vec![], vec![0], vec![0], vec![0, 2]]
        );
    }

    #[test]
    fn a_key_frame_that_is_shown_late_fills_every_slot() {
        let hidden_key = Header::New {
            key: true,
            shown: false,
            refresh: 0b01,
            referred: 0,
        };
        let later = Header::New {
            key: false,
            shown: true,
            refresh: 0,
            referred: 0b1000_0000,
        };
        assert_eq!(
            following(&[hidden_key, Header::Existing(0), later]),
            [vec![], vec![0], vec![1]]
        );
    }

    proptest! {
        #[test]
        fn survives_any_bytes(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let mut av1 = Av1::new(packets.first().map_or(&[], Vec::as_slice));
            for (ordinal, packet) in (0_u32..).zip(&packets) {
                av1.classify(packet, false);
                let earlier = |&other: &u32| other < ordinal;
                prop_assert!(av1.references().unwrap_or_default().iter().all(earlier));
            }
        }
    }
}
