use proptest::prelude::*;

use super::*;
use crate::{classify::Class, index::PacketKey};

/// A packet of a made-up stream, with the packets that it refers to.
#[derive(Debug, Clone)]
struct Made {
    record: PacketRecord,
    references: Vec<usize>,
}

fn record(pts: i64, class: Class) -> PacketRecord {
    PacketRecord {
        key: PacketKey {
            position: pts,
            pts: Some(pts),
            size: 100,
        },
        pts,
        seek: Some(pts),
        class,
    }
}

fn stream_of(packets: &[PacketRecord]) -> Stream<'_> {
    Stream {
        packets,
        references: None,
    }
}

fn order(packets: &[PacketRecord]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..)
        .zip(packets)
        .filter(|(_, p)| !p.class.second_field)
        .map(|(at, _)| at)
        .collect();
    order.sort_by_key(|&at| packets[at as usize].pts);
    order
}

/// GOPs of P-frames with disposable B-frames before each, closed or open. In an open GOP the B-frames that lead the
/// entry refer to the last reference of the GOP before it.
fn stream(gops: &[(usize, usize, bool)]) -> Vec<Made> {
    let mut out: Vec<Made> = Vec::new();
    let (mut time, mut last_reference) = (0, None);
    for &(references, between, open) in gops {
        for number in 0..references {
            let opens = number == 0;
            let entry = match (opens, open && last_reference.is_some()) {
                (true, true) => Entry::Open,
                (true, false) => Entry::Clean,
                _ => Entry::None,
            };
            let leads = !opens || entry == Entry::Open;
            let count = if leads { between } else { 0 };
            let pts = time + i64::try_from(count).unwrap();
            let before = last_reference.filter(|_| !opens);
            let this = out.len();
            out.push(Made {
                record: record(
                    pts,
                    Class {
                        entry,
                        ..Class::default()
                    },
                ),
                references: before.into_iter().collect(),
            });
            for _ in 0..count {
                let class = Class {
                    disposable: true,
                    ..Class::default()
                };
                let references = last_reference.into_iter().chain([this]).collect();
                out.push(Made {
                    record: record(time, class),
                    references,
                });
                time += 1;
            }
            time += 1;
            last_reference = Some(this);
        }
    }
    out
}

proptest! {
    #[test]
    fn every_wanted_frame_comes_once_with_all_that_it_refers_to(
        gops in proptest::collection::vec((1_usize..6, 0_usize..4, any::<bool>()), 1..8),
        choice in proptest::collection::vec(any::<bool>(), 0..200),
        workers in 1_usize..5,
    ) {
        let made = stream(&gops);
        let packets: Vec<_> = made.iter().map(|made| made.record).collect();
        let order = order(&packets);
        let frames: Vec<u64> =
            (0..order.len() as u64).zip(&choice).filter(|(_, wanted)| **wanted).map(|(at, _)| at).collect();
        let plan = DecodePlan::for_stream(stream_of(&packets), &order, frames.clone(), workers);
        let got: Vec<u64> = plan.intervals.iter().flat_map(|i| &i.wanted).map(|wanted| wanted.frame).collect();
        prop_assert_eq!(got, frames);
        for interval in &plan.intervals {
            let kept = |at: usize| {
                at.checked_sub(interval.start as usize).is_some_and(|at| interval.keep.get(at) == Some(&true))
            };
            let mut needed: Vec<usize> = interval.wanted.iter().map(|wanted| wanted.packet as usize).collect();
            while let Some(at) = needed.pop() {
                prop_assert!(kept(at), "packet {} is needed", at);
                needed.extend(&made[at].references);
            }
            let wanted = |at: usize| interval.wanted.iter().any(|wanted| wanted.packet as usize == at);
            for (at, packet) in packets.iter().enumerate() {
                prop_assert!(!(kept(at) && packet.class.disposable && !wanted(at)), "packet {} is not needed", at);
            }
        }
    }
}

#[test]
fn a_leading_picture_is_decoded_from_the_entry_before() {
    let made = stream(&[(2, 2, false), (2, 2, true)]);
    let packets: Vec<_> = made.iter().map(|made| made.record).collect();
    let entry = packets
        .iter()
        .position(|packet| packet.class.entry == Entry::Open)
        .unwrap();
    let leading = u32::try_from(entry + 1).unwrap();
    let order = order(&packets);
    let frame = order.iter().position(|&packet| packet == leading).unwrap() as u64;
    assert_eq!(
        DecodePlan::for_stream(stream_of(&packets), &order, vec![frame], 1).intervals[0].start,
        0
    );
    let trailing = order.len() as u64 - 1;
    let plan = DecodePlan::for_stream(stream_of(&packets), &order, vec![trailing], 1);
    assert_eq!(plan.intervals[0].start as usize, entry);
}

