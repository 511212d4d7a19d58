//! A [`PacketIndex`] as bytes, for caches on disk and for other processes.
//!
//! ```text
//! "RSIX" | version u32 LE | crc32c of the rest u32 LE | header | packets | order | references
//! ```
//! The header is postcard of what is small; the columns are postcard's variable-length integers of differences to what
//! is likely, which makes about 12 bytes a packet. The bytes may come from a process that cannot be trusted, so that
//! everything that the rest of the crate relies on is checked again, and no length is believed: memory grows with the
//! bytes that are really there.

use reelsight_media::{TimeBase, Timeline};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Lookup, MediaInfo, MediaWarning, Orientation, PacketIndex, PacketKey, PacketRecord};
use crate::{
    classify::{Class, Entry},
    references::References,
};

/// Changes whenever the layout or the meaning of an index changes, so that nobody reads an old one.
pub const INDEX_VERSION: u32 = 1;

const MAGIC: [u8; 4] = *b"RSIX";
/// Magic, version and checksum.
const PREFIX_BYTES: usize = 12;

/// Why bytes are not an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodedIndexError {
    /// They never were one.
    #[error("these bytes are no packet index: index the video again")]
    NotAnIndex,
    /// Another version of this program wrote them.
    #[error(
        "the packet index has version {found} and this program reads {INDEX_VERSION}: index the video again"
    )]
    Version {
        /// The version in the bytes.
        found: u32,
    },
    /// They were changed or cut off.
    #[error("the packet index is damaged ({what}): index the video again")]
    Damaged {
        /// What was seen.
        what: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    info: MediaInfo,
    warnings: Vec<MediaWarning>,
    orientation: Orientation,
    base: (u32, u32),
    end: i64,
    pts_offset: i64,
    packets: u32,
    frames: u32,
    has_references: bool,
}

impl PacketIndex {
    /// The index as bytes; [`PacketIndex::from_bytes`] gives it back.
    ///
    /// # Errors
    /// None that can be met; serialising into memory is fallible in form only.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodedIndexError> {
        // Every field is named, so that a new one cannot be forgotten here.
        let Self {
            info,
            timeline,
            pts_offset,
            warnings,
            packets,
            order,
            references,
            orientation,
            lookup: _,
        } = self;
        let header = Header {
            info: info.clone(),
            warnings: warnings.clone(),
            orientation: *orientation,
            base: (timeline.base().num(), timeline.base().den()),
            end: timeline.end(),
            pts_offset: *pts_offset,
            packets: count(packets.len())?,
            frames: count(order.len())?,
            has_references: references.is_some(),
        };
        let mut writer = Writer(vec![0; PREFIX_BYTES]);
        writer.put(&header)?;
        writer.packets(packets)?;
        writer.order(self)?;
        if let Some(references) = references {
            writer.references(references, packets.len())?;
        }
        Ok(writer.seal())
    }

    /// Reads what [`PacketIndex::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`EncodedIndexError`], whatever the bytes are. Memory is bounded by a small multiple of their length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EncodedIndexError> {
        let mut reader = Reader(unsealed(bytes)?);
        let header: Header = reader.take()?;
        let packets = reader.packets(header.packets)?;
        let (order, pts) = reader.order(header.frames, &packets, header.pts_offset)?;
        let references = header.has_references.then(|| reader.references(packets.len()));
        let references = references.transpose()?;
        if !reader.0.is_empty() {
            return Err(damaged("more bytes than expected"));
        }
        let base = TimeBase::new(header.base.0, header.base.1).ok_or(damaged("no time base"))?;
        let timeline =
            Timeline::new(base, pts, header.end).map_err(|_unordered| damaged("times out of order"))?;
        if header.info.frame_count != timeline.len() as u64 {
            return Err(damaged("another number of frames"));
        }
        let lookup = Lookup::new(&packets);
        Ok(Self {
            info: header.info,
            timeline,
            pts_offset: header.pts_offset,
            warnings: header.warnings,
            packets,
            order,
            references,
            orientation: header.orientation,
            lookup,
        })
    }
}

fn damaged(what: &'static str) -> EncodedIndexError {
    EncodedIndexError::Damaged { what }
}

fn count(len: usize) -> Result<u32, EncodedIndexError> {
    u32::try_from(len).map_err(|_large| damaged("too many packets"))
}

/// The part that the checksum covers, after the checks of what comes before it.
fn unsealed(bytes: &[u8]) -> Result<&[u8], EncodedIndexError> {
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|word| <[u8; 4]>::try_from(word).ok())
    };
    if word(0) != Some(MAGIC) {
        return Err(EncodedIndexError::NotAnIndex);
    }
    let found = word(4).map(u32::from_le_bytes).ok_or(damaged("cut off"))?;
    if found != INDEX_VERSION {
        return Err(EncodedIndexError::Version { found });
    }
    let sum = word(8).map(u32::from_le_bytes).ok_or(damaged("cut off"))?;
    let payload = &bytes[PREFIX_BYTES..];
    if crc32c::crc32c(payload) != sum {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(payload)
}

