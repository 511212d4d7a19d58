//! Which packets must be decoded to get the wanted frames. Pure.

mod cost;

use crate::{
    classify::Entry,
    index::{PacketIndex, PacketRecord},
    references::References,
};

/// Intervals are joined while each worker still gets at least so many.
const SHARES_PER_WORKER: u64 = 4;

/// Work that decodes every wanted frame and little else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodePlan {
    /// In presentation order of their frames; together they hold every wanted frame once.
    pub(crate) intervals: Vec<Interval>,
}

/// A run of packets that is decoded on its own, from a place where decoding may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interval {
    /// First packet.
    pub(crate) start: u32,
    /// For each packet from `start` on, whether it is decoded.
    pub(crate) keep: Vec<bool>,
    /// The frames to deliver, in presentation order.
    pub(crate) wanted: Vec<Wanted>,
    /// Bytes of the packets that are decoded.
    pub(crate) cost: u64,
}

/// A frame to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Index into the timeline.
    pub(crate) frame: u64,
    /// The packet that it comes from.
    pub(crate) packet: u32,
}

impl Interval {
    /// The packet after the last.
    pub(crate) fn end(&self) -> u32 {
        self.start + u32::try_from(self.keep.len()).unwrap_or(u32::MAX)
    }
}

impl DecodePlan {
    /// A plan for `frames`, increasing indices into the timeline, to be carried out by `workers`.
    pub(crate) fn new(index: &PacketIndex, frames: Vec<u64>, workers: usize) -> Self {
        let stream = Stream {
            packets: &index.packets,
            references: index.references.as_ref(),
        };
        Self::for_stream(stream, &index.order, frames, workers)
    }

    fn for_stream(stream: Stream<'_>, order: &[u32], frames: Vec<u64>, workers: usize) -> Self {
        let entries = Entries::new(stream.packets);
        let wanted = frames.into_iter().filter_map(|frame| {
            let packet = *order.get(usize::try_from(frame).ok()?)?;
            Some(Wanted { frame, packet })
        });
        let mut groups: Vec<(u32, Vec<Wanted>)> = Vec::new();
        for wanted in wanted {
            let start = entries.before(wanted.packet);
            // Where times jump back, a frame may need what lies before several groups.
            let mut group = Vec::new();
            while let Some((_, mut before)) = groups.pop_if(|(last, _)| start <= *last) {
                before.append(&mut group);
                group = before;
            }
            group.push(wanted);
            groups.push((start, group));
        }
        let intervals: Vec<_> = groups
            .into_iter()
            .map(|(start, wanted)| interval(stream, start, wanted))
            .collect();
        Self {
            intervals: joined(stream, intervals, workers),
        }
    }

    /// The same frames once more, with nothing dropped and from one entry earlier.
    pub(crate) fn retry(packets: &[PacketRecord], interval: &Interval) -> Interval {
        let start = match interval.start.checked_sub(1) {
            Some(before) => Entries::new(packets).before(before),
            None => 0,
        };
        let keep = vec![true; (interval.end() - start) as usize];
        let cost = packets[start as usize..interval.end() as usize]
            .iter()
            .map(bytes)
            .sum();
        Interval {
            start,
            keep,
            wanted: interval.wanted.clone(),
            cost,
        }
    }
}

/// The packets of a stream and what is known of their references.
#[derive(Debug, Clone, Copy)]
struct Stream<'a> {
    packets: &'a [PacketRecord],
    references: Option<&'a References>,
}

/// Places where decoding may begin.
struct Entries<'a> {
    packets: &'a [PacketRecord],
    at: Vec<Place>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Place {
    packet: u32,
    /// Of a gradual refresh: the packet with which it is complete.
    complete: u32,
}

impl<'a> Entries<'a> {
    fn new(packets: &'a [PacketRecord]) -> Self {
        let mut at = Vec::new();
        let mut refreshes = None;
        for (packet, record) in (0..).zip(packets) {
            let complete = match record.class.entry {
                Entry::None => None,
                Entry::Clean | Entry::Open => Some(packet),
                Entry::Gradual(frames) => refreshes
                    .get_or_insert_with(|| Refreshes::new(packets))
                    .complete(packet, frames),
            };
            at.extend(complete.map(|complete| Place { packet, complete }));
        }
        Self { packets, at }
    }

    /// The latest packet from which `packet` can be decoded exactly; the first, when there is none before it.
    fn before(&self, packet: u32) -> u32 {
        let candidates = self.at.partition_point(|place| place.packet <= packet);
        let serving = self.at[..candidates]
            .iter()
            .rev()
            .find(|&&place| self.serves(place, packet));
        serving.map_or(0, |place| place.packet)
    }

    fn serves(&self, place: Place, packet: u32) -> bool {
        let record = |ordinal: u32| &self.packets[ordinal as usize];
        let (complete, target) = (record(place.complete), record(packet));
        let follows = packet >= place.complete && target.pts >= complete.pts;
        match record(place.packet).class.entry {
            Entry::Gradual(_) => follows,
            Entry::Clean => true,
            _ => follows || place.packet == packet || target.class.decodable_leading,
        }
    }
}