#[test]
fn higher_layers_are_dropped_and_lower_ones_kept() {
    let layered = |layer, disposable| Class {
        disposable,
        layer,
        ..Class::default()
    };
    let packets = [
        record(
            0,
            Class {
                entry: Entry::Clean,
                ..Class::default()
            },
        ),
        record(4, layered(0, false)),
        record(2, layered(1, true)),
        record(1, layered(2, true)),
        record(3, layered(2, true)),
    ];
    let keep = |wanted: u64| {
        DecodePlan::for_stream(stream_of(&packets), &order(&packets), vec![wanted], 1).intervals[0]
            .keep
            .clone()
    };
    // A disposable picture of a lower layer may be what a higher one refers to.
    assert_eq!(keep(3), [true, true, true, false, true]);
    assert_eq!(keep(4), [true, true]);
    assert_eq!(keep(2), [true, true, true]);
}

#[test]
fn both_fields_or_none() {
    let field = |second_field| Class {
        disposable: true,
        second_field,
        ..Class::default()
    };
    let packets = [
        record(
            0,
            Class {
                entry: Entry::Clean,
                ..Class::default()
            },
        ),
        record(1, field(false)),
        record(1, field(true)),
        record(2, field(false)),
        record(2, field(true)),
    ];
    let plan = DecodePlan::for_stream(stream_of(&packets), &order(&packets), vec![2], 1);
    assert_eq!(plan.intervals[0].keep, [true, false, false, true, true]);
}

#[test]
fn a_retry_begins_one_entry_earlier_and_drops_nothing() {
    let made = stream(&[(2, 1, false), (2, 1, false), (2, 1, false)]);
    let packets: Vec<_> = made.iter().map(|made| made.record).collect();
    let order = order(&packets);
    let plan = DecodePlan::for_stream(stream_of(&packets), &order, vec![order.len() as u64 - 1], 1);
    let entries: Vec<_> = packets
        .iter()
        .enumerate()
        .filter(|(_, p)| p.class.entry != Entry::None)
        .collect();
    assert_eq!(plan.intervals[0].start as usize, entries[2].0);
    let retry = DecodePlan::retry(&packets, &plan.intervals[0]);
    assert_eq!(retry.start as usize, entries[1].0);
    assert!(retry.keep.iter().all(|keep| *keep));
    assert_eq!(retry.end(), plan.intervals[0].end());
    assert_eq!(
        DecodePlan::retry(&packets, &DecodePlan::retry(&packets, &retry)).start,
        0
    );
}

#[test]
fn known_references_are_followed_and_nothing_else_is_kept() {
    let entry = Class {
        entry: Entry::Clean,
        ..Class::default()
    };
    let packets: Vec<_> = (0..6)
        .map(|at| record(at, if at == 0 { entry } else { Class::default() }))
        .collect();
    let mut references = References::default();
    for list in [&[][..], &[0], &[1], &[0], &[3, 0], &[4]] {
        references.push(list);
    }
    let stream = Stream {
        packets: &packets,
        references: Some(&references),
    };
    let keep = |wanted| {
        DecodePlan::for_stream(stream, &order(&packets), vec![wanted], 1).intervals[0]
            .keep
            .clone()
    };
    assert_eq!(keep(5), [true, false, false, true, true, true]);
    assert_eq!(keep(2), [true, true, true]);
}

#[test]
fn a_complete_refresh_is_a_place_to_begin_and_one_with_reordered_pictures_is_not() {
    let entry = |entry| Class {
        entry,
        ..Class::default()
    };
    let stream = |times: [i64; 8]| -> Vec<_> {
        let class = |at| match at {
            0 => entry(Entry::Clean),
            3 => entry(Entry::Gradual(2)),
            _ => Class::default(),
        };
        times
            .into_iter()
            .enumerate()
            .map(|(at, pts)| record(pts, class(at)))
            .collect()
    };
    let starts = |packets: &[PacketRecord]| {
        let order = order(packets);
        let start =
            |frame| DecodePlan::for_stream(stream_of(packets), &order, vec![frame], 1).intervals[0].start;
        [4, 5, 7].map(start)
    };
    assert_eq!(
        starts(&stream([0, 1, 2, 3, 4, 5, 6, 7])),
        [0, 3, 3],
        "before, with and after the last of two"
    );
    assert_eq!(starts(&stream([0, 1, 2, 3, 6, 5, 4, 7])), [0, 0, 0]);
}
