//! How a video track is built, for people who look into it. Pure: read from the index.

use crate::{
    classify::{Class, Entry},
    index::{PacketIndex, PacketRecord},
};

/// What a packet is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// Decoding may begin here, and nothing after it refers to anything before it.
    Keyframe,
    /// The same, except for pictures that are decoded after it and shown before it.
    OpenKeyframe,
    /// A refresh begins here that takes several pictures.
    Refresh,
    /// Other packets may refer to it.
    Reference,
    /// No other packet refers to it, or only packets of higher temporal layers.
    Droppable,
}

/// One packet of the video track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketFacts {
    /// When its picture is shown, in units of the timeline.
    pub pts: i64,
    /// Bytes of the packet.
    pub bytes: u32,
    /// What it is to the others.
    pub kind: PacketKind,
    /// Temporal sub-layer.
    pub layer: u8,
    /// Whether it holds a picture that a player shows, or the second field of one.
    pub shown: bool,
}

/// Smallest, middle and largest of some counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// Smallest.
    pub min: u64,
    /// The lower one of the two middle values, when there are two.
    pub median: u64,
    /// Largest.
    pub max: u64,
}

impl Spread {
    /// Of `values`; all 0 when there are none.
    #[must_use]
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        match (values.first(), values.last()) {
            (Some(&min), Some(&max)) => {
                let median = values[(values.len() - 1) / 2];
                Self { min, median, max }
            }
            _ => Self::default(),
        }
    }
}

/// Groups of pictures and references, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamStructure {
    /// Packets of the video track.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets at which decoding may begin, pictures that lead them left aside.
    pub keyframes: u64,
    /// Those of them after which nothing refers to anything before.
    pub clean_keyframes: u64,
    /// Starts of a refresh that takes several pictures.
    pub refreshes: u64,
    /// Key frames with pictures that are decoded after them and shown before them, and that refer across them.
    pub open_gops: u64,
    /// Packets from one key frame to the next.
    pub gop_packets: Spread,
    /// Packets that no other packet refers to.
    pub droppable: u64,
    /// Their bytes.
    pub droppable_bytes: u64,
    /// Packets without a picture that is ever shown.
    pub hidden: u64,
    /// Packets in each temporal sub-layer, the base first.
    pub layers: Vec<u64>,
    /// Whether every packet's references are known, so that any packet outside their closure can be left out.
    pub references_known: bool,
    /// Whether all frames are equally long, within the rounding of time stamps.
    pub constant_rate: bool,
    /// Time from one frame to the next, in units of the timeline.
    pub frame_units: Spread,
}

impl PacketIndex {
    /// The packets of the video track, in decoding order.
    pub fn packets(&self) -> impl Iterator<Item = PacketFacts> + '_ {
        self.packets.iter().map(|packet| PacketFacts {
            pts: packet.pts.saturating_sub(self.pts_offset),
            bytes: packet.key.size,
            kind: kind(packet.class),
            layer: packet.class.layer,
            shown: !packet.class.hidden,
        })
    }

    /// The frames of the timeline at which decoding may begin, as the codec's own headers say.
    #[must_use]
    pub fn keyframes(&self) -> Vec<u64> {
        let is_key = |&packet: &u32| is_keyframe(self.packets[packet as usize].class);
        (0..)
            .zip(&self.order)
            .filter(|(_, packet)| is_key(packet))
            .map(|(frame, _)| frame)
            .collect()
    }

    /// The packet, in decoding order, that frame `frame` comes from.
    #[must_use]
    pub fn packet_of(&self, frame: u64) -> Option<u32> {
        self.order.get(usize::try_from(frame).ok()?).copied()
    }

    /// Groups of pictures and references, counted.
    #[must_use]
    pub fn structure(&self) -> StreamStructure {
        let bytes = |packet: &PacketRecord| u64::from(packet.key.size);
        let of_kind = |wanted: PacketKind| {
            let alike = move |packet: &&PacketRecord| kind(packet.class) == wanted;
            self.packets.iter().filter(alike)
        };
        let count = |wanted| of_kind(wanted).count() as u64;
        let mut layers = Vec::new();
        for packet in &self.packets {
            let layer = usize::from(packet.class.layer);
            layers.resize(layers.len().max(layer + 1), 0);
            layers[layer] += 1;
        }
        let clean_keyframes = count(PacketKind::Keyframe);
        let pts = self.timeline.all_pts();
        let gaps = pts.windows(2).map(|pair| pair[1].abs_diff(pair[0]));
        StreamStructure {
            packets: self.packets.len() as u64,
            bytes: self.packets.iter().map(bytes).sum(),
            keyframes: clean_keyframes + count(PacketKind::OpenKeyframe),
            clean_keyframes,
            refreshes: count(PacketKind::Refresh),
            open_gops: open_gops(&self.packets),
            gop_packets: Spread::of(gop_packets(&self.packets)),
            droppable: self
                .packets
                .iter()
                .filter(|packet| packet.class.disposable)
                .count() as u64,
            droppable_bytes: self
                .packets
                .iter()
                .filter(|packet| packet.class.disposable)
                .map(bytes)
                .sum(),
            hidden: self.packets.iter().filter(|packet| packet.class.hidden).count() as u64,
            layers,
            references_known: self.references.is_some(),
            constant_rate: is_even(pts),
            frame_units: Spread::of(gaps.collect()),
        }
    }
}

