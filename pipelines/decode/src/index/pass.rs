//! The demux pass.

use std::collections::HashSet;

use ff::{
    codec::packet::{Packet, Ref as _},
    ffi,
};
use ffmpeg_next as ff;

use super::{MediaWarning, PacketKey, PacketRecord, facts::Facts, unread};
use crate::{
    classify::Class,
    demux::{Demuxer, Read},
    error::DecodeError,
    limits::DecodeLimits,
    references::References,
};

/// A stream with at least this share of untimed pictures has no useful times at all.
const UNTIMED_SHARE: usize = 100;

/// Everything that the packets say.
pub(super) struct Pass {
    pub(super) packets: Vec<PacketRecord>,
    /// Duration of each packet, in stream units; 0 when unknown.
    pub(super) durations: Vec<i64>,
    /// Which packets refer to which, where the codec says for every packet.
    pub(super) references: Option<References>,
    /// Pictures without a presentation time.
    untimed: usize,
    /// Where the last readable packet of any track ends, in seconds on the container's clock.
    end_secs: f64,
    /// Something could not be read, or came incomplete.
    damaged: bool,
}

impl Pass {
    /// Reads all packets; the data of the first `read_data` ones only.
    pub(super) fn run(
        demuxer: &mut Demuxer,
        facts: &Facts,
        limits: &DecodeLimits,
        read_data: usize,
    ) -> Result<Self, DecodeError> {
        let mut pass = Self {
            packets: Vec::new(),
            durations: Vec::new(),
            references: Some(References::default()),
            untimed: 0,
            end_secs: 0.0,
            damaged: false,
        };
        let bases: Vec<f64> = demuxer
            .context()
            .streams()
            .map(|stream| f64::from(stream.time_base()))
            .collect();
        let mut classifier = facts.classify.grow();
        let key_positions = if read_data < usize::MAX {
            demuxer.key_positions()?
        } else {
            HashSet::new()
        };
        let mut packet = Packet::empty();
        loop {
            match demuxer.read(&mut packet)? {
                Read::End => break,
                Read::Damaged => {
                    pass.damaged = true;
                    continue;
                }
                Read::Packet => {}
            }
            let is_read = pass.packets.len() < read_data;
            pass.damaged |= is_read && packet.is_corrupt();
            if let (Some(base), Some(at)) = (bases.get(packet.stream()), packet.pts().or(packet.dts())) {
                pass.end_secs = pass
                    .end_secs
                    .max((at.saturating_add(packet.duration())) as f64 * base);
            }
            if packet.stream() == demuxer.stream_index() {
                if is_read {
                    let class = classifier.classify(packet.data().unwrap_or_default(), packet.is_key());
                    pass.push(&packet, class, facts.frame_units);
                    pass.refer(classifier.references());
                } else {
                    demuxer.leave_data();
                    pass.push(&packet, unread::class(&packet, &key_positions), facts.frame_units);
                    pass.refer(None);
                }
                if pass.packets.len() > limits.max_frames {
                    let [limit, actual] = [limits.max_frames as u64, pass.packets.len() as u64];
                    return Err(DecodeError::TooLong {
                        unit: "frames",
                        limit,
                        actual,
                    });
                }
            }
        }
        Ok(pass)
    }

    fn push(&mut self, packet: &Packet, mut class: Class, frame_units: i64) {
        class.hidden |= is_never_shown(packet);
        let previous = self
            .packets
            .last()
            .map_or(0, |last| last.pts.saturating_add(frame_units));
        if packet.pts().is_none() && !class.second_field {
            self.untimed += 1;
        }
        self.packets.push(PacketRecord {
            key: PacketKey::of(packet),
            pts: packet.pts().or(packet.dts()).unwrap_or(previous),
            seek: packet.dts().or(packet.pts()),
            class,
        });
        self.durations.push(packet.duration());
    }

    fn refer(&mut self, references: Option<&[u32]>) {
        match (&mut self.references, references) {
            (Some(known), Some(references)) => known.push(references),
            _ => self.references = None,
        }
    }

    /// Whether the order of frames must come from a decoder.
    pub(super) fn lacks_times(&self) -> bool {
        self.untimed * UNTIMED_SHARE > self.packets.len()
    }

    /// Takes the order in which a decoder showed the packets, and completes their times by it: pictures without one
    /// follow those before them at the usual pace.
    pub(super) fn take_order(&mut self, order: Vec<u32>, facts: &Facts) -> Vec<u32> {
        let timed = |ordinal: u32| self.packets[ordinal as usize].key.pts;
        let first = order.iter().position(|&ordinal| timed(ordinal).is_some());
        let mut next = match first {
            Some(first) => {
                let before = i64::try_from(first)
                    .unwrap_or(0)
                    .saturating_mul(facts.frame_units);
                timed(order[first]).map_or(0, |pts| pts.saturating_sub(before))
            }
            None => self
                .packets
                .iter()
                .filter_map(|packet| packet.seek)
                .min()
                .unwrap_or(0),
        };
        for &ordinal in &order {
            let packet = &mut self.packets[ordinal as usize];
            // Decoders show in order, so a time that falls back is wrong.
            packet.pts = packet
                .key
                .pts
                .map_or(next, |pts| pts.max(next.saturating_sub(facts.frame_units)));
            next = packet.pts.saturating_add(facts.frame_units);
        }
        order
    }

    /// What is odd about the file.
    pub(super) fn warnings(&self, facts: &Facts) -> Vec<MediaWarning> {
        let mut warnings = Vec::new();
        let ends_at = self.end_secs - facts.start_secs;
        let slack = (facts.base.secs(facts.frame_units) * 3.0).max(0.25);
        if let Some(declared) = facts.declared_secs.filter(|declared| ends_at + slack < *declared) {
            let message = format!("the file is cut off: it ends at {ends_at:.3} s of {declared:.3} s");
            warnings.push(MediaWarning {
                reason: "MEDIA_TRUNCATED".into(),
                message,
            });
        } else if self.damaged {
            let message = format!("parts of the file cannot be read; it ends at {ends_at:.3} s");
            warnings.push(MediaWarning {
                reason: "MEDIA_DAMAGED".into(),
                message,
            });
        }
        warnings
    }
}

/// Whether the packet is empty, or decoded and not shown by an edit list.
pub(super) fn is_never_shown(packet: &Packet) -> bool {
    is_discarded(packet) || packet.size() == 0
}

/// Whether an edit list says that the packet is decoded and not shown.
#[expect(unsafe_code, reason = "the safe layer does not know the flag")]
fn is_discarded(packet: &Packet) -> bool {
    // SAFETY: the pointer is valid while `packet` is borrowed; the field is a plain integer.
    unsafe { (*packet.as_ptr()).flags & ffi::AV_PKT_FLAG_DISCARD != 0 }
}
