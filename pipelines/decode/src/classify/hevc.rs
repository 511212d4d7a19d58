//! HEVC: random access points, leading pictures, and pictures that nothing refers to.

use super::{Class, Entry, framing};
use crate::bits::{self, Framing};

/// End of sequence: the next random access point begins anew.
const EOS: u8 = 36;
const EOB: u8 = 37;

/// State between packets.
pub(crate) struct Hevc {
    framing: Framing,
    after_end: bool,
}

impl Hevc {
    pub(super) fn new(extradata: &[u8]) -> Self {
        Self {
            framing: framing(extradata, 21),
            after_end: false,
        }
    }

    /// # Source
    /// ITU-T H.265, table 7-1: the types of NAL units.
    pub(super) fn classify(&mut self, data: &[u8]) -> Class {
        let mut class = Class {
            disposable: true,
            ..Class::default()
        };
        let mut pictures = 0;
        for unit in bits::units(data, self.framing) {
            let [first, second, ..] = *unit else { continue };
            let (kind, layer_id) = (first >> 1 & 0x3f, (first & 1) << 5 | second >> 3);
            if layer_id > 0 {
                continue;
            }
            match kind {
                0..=31 => {
                    pictures += 1;
                    class.layer = (second & 7).saturating_sub(1);
                    // Even types below 16 are sub-layer non-reference pictures.
                    class.disposable &= kind < 16 && kind % 2 == 0;
                    class.skipped_leading |= matches!(kind, 8 | 9);
                    class.decodable_leading |= matches!(kind, 6 | 7);
                    class.entry = match kind {
                        19 | 20 => Entry::Clean,
                        16..=18 | 21 => Entry::Open,
                        _ => class.entry,
                    };
                    class.broken_link |= matches!(kind, 16..=18) || (kind == 21 && self.after_end);
                }
                EOS | EOB => self.after_end = true,
                _ => {}
            }
        }
        if pictures == 0 {
            return Class::default();
        }
        if class.entry != Entry::None {
            let ends = bits::units(data, self.framing)
                .last()
                .map(|unit| unit[0] >> 1 & 0x3f);
            self.after_end = matches!(ends, Some(EOS | EOB));
        }
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kinds: &[u8]) -> Class {
        let data: Vec<u8> = kinds
            .iter()
            .flat_map(|kind| [0, 0, 1, kind << 1, 1, 0x80])
            .collect();
        Hevc::new(&[]).classify(&data)
    }

    #[test]
    fn tells_entries_leading_and_disposable_pictures() {
        assert_eq!(of(&[32, 33, 34, 19]).entry, Entry::Clean);
        assert_eq!(of(&[21]).entry, Entry::Open);
        assert!(of(&[16]).broken_link && !of(&[21]).broken_link);
        assert!(of(&[0]).disposable && of(&[8]).disposable);
        assert!(!of(&[1]).disposable && !of(&[19]).disposable && !of(&[22]).disposable);
        assert!(!of(&[0, 1]).disposable, "every slice must be non-reference");
        assert!(of(&[8]).skipped_leading && of(&[9]).skipped_leading && !of(&[6]).skipped_leading);
        assert!(!of(&[32]).disposable, "no picture: nothing is known");
    }

    #[test]
    fn a_cra_after_the_end_of_a_sequence_breaks_the_link() {
        let mut hevc = Hevc::new(&[]);
        let packet = |kinds: &[u8]| -> Vec<u8> {
            kinds
                .iter()
                .flat_map(|kind| [0, 0, 1, kind << 1, 1, 0x80])
                .collect()
        };
        assert!(!hevc.classify(&packet(&[21])).broken_link);
        hevc.classify(&packet(&[1, EOS]));
        assert!(hevc.classify(&packet(&[21])).broken_link);
        assert!(!hevc.classify(&packet(&[21])).broken_link);
    }
}