pub(crate) fn is_keyframe(class: Class) -> bool {
    matches!(class.entry, Entry::Clean | Entry::Open)
}

fn kind(class: Class) -> PacketKind {
    match class.entry {
        Entry::Clean => PacketKind::Keyframe,
        Entry::Open => PacketKind::OpenKeyframe,
        Entry::Gradual(_) => PacketKind::Refresh,
        Entry::None if class.disposable => PacketKind::Droppable,
        Entry::None => PacketKind::Reference,
    }
}

/// Packets from each key frame to the next; the last group ends with the track.
fn gop_packets(packets: &[PacketRecord]) -> Vec<u64> {
    let mut groups: Vec<u64> = Vec::new();
    for packet in packets.iter().filter(|packet| !packet.class.second_field) {
        if is_keyframe(packet.class) {
            groups.push(0);
        }
        if let Some(group) = groups.last_mut() {
            *group += 1;
        }
    }
    groups
}

/// Key frames that pictures lead which refer to what came before.
fn open_gops(packets: &[PacketRecord]) -> u64 {
    let mut open = 0;
    let mut entry: Option<i64> = None;
    for packet in packets {
        let class = packet.class;
        if is_keyframe(class) {
            entry = (class.entry == Entry::Open).then_some(packet.pts);
        } else if entry.is_some_and(|entry| packet.pts < entry) && class.is_undecodable_leading() {
            open += 1;
            entry = None;
        }
    }
    open
}

/// Whether the time stamps are those of evenly spaced frames, each rounded to a whole unit.
fn is_even(pts: &[i64]) -> bool {
    let (Some(&first), Some(&last)) = (pts.first(), pts.last()) else {
        return true;
    };
    let step = (last - first) as f64 / (pts.len().max(2) - 1) as f64;
    let ideal = |at: usize| first as f64 + step * at as f64;
    pts.iter()
        .enumerate()
        .all(|(at, &pts)| (pts as f64 - ideal(at)).abs() <= 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::PacketKey;

    fn packet(pts: i64, entry: Entry) -> PacketRecord {
        let key = PacketKey {
            position: pts,
            pts: Some(pts),
            size: 1,
        };
        let class = Class {
            entry,
            ..Class::default()
        };
        PacketRecord {
            key,
            pts,
            seek: None,
            class,
        }
    }

    #[test]
    fn groups_run_from_key_frame_to_key_frame() {
        let packets = [
            packet(0, Entry::Clean),
            packet(2, Entry::None),
            packet(1, Entry::None),
            packet(5, Entry::Open),
            packet(4, Entry::None),
            packet(3, Entry::None),
            packet(6, Entry::None),
            packet(7, Entry::Open),
        ];
        assert_eq!(gop_packets(&packets), [3, 4, 1]);
        assert_eq!(open_gops(&packets), 1, "nothing leads the last one");
    }

    #[test]
    fn spreads_and_rates() {
        assert_eq!(
            Spread::of(vec![9, 1, 5, 3]),
            Spread {
                min: 1,
                median: 3,
                max: 9
            }
        );
        assert_eq!(Spread::of(Vec::new()), Spread::default());
        assert!(is_even(&[0, 33, 67, 100, 133]), "thirds of a tenth, rounded");
        assert!(!is_even(&[0, 33, 67, 100, 200]));
        assert!(is_even(&[7]));
    }
}