/// What tells when a gradual refresh is complete.
struct Refreshes {
    /// Packets of reference pictures.
    references: Vec<u32>,
    /// Packets that are shown before the packet before them.
    reordered: Vec<u32>,
}

impl Refreshes {
    fn new(packets: &[PacketRecord]) -> Self {
        let is_reference = |packet: &PacketRecord| !packet.class.disposable && !packet.class.second_field;
        let references = (0..).zip(packets).filter(|(_, packet)| is_reference(packet));
        let reordered = (1..)
            .zip(packets.windows(2))
            .filter(|(_, pair)| pair[1].pts < pair[0].pts);
        Self {
            references: references.map(|(ordinal, _)| ordinal).collect(),
            reordered: reordered.map(|(ordinal, _)| ordinal).collect(),
        }
    }

    /// The packet with which a refresh that begins at `start` and takes so many reference pictures is complete. `None`
    /// where pictures are reordered on the way: x264 promises an exact refresh there, too, and lets B-pictures look at
    /// what is not refreshed yet.
    fn complete(&self, start: u32, frames: u32) -> Option<u32> {
        let after = |ordinals: &[u32]| ordinals.partition_point(|&ordinal| ordinal <= start);
        let last = after(&self.references).checked_add(frames.checked_sub(1)? as usize)?;
        let complete = *self.references.get(last)?;
        let in_order = self
            .reordered
            .get(after(&self.reordered))
            .is_none_or(|&reordered| reordered > complete);
        in_order.then_some(complete)
    }
}

fn bytes(packet: &PacketRecord) -> u64 {
    u64::from(packet.key.size)
}

/// The interval from `start` that yields `wanted`: packets that no wanted frame refers to are left out.
fn interval(stream: Stream<'_>, start: u32, wanted: Vec<Wanted>) -> Interval {
    let packets = stream.packets;
    let last = wanted.iter().map(|wanted| wanted.packet).max().unwrap_or(start) as usize;
    let paired = packets.get(last + 1).is_some_and(|next| next.class.second_field);
    let run = &packets[start as usize..=last + usize::from(paired)];
    let mut keep = vec![false; run.len()];
    for wanted in &wanted {
        keep[(wanted.packet - start) as usize] = true;
    }
    if let Some(references) = stream.references {
        keep_referred(&mut keep, start as usize, references);
    } else {
        let top = wanted
            .iter()
            .map(|wanted| packets[wanted.packet as usize].class.layer)
            .max();
        keep_possibly_referred(&mut keep, run, top.unwrap_or(0));
    }
    let cost = run
        .iter()
        .zip(&keep)
        .filter(|(_, keep)| **keep)
        .map(|(packet, _)| bytes(packet))
        .sum();
    Interval {
        start,
        keep,
        wanted,
        cost,
    }
}

/// Keeps what the kept packets refer to, directly or not.
fn keep_referred(keep: &mut [bool], start: usize, references: &References) {
    // References point backwards: whoever is kept was marked before its turn comes.
    for at in (0..keep.len()).rev() {
        if keep[at] {
            let inside = references
                .of(start + at)
                .iter()
                .filter_map(|&other| (other as usize).checked_sub(start));
            inside.for_each(|other| keep[other] = true);
        }
    }
}

/// Keeps everything but packets to which no other packet refers; `top` is the highest layer of a wanted frame.
///
/// # Source
/// The temporal nesting of H.265 (pictures refer to their own and lower sub-layers only) and `nal_ref_idc` of H.264.
fn keep_possibly_referred(keep: &mut [bool], run: &[PacketRecord], top: u8) {
    for (keep, PacketRecord { class, .. }) in keep.iter_mut().zip(run) {
        *keep |= class.layer < top || (class.layer == top && !class.disposable);
    }
    for second in 1..run.len() {
        if run[second].class.second_field {
            // Both fields of a picture, or neither.
            let both = keep[second - 1] || keep[second];
            (keep[second - 1], keep[second]) = (both, both);
        }
    }
}

/// Joins neighbours without a gap while there is enough work for everyone: fewer flushes and jumps.
fn joined(stream: Stream<'_>, intervals: Vec<Interval>, workers: usize) -> Vec<Interval> {
    let total: u64 = intervals.iter().map(|interval| interval.cost).sum();
    let share = total / (workers.max(1) as u64 * SHARES_PER_WORKER);
    let mut out: Vec<Interval> = Vec::with_capacity(intervals.len());
    for next in intervals {
        match out.last_mut() {
            Some(last) if next.start <= last.end() && last.cost + next.cost <= share => {
                let mut wanted = std::mem::take(&mut last.wanted);
                wanted.extend(next.wanted);
                *last = interval(stream, last.start, wanted);
            }
            _ => out.push(next),
        }
    }
    out
}

#[cfg(test)]
mod tests;
