use std::{borrow::Cow, time::SystemTime};

use proptest::prelude::*;

use super::*;
use crate::plan::DecodePlan;

fn info(frames: u64) -> MediaInfo {
    let video = crate::index::VideoDetails {
        track: 1,
        profile: Some("High".into()),
        level: Some(31),
        pixel_format: None,
        stored_size: (1920, 1080),
        pixel_aspect: (4, 3),
        field_order: Some(Cow::Borrowed("tt")),
        color_range: None,
        color_space: Some("bt709".into()),
        color_transfer: None,
        color_primaries: None,
        bit_rate: Some(u64::MAX),
    };
    MediaInfo {
        container: "mov,mp4,m4a,3gp,3g2,mj2".into(),
        video_codec: "h264".into(),
        audio_codec: None,
        width: 1080,
        height: 1920,
        rotation_degrees: 90,
        fps: 29.97,
        duration_secs: 0.1,
        frame_count: frames,
        start_time: Some(SystemTime::UNIX_EPOCH),
        video,
        tracks: Vec::new(),
    }
}

/// An index over `packets`, all of which are shown in the order of their times.
fn assemble(packets: Vec<PacketRecord>, references: Option<References>, pts_offset: i64) -> PacketIndex {
    let mut order: Vec<u32> = (0..u32::try_from(packets.len()).unwrap()).collect();
    order.sort_by_key(|&at| packets[at as usize].pts);
    let pts: Vec<i64> = order
        .iter()
        .map(|&at| packets[at as usize].pts - pts_offset)
        .collect();
    let end = pts.last().unwrap() + 1;
    PacketIndex {
        info: info(pts.len() as u64),
        timeline: Timeline::new(TimeBase::new(1, 12_800).unwrap(), pts, end).unwrap(),
        pts_offset,
        warnings: vec![MediaWarning {
            reason: "MEDIA_TRUNCATED".into(),
            message: "cut".into(),
        }],
        lookup: Lookup::new(&packets),
        packets,
        order,
        references,
        orientation: Orientation {
            transpose: true,
            ..Orientation::default()
        },
    }
}

fn class() -> impl Strategy<Value = Class> {
    let entry = prop_oneof![
        6 => Just(Entry::None),
        2 => Just(Entry::Clean),
        1 => Just(Entry::Open),
        1 => any::<u32>().prop_map(Entry::Gradual)
    ];
    (entry, any::<[bool; 7]>(), any::<u8>()).prop_map(|(entry, flags, layer)| {
        let [
            disposable,
            hidden,
            skipped_leading,
            decodable_leading,
            broken_link,
            second_field,
            unread,
        ] = flags;
        Class {
            entry,
            disposable,
            layer,
            hidden,
            skipped_leading,
            decodable_leading,
            broken_link,
            second_field,
            unread,
        }
    })
}

fn packet() -> impl Strategy<Value = PacketRecord> {
    let time = -1_000_000_000_000..1_000_000_000_000_i64;
    let key_pts = prop_oneof![Just(None), any::<i64>().prop_map(Some)];
    let parts = (
        any::<i64>(),
        any::<u32>(),
        time,
        any::<Option<i64>>(),
        class(),
        proptest::option::of(key_pts),
    );
    parts.prop_map(|(position, size, pts, seek, class, odd)| PacketRecord {
        key: PacketKey {
            position,
            pts: odd.unwrap_or(Some(pts)),
            size,
        },
        pts,
        seek,
        class,
    })
}

fn index() -> impl Strategy<Value = PacketIndex> {
    let packets = proptest::collection::vec(packet(), 1..40);
    (packets, any::<bool>(), any::<u64>(), -1000..1000_i64).prop_map(|(packets, refer, seed, offset)| {
        let references = refer.then(|| {
            let mut references = References::default();
            for packet in 0..u32::try_from(packets.len()).unwrap() {
                let of: Vec<u32> = (0..packet)
                    .filter(|at| seed >> (at % 64) & 1 == 1)
                    .take(7)
                    .collect();
                references.push(&of);
            }
            references
        });
        assemble(packets, references, offset)
    })
}

