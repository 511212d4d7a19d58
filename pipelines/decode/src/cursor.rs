//! Walks the packets of the video track by their number in the index, jumping where that is cheaper than reading.

use std::sync::Arc;

use ffmpeg_next::codec::packet::Packet;
use reelsight_media::CancelFlag;

use crate::{
    demux::{Demuxer, Read},
    error::DecodeError,
    index::{PacketIndex, PacketKey},
    input::Input,
    limits::DecodeLimits,
};

/// A jump over fewer bytes than this costs more than reading them.
const MIN_JUMP_BYTES: u64 = 256 << 10;

/// A position in the video track.
pub(crate) struct Cursor {
    input: Input,
    limits: DecodeLimits,
    cancel: CancelFlag,
    index: Arc<PacketIndex>,
    demuxer: Demuxer,
    /// The packet that comes next when packets come in order.
    expected: Option<u32>,
    /// A packet that was read and not taken.
    held: Option<(u32, Packet)>,
    /// Jumps made.
    pub(crate) seeks: u64,
    /// Packets read.
    pub(crate) packets: u64,
}

impl Cursor {
    /// A position before the first packet.
    pub(crate) fn open(
        input: Input,
        index: Arc<PacketIndex>,
        limits: &DecodeLimits,
        cancel: &CancelFlag,
    ) -> Result<Self, DecodeError> {
        let mut demuxer = Demuxer::open(&input, limits, cancel)?;
        demuxer.video_only();
        let (limits, cancel) = (limits.clone(), cancel.clone());
        Ok(Self {
            input,
            limits,
            cancel,
            index,
            demuxer,
            expected: Some(0),
            held: None,
            seeks: 0,
            packets: 0,
        })
    }

    /// The container underneath.
    pub(crate) fn demuxer(&self) -> &Demuxer {
        &self.demuxer
    }

    /// Moves so that packet `target` comes no later than the next few packets.
    pub(crate) fn go_to(&mut self, target: u32) -> Result<(), DecodeError> {
        let at = self.held.as_ref().map(|(ordinal, _)| *ordinal).or(self.expected);
        if at.is_some_and(|at| at <= target && self.bytes_between(at, target) < MIN_JUMP_BYTES) {
            return Ok(());
        }
        if let Some(timestamp) = self.index.packets[target as usize].seek
            && target > 0
        {
            self.seeks += 1;
            (self.held, self.expected) = (None, None);
            if self.demuxer.seek(timestamp) {
                self.held = self.next()?;
                if self.held.as_ref().is_some_and(|(ordinal, _)| *ordinal <= target) {
                    return Ok(());
                }
            }
        }
        self.rewind()
    }

    /// The next packet that the index knows, with its number; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Packet)>, DecodeError> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        loop {
            let mut packet = Packet::empty();
            match self.demuxer.read(&mut packet)? {
                Read::End => return Ok(None),
                Read::Packet if packet.stream() == self.demuxer.stream_index() => {
                    self.packets += 1;
                    if let Some(ordinal) = self.locate(&packet) {
                        self.expected = Some(ordinal + 1);
                        return Ok(Some((ordinal, packet)));
                    }
                }
                Read::Packet | Read::Damaged => {}
            }
        }
    }

    /// Gives back a packet that was not needed yet.
    pub(crate) fn hold(&mut self, ordinal: u32, packet: Packet) {
        self.held = Some((ordinal, packet));
    }

    fn locate(&self, packet: &Packet) -> Option<u32> {
        let key = PacketKey::of(packet);
        let expected = self.expected.filter(|&ordinal| {
            self.index
                .packets
                .get(ordinal as usize)
                .is_some_and(|record| record.key == key)
        });
        expected.or_else(|| self.index.lookup.find(&self.index.packets, key))
    }

    fn bytes_between(&self, from: u32, to: u32) -> u64 {
        self.index.packets[from as usize..to as usize]
            .iter()
            .map(|packet| u64::from(packet.key.size))
            .sum()
    }

    /// Opens the file afresh: reading in order from its start always works.
    fn rewind(&mut self) -> Result<(), DecodeError> {
        self.demuxer = Demuxer::open(&self.input, &self.limits, &self.cancel)?;
        self.demuxer.video_only();
        (self.held, self.expected) = (None, Some(0));
        Ok(())
    }
}
