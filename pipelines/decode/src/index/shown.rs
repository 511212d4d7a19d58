//! Which packets become frames that a player shows, in which order and when. Pure.

use reelsight_media::Timeline;

use super::{PacketRecord, facts::Facts, pass::Pass};
use crate::{classify::Entry, error::DecodeError};

/// The packets that become shown frames, in presentation order.
///
/// A decoder that begins at the first packet shows nothing before the first place where decoding may begin, and
/// nothing that leads such a place without the references before it.
pub(super) fn order(packets: &[PacketRecord]) -> Vec<u32> {
    let first_entry = packets
        .iter()
        .position(|packet| packet.class.entry != Entry::None)
        .unwrap_or(0);
    // Leading pictures of this entry have no references: the entry's own time.
    let mut unled: Option<i64> = None;
    let mut order = Vec::with_capacity(packets.len());
    let mut recovering = match packets.get(first_entry).map(|packet| packet.class.entry) {
        Some(Entry::Gradual(frames)) => frames,
        _ => 0,
    };
    for (at, packet) in packets.iter().enumerate().skip(first_entry) {
        let class = packet.class;
        if class.entry != Entry::None {
            unled = (at == first_entry || class.broken_link).then_some(packet.pts);
        }
        let recovered = recovering == 0;
        if !recovered && !class.disposable && !class.second_field {
            recovering -= 1;
        }
        let leads = unled.is_some_and(|entry| packet.pts < entry && class.entry == Entry::None);
        let undecodable = leads && class.is_undecodable_leading();
        if recovered && !undecodable && !class.hidden && !class.second_field {
            order.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
    }
    order.sort_by_key(|&ordinal| packets[ordinal as usize].pts);
    order
}

/// The timeline of `order`, and what its zero is on the stream's clock.
#[expect(
    clippy::cast_possible_truncation,
    reason = "seconds of a media file in units of its own time base"
)]
pub(super) fn timeline(pass: &Pass, order: &[u32], facts: &Facts) -> Result<(Timeline, i64), DecodeError> {
    let units_per_sec = f64::from(facts.base.den()) / f64::from(facts.base.num());
    let offset = (facts.start_secs * units_per_sec).round() as i64;
    let pts: Vec<i64> = order
        .iter()
        .map(|&ordinal| pass.packets[ordinal as usize].pts.saturating_sub(offset))
        .collect();
    let last = order
        .last()
        .map_or(0, |&ordinal| pass.durations[ordinal as usize]);
    let last = if last > 0 { last } else { facts.frame_units };
    let end = pts.last().map_or(0, |pts| pts.saturating_add(last));
    let timeline = Timeline::new(facts.base, pts, end).map_err(|error| DecodeError::Corrupt {
        detail: format!("its video track holds no picture that can be shown: {error}"),
    })?;
    Ok((timeline, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{classify::Class, index::PacketKey};

    fn packet(pts: i64, class: Class) -> PacketRecord {
        PacketRecord {
            key: PacketKey {
                position: pts,
                pts: Some(pts),
                size: 1,
            },
            pts,
            seek: Some(pts),
            class,
        }
    }

    fn entry(entry: Entry) -> Class {
        Class {
            entry,
            ..Class::default()
        }
    }

    #[test]
    fn shows_in_presentation_order() {
        let none = Class::default();
        let packets = [
            packet(0, entry(Entry::Clean)),
            packet(3, none),
            packet(1, none),
            packet(2, none),
        ];
        assert_eq!(order(&packets), [0, 2, 3, 1]);
    }

    #[test]
    fn hides_what_cannot_be_decoded_at_the_start() {
        let none = Class::default();
        let packets = [
            packet(0, none),
            packet(1, none),
            packet(5, entry(Entry::Open)),
            packet(3, none),
            packet(6, none),
        ];
        assert_eq!(
            order(&packets),
            [2, 4],
            "nothing before the entry, and no picture that leads it"
        );
    }

    #[test]
    fn hides_leading_pictures_of_broken_links_only() {
        let rasl = Class {
            skipped_leading: true,
            ..Class::default()
        };
        let broken = Class {
            broken_link: true,
            ..entry(Entry::Open)
        };
        let packets = |middle| {
            [
                packet(0, entry(Entry::Clean)),
                packet(5, middle),
                packet(3, rasl),
                packet(6, rasl),
            ]
        };
        assert_eq!(order(&packets(entry(Entry::Open))), [0, 2, 1, 3]);
        assert_eq!(order(&packets(broken)), [0, 1, 3]);
    }

    #[test]
    fn hides_pictures_until_a_gradual_refresh_is_complete() {
        let none = Class::default();
        let packets = [
            packet(0, entry(Entry::Gradual(2))),
            packet(1, none),
            packet(2, none),
            packet(3, none),
        ];
        assert_eq!(order(&packets), [2, 3]);
    }

    #[test]
    fn hidden_packets_and_second_fields_are_no_frames() {
        let hidden = Class {
            hidden: true,
            ..Class::default()
        };
        let second = Class {
            second_field: true,
            ..Class::default()
        };
        let packets = [
            packet(0, entry(Entry::Clean)),
            packet(1, hidden),
            packet(0, second),
            packet(2, Class::default()),
        ];
        assert_eq!(order(&packets), [0, 3]);
    }
}