/// The bits of a packet's first number.
mod bits {
    pub(super) const ENTRY: u16 = 0b11;
    pub(super) const DISPOSABLE: u16 = 1 << 2;
    pub(super) const HIDDEN: u16 = 1 << 3;
    pub(super) const DECODABLE_LEADING: u16 = 1 << 4;
    /// A temporal layer or a gradual entry's length follows.
    pub(super) const DETAIL: u16 = 1 << 5;
    /// The key's time is missing or not the picture's.
    pub(super) const ODD_KEY: u16 = 1 << 6;
    pub(super) const SKIPPED_LEADING: u16 = 1 << 7;
    pub(super) const BROKEN_LINK: u16 = 1 << 8;
    pub(super) const SECOND_FIELD: u16 = 1 << 9;
    pub(super) const NO_SEEK: u16 = 1 << 10;
    pub(super) const UNREAD: u16 = 1 << 11;
    pub(super) const ALL: u16 = (1 << 12) - 1;
}

/// The bits that a class makes, and its detail.
fn bits_from_class(class: Class) -> (u16, u64) {
    let Class {
        entry,
        disposable,
        layer,
        hidden,
        skipped_leading,
        decodable_leading,
        broken_link,
        second_field,
        unread,
    } = class;
    let (kind, recovery) = match entry {
        Entry::None => (0, 0),
        Entry::Clean => (1, 0),
        Entry::Open => (2, 0),
        Entry::Gradual(frames) => (3, frames),
    };
    let detail = u64::from(recovery) << 8 | u64::from(layer);
    let flags = [
        (disposable, bits::DISPOSABLE),
        (hidden, bits::HIDDEN),
        (skipped_leading, bits::SKIPPED_LEADING),
        (decodable_leading, bits::DECODABLE_LEADING),
        (broken_link, bits::BROKEN_LINK),
        (second_field, bits::SECOND_FIELD),
        (unread, bits::UNREAD),
        (detail != 0, bits::DETAIL),
    ];
    let set = flags.into_iter().filter(|(set, _)| *set);
    (set.fold(kind, |bits, (_, bit)| bits | bit), detail)
}

fn class_from_bits(packed: u16, detail: u64) -> Result<Class, EncodedIndexError> {
    let has = |bit| packed & bit != 0;
    let recovery = u32::try_from(detail >> 8).map_err(|_large| damaged("an entry too long"))?;
    let entry = match packed & bits::ENTRY {
        0 => Entry::None,
        1 => Entry::Clean,
        2 => Entry::Open,
        _ => Entry::Gradual(recovery),
    };
    Ok(Class {
        entry,
        disposable: has(bits::DISPOSABLE),
        layer: detail.to_le_bytes()[0],
        hidden: has(bits::HIDDEN),
        skipped_leading: has(bits::SKIPPED_LEADING),
        decodable_leading: has(bits::DECODABLE_LEADING),
        broken_link: has(bits::BROKEN_LINK),
        second_field: has(bits::SECOND_FIELD),
        unread: has(bits::UNREAD),
    })
}

/// What the next packet most likely looks like.
#[derive(Default)]
struct Guess {
    position: i64,
    pts: i64,
}

