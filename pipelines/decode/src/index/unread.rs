//! Packets of remote files whose data were not read for the index, because the container's tables say enough to choose
//! frames. What they mean to each other is read before they are decoded: the runs that hold wanted frames, and no others.

use std::{collections::HashSet, sync::Arc};

use ffmpeg_next::codec::packet::Packet;
use reelsight_media::CancelFlag;

use super::{PacketIndex, facts::Facts, pass};
use crate::{
    classify::{Class, Entry},
    cursor::Cursor,
    error::DecodeError,
    input::Input,
    limits::DecodeLimits,
    plan::DecodePlan,
};

/// Packets at the beginning that are read in any case: what leads the first key frame decides what is shown.
pub(super) const FIRST_PACKETS: usize = 32;

/// What the container alone says about a packet. The packet's own flag is no help: a parser that saw no data set it.
pub(super) fn class(packet: &Packet, key_positions: &HashSet<i64>) -> Class {
    let position = i64::try_from(packet.position()).unwrap_or(-1);
    Class {
        entry: if key_positions.contains(&position) {
            Entry::Open
        } else {
            Entry::None
        },
        unread: true,
        ..Class::default()
    }
}

/// The index with everything known that the plan for `frames` rests on.
///
/// # Cancellation
/// Checked at every packet.
pub(crate) fn complete(
    input: &Input,
    index: Arc<PacketIndex>,
    frames: &[u64],
    limits: &DecodeLimits,
    cancel: &CancelFlag,
) -> Result<Arc<PacketIndex>, DecodeError> {
    if !index.packets.iter().any(|packet| packet.class.unread) {
        return Ok(index);
    }
    let mut known = (*index).clone();
    let mut cursor = Cursor::open(
        input.try_clone().map_err(crate::source::error_from_io)?,
        index,
        limits,
        cancel,
    )?;
    let seed = Facts::read(cursor.demuxer())?.classify;
    // A key frame may turn out to be none to begin with: then the plan begins earlier, and more is read.
    loop {
        let plan = DecodePlan::new(&known, frames.to_vec(), 1);
        let is_unread = |ordinal: &u32| known.packets[*ordinal as usize].class.unread;
        let runs = plan
            .intervals
            .iter()
            .map(|interval| interval.start..interval.end());
        let Some(run) = runs
            .into_iter()
            .find(|run| run.clone().any(|ordinal| is_unread(&ordinal)))
        else {
            return Ok(Arc::new(known));
        };
        let mut classifier = seed.grow();
        cursor.go_to(run.start)?;
        while let Some((ordinal, packet)) = cursor.next()? {
            if ordinal >= run.end {
                cursor.hold(ordinal, packet);
                break;
            }
            if ordinal >= run.start {
                let mut class = classifier.classify(packet.data().unwrap_or_default(), packet.is_key());
                class.hidden |= pass::is_never_shown(&packet);
                known.packets[ordinal as usize].class = class;
            }
        }
        // What could not be read again stays as the container describes it.
        for ordinal in run {
            known.packets[ordinal as usize].class.unread = false;
        }
    }
}