/// The same bytes with a checksum that fits, as a process that cannot be trusted would send them.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(bytes.get(PREFIX_BYTES..).unwrap_or_default());
    if let Some(at) = bytes.get_mut(8..PREFIX_BYTES) {
        at.copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

proptest! {
    #[test]
    fn comes_back_whole(index in index()) {
        let bytes = index.to_bytes().unwrap();
        prop_assert_eq!(PacketIndex::from_bytes(&bytes).unwrap(), index);
    }

    #[test]
    fn every_changed_byte_is_noticed(index in index(), at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        let mut bytes = index.to_bytes().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(PacketIndex::from_bytes(&bytes).is_err());
        let mut cut = index.to_bytes().unwrap();
        cut.truncate(at);
        prop_assert!(PacketIndex::from_bytes(&cut).is_err());
    }

    /// Whatever passes is safe to plan with.
    #[test]
    fn forged_bytes_harm_nobody(
        index in index(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let mut bytes = index.to_bytes().unwrap();
        for (at, value) in edits {
            let at = PREFIX_BYTES + at.index(bytes.len() - PREFIX_BYTES);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(PREFIX_BYTES + cut.index(bytes.len() - PREFIX_BYTES));
        }
        if let Ok(forged) = PacketIndex::from_bytes(&resealed(bytes)) {
            let frames = (0..forged.timeline.len() as u64).step_by(3).collect();
            let plan = DecodePlan::new(&forged, frames, 2);
            for interval in &plan.intervals {
                prop_assert!(interval.end() as usize <= forged.packets.len());
                DecodePlan::retry(&forged.packets, interval);
            }
            prop_assert!(forged.timeline.duration_secs().is_finite());
        }
    }

    #[test]
    fn noise_is_no_index(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = [&MAGIC[..], &INDEX_VERSION.to_le_bytes(), &[0; 4]].concat();
        bytes.extend(&noise);
        prop_assert!(PacketIndex::from_bytes(&noise).is_err());
        prop_assert!(PacketIndex::from_bytes(&resealed(bytes)).is_err());
    }
}

#[test]
fn counts_are_not_believed() {
    let index = assemble(vec![plain(0)], None, 0);
    let header = Header {
        info: index.info.clone(),
        warnings: Vec::new(),
        orientation: index.orientation,
        base: (1, 25),
        end: 1,
        pts_offset: 0,
        packets: u32::MAX,
        frames: u32::MAX,
        has_references: true,
    };
    let mut writer = Writer(vec![0; PREFIX_BYTES]);
    writer.put(&header).unwrap();
    writer.packets(&index.packets).unwrap();
    let error = PacketIndex::from_bytes(&writer.seal()).unwrap_err();
    assert_eq!(error, damaged("cut off"));
}

#[test]
fn versions_are_told_apart() {
    let mut bytes = assemble(vec![plain(0)], None, 0).to_bytes().unwrap();
    assert_eq!(
        PacketIndex::from_bytes(b"an index?"),
        Err(EncodedIndexError::NotAnIndex)
    );
    bytes[4] = 200;
    let error = PacketIndex::from_bytes(&bytes).unwrap_err();
    assert_eq!(error, EncodedIndexError::Version { found: 200 });
}

/// Packet `at` of a stream with two B-frames between references, beside a sound track.
fn plain(at: i64) -> PacketRecord {
    let pts = 512 * (at / 3 * 3 + [2, 0, 1][usize::try_from(at % 3).unwrap()]);
    PacketRecord {
        key: PacketKey {
            position: at * 9000 + at / 2 * 300,
            pts: Some(pts),
            size: 9000,
        },
        pts,
        seek: Some(512 * (at - 2)),
        class: Class {
            disposable: at % 3 != 0,
            ..Class::default()
        },
    }
}

/// Ten hours at 30 fps stay below 20 MB.
#[test]
fn takes_little_room() {
    let packets: Vec<_> = (0..30_000).map(plain).collect();
    let bytes = assemble(packets, None, 0).to_bytes().unwrap();
    assert!(
        bytes.len() < 30_000 * 18,
        "{} bytes a packet",
        bytes.len() / 30_000
    );
}