impl Guess {
    fn after(packet: &PacketRecord) -> Self {
        Self {
            position: packet.key.position.wrapping_add(i64::from(packet.key.size)),
            pts: packet.pts,
        }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn put<T: Serialize>(&mut self, value: &T) -> Result<(), EncodedIndexError> {
        let bytes = std::mem::take(&mut self.0);
        self.0 = postcard::to_extend(value, bytes).map_err(|_unserialisable| damaged("cannot be written"))?;
        Ok(())
    }

    fn packets(&mut self, packets: &[PacketRecord]) -> Result<(), EncodedIndexError> {
        let mut guess = Guess::default();
        for packet in packets {
            let PacketRecord {
                key,
                pts,
                seek,
                class,
            } = *packet;
            let (mut packed, detail) = bits_from_class(class);
            let odd_key = key.pts != Some(pts);
            packed |= if odd_key { bits::ODD_KEY } else { 0 };
            packed |= if seek.is_none() { bits::NO_SEEK } else { 0 };
            self.put(&packed)?;
            if detail != 0 {
                self.put(&detail)?;
            }
            self.put(&key.position.wrapping_sub(guess.position))?;
            self.put(&key.size)?;
            self.put(&pts.wrapping_sub(guess.pts))?;
            if odd_key {
                self.put(&key.pts)?;
            }
            if let Some(seek) = seek {
                self.put(&pts.wrapping_sub(seek))?;
            }
            guess = Guess::after(packet);
        }
        Ok(())
    }

    fn order(&mut self, index: &PacketIndex) -> Result<(), EncodedIndexError> {
        let mut expected = 0;
        for (&ordinal, &pts) in index.order.iter().zip(index.timeline.all_pts()) {
            self.put(&(i64::from(ordinal) - expected))?;
            let likely = index.packets[ordinal as usize].pts.wrapping_sub(index.pts_offset);
            self.put(&pts.wrapping_sub(likely))?;
            expected = i64::from(ordinal) + 1;
        }
        Ok(())
    }

    fn references(&mut self, references: &References, packets: usize) -> Result<(), EncodedIndexError> {
        for packet in 0..packets {
            let of = references.of(packet);
            self.put(&count(of.len())?)?;
            for &reference in of {
                self.put(&(packet as u64).wrapping_sub(u64::from(reference)))?;
            }
        }
        Ok(())
    }

    fn seal(mut self) -> Vec<u8> {
        let sum = crc32c::crc32c(&self.0[PREFIX_BYTES..]);
        let words = [MAGIC, INDEX_VERSION.to_le_bytes(), sum.to_le_bytes()];
        self.0[..PREFIX_BYTES].copy_from_slice(words.as_flattened());
        self.0
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<T: DeserializeOwned>(&mut self) -> Result<T, EncodedIndexError> {
        let (value, rest) =
            postcard::take_from_bytes(self.0).map_err(|_malformed| damaged("cut off or malformed"))?;
        self.0 = rest;
        Ok(value)
    }

    /// A list's room, when each entry takes at least `least` bytes: a count that cannot be true reserves nothing.
    fn room<T>(&self, count: u32, least: usize) -> Result<Vec<T>, EncodedIndexError> {
        let fits = (count as usize)
            .checked_mul(least)
            .is_some_and(|bytes| bytes <= self.0.len());
        if fits {
            Ok(Vec::with_capacity(count as usize))
        } else {
            Err(damaged("cut off"))
        }
    }

    fn packets(&mut self, count: u32) -> Result<Vec<PacketRecord>, EncodedIndexError> {
        let mut packets = self.room(count, 4)?;
        let mut guess = Guess::default();
        for _ in 0..count {
            let flags: u16 = self.take()?;
            if flags & !bits::ALL != 0 {
                return Err(damaged("unknown bits"));
            }
            let has = |bit| flags & bit != 0;
            let detail = if has(bits::DETAIL) { self.take()? } else { 0 };
            let position = guess.position.wrapping_add(self.take()?);
            let size = self.take()?;
            let pts = guess.pts.wrapping_add(self.take()?);
            let key_pts = if has(bits::ODD_KEY) {
                self.take()?
            } else {
                Some(pts)
            };
            let seek = if has(bits::NO_SEEK) {
                None
            } else {
                Some(pts.wrapping_sub(self.take()?))
            };
            let packet = PacketRecord {
                key: PacketKey {
                    position,
                    pts: key_pts,
                    size,
                },
                pts,
                seek,
                class: class_from_bits(flags, detail)?,
            };
            guess = Guess::after(&packet);
            packets.push(packet);
        }
        Ok(packets)
    }

    /// The packets of the frames, and the frames' times.
    fn order(
        &mut self,
        frames: u32,
        packets: &[PacketRecord],
        offset: i64,
    ) -> Result<(Vec<u32>, Vec<i64>), EncodedIndexError> {
        let (mut order, mut times) = (self.room(frames, 2)?, self.room(frames, 2)?);
        let mut seen = vec![false; packets.len()];
        let mut expected = 0;
        for _ in 0..frames {
            let ordinal = self.take::<i64>()?.wrapping_add(expected);
            let ordinal = u32::try_from(ordinal).map_err(|_outside| damaged("a frame without a packet"))?;
            let Some(packet) = packets.get(ordinal as usize) else {
                return Err(damaged("a frame without a packet"));
            };
            if std::mem::replace(&mut seen[ordinal as usize], true) {
                return Err(damaged("one packet shown twice"));
            }
            order.push(ordinal);
            times.push(self.take::<i64>()?.wrapping_add(packet.pts.wrapping_sub(offset)));
            expected = i64::from(ordinal) + 1;
        }
        Ok((order, times))
    }

    fn references(&mut self, packets: usize) -> Result<References, EncodedIndexError> {
        let mut references = References::default();
        let mut of = Vec::new();
        for packet in 0..packets as u64 {
            of.clear();
            for _ in 0..self.take::<u32>()? {
                let back: u64 = self.take()?;
                let reference = packet.checked_sub(back).filter(|_| back > 0);
                let reference = reference.and_then(|reference| u32::try_from(reference).ok());
                of.push(reference.ok_or(damaged("a reference to what comes later"))?);
            }
            references.push(&of);
        }
        Ok(references)
    }
}

#[cfg(test)]
mod tests;
