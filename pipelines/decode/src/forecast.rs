//! What decoding some frames will take, known before anything is decoded. Pure.

use crate::{index::PacketIndex, plan::DecodePlan, structure::is_keyframe};

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It is given to the decoder.
    Decoded,
    /// No other packet refers to it, and it is not wanted itself.
    NonReference,
    /// Others refer to it, but none that a wanted frame builds on.
    OutsideClosure,
    /// It follows the last wanted frame of its group of pictures.
    AfterLastWanted,
    /// No wanted frame in its group of pictures.
    OutsideIntervals,
}

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 5] = [
        Self::Decoded,
        Self::NonReference,
        Self::OutsideClosure,
        Self::AfterLastWanted,
        Self::OutsideIntervals,
    ];
}

/// What decoding some frames will take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// For each packet of the track, in decoding order, what happens to it.
    pub fates: Vec<Fate>,
    /// Runs of packets that are decoded on their own.
    pub intervals: u64,
    /// Bytes of the packets that are decoded.
    pub decoded_bytes: u64,
}

impl Forecast {
    /// Packets with that fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> u64 {
        self.fates.iter().filter(|&&other| other == fate).count() as u64
    }
}

impl PacketIndex {
    /// What decoding `frames`, increasing indices into the timeline, with `threads` will take.
    #[must_use]
    pub fn forecast(&self, frames: &[u64], threads: usize) -> Forecast {
        let plan = DecodePlan::new(self, frames.to_vec(), threads);
        let mut fates = vec![Fate::OutsideIntervals; self.packets.len()];
        for interval in &plan.intervals {
            let start = interval.start as usize;
            for (at, keep) in (start..).zip(&interval.keep) {
                if *keep {
                    fates[at] = Fate::Decoded;
                } else if fates[at] != Fate::Decoded {
                    fates[at] = if self.packets[at].class.disposable {
                        Fate::NonReference
                    } else {
                        Fate::OutsideClosure
                    };
                }
            }
            let end = interval.end() as usize;
            let rest = self.packets[end..].iter().zip(&mut fates[end..]);
            for (packet, fate) in rest {
                if *fate != Fate::OutsideIntervals || is_keyframe(packet.class) {
                    break;
                }
                *fate = Fate::AfterLastWanted;
            }
        }
        let decoded_bytes = self
            .packets
            .iter()
            .zip(&fates)
            .filter(|(_, fate)| **fate == Fate::Decoded)
            .map(|(packet, _)| u64::from(packet.key.size))
            .sum();
        Forecast {
            fates,
            intervals: plan.intervals.len() as u64,
            decoded_bytes,
        }
    }
}
