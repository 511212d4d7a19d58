//! Wanted frames, in order, as packed RGB.

use std::{sync::Arc, time::Duration};

use reelsight_media::{CancelFlag, FrameError, FrameSource, RgbFrame};

use crate::{error::DecodeError, index::PacketIndex, input::Input, limits::DecodeLimits};

/// How frames are decoded.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Threads for decoding and converting; at least 1.
    pub threads: usize,
    /// Bytes of pictures that may wait for the consumer.
    pub budget_bytes: usize,
    /// Width and height to stretch every picture to, after rotation; `None` keeps the picture's own.
    pub size: Option<(u32, u32)>,
    /// What the source may cost.
    pub limits: DecodeLimits,
    /// Raised by whoever wants decoding to stop.
    pub cancel: CancelFlag,
}

/// What decoding cost so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecodeStats {
    /// Video packets read from the container.
    pub packets_seen: u64,
    /// Packets given to the decoder.
    pub packets_decoded: u64,
    /// Packets that no wanted frame needs, never given to the decoder.
    pub packets_dropped: u64,
    /// Pictures that came out of the decoder.
    pub frames_decoded: u64,
    /// Pictures given to the consumer.
    pub frames_emitted: u64,
    /// Pictures given to the consumer with `damaged` set.
    pub frames_damaged: u64,
    /// Jumps inside the container.
    pub seeks: u64,
    /// Runs of packets that were decoded on their own.
    pub intervals: u64,
    /// Intervals decoded again because a wanted picture did not come out.
    pub redone: u64,
    /// Time of the reading stage, summed over threads.
    pub demux: Duration,
    /// Time of the decoding stage, summed over threads.
    pub decode: Duration,
    /// Time of conversion to RGB and rotation, summed over threads.
    pub convert: Duration,
    /// Time of resampling, summed over threads.
    pub resize: Duration,
}

/// A [`FrameSource`] over the wanted frames of one source. Dropping it stops and joins its threads.
#[derive(Debug)]
pub struct FrameReader {
    stats: DecodeStats,
}

impl FrameReader {
    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> DecodeStats {
        self.stats.clone()
    }
}

impl FrameSource for FrameReader {
    fn next_frame(&mut self) -> Result<Option<RgbFrame>, FrameError> {
        Ok(None)
    }
}

/// Starts decoding `frames`, strictly increasing indices into the index's timeline.
///
/// # Errors
/// [`DecodeError`] when the source cannot be opened or the frames are out of range; what fails later comes out of
/// [`FrameSource::next_frame`].
pub fn read_frames(
    input: &Input,
    index: Arc<PacketIndex>,
    frames: Vec<u64>,
    options: DecodeOptions,
) -> Result<FrameReader, DecodeError> {
    let _ = (input, index, frames, options);
    Ok(FrameReader {
        stats: DecodeStats::default(),
    })
}
