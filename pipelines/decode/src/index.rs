//! What a file holds, known from its packets before anything is decoded.

mod details;
mod encoded;
mod facts;
mod pass;
mod shown;
mod tables;
mod unread;

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use ffmpeg_next::codec::packet::Packet;
use reelsight_media::{CancelFlag, Timeline};
use serde::{Deserialize, Serialize};

use crate::{
    classify::Class, demux::Demuxer, error::DecodeError, executor, input::Input, limits::DecodeLimits,
    references::References,
};

pub use details::{TrackInfo, VideoDetails};
pub use encoded::{EncodedIndexError, INDEX_VERSION};
pub(crate) use facts::Orientation;
use pass::Pass;
pub(crate) use unread::complete;

/// What a file says about itself and its video.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MediaInfo {
    /// FFmpeg's short name of the container, for example `mov,mp4,m4a,3gp,3g2,mj2`.
    pub container: String,
    /// FFmpeg's name of the video codec, for example `h264`.
    pub video_codec: String,
    /// FFmpeg's name of the first audio track's codec.
    pub audio_codec: Option<String>,
    /// Pixels per row as shown, after rotation.
    pub width: u32,
    /// Rows as shown, after rotation.
    pub height: u32,
    /// Clockwise turn that shows the stored picture upright: 0, 90, 180 or 270.
    pub rotation_degrees: u32,
    /// Average frames per second.
    pub fps: f64,
    /// Seconds from the first frame to the end of the last.
    pub duration_secs: f64,
    /// Frames a player would show.
    pub frame_count: u64,
    /// When recording began, from the container's tags.
    pub start_time: Option<SystemTime>,
    /// What the header says about the video track.
    pub video: VideoDetails,
    /// Every track of the file.
    pub tracks: Vec<TrackInfo>,
}

/// Something about the file that is worth telling and did not stop the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaWarning {
    /// Stable `UPPER_SNAKE_CASE` reason, for example `MEDIA_TRUNCATED`.
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: String,
}

/// The result of one demux pass: every video packet and the timeline that they make.
#[derive(Debug, Clone, PartialEq)]
pub struct PacketIndex {
    /// What the file says about itself.
    pub info: MediaInfo,
    /// Presentation times of all frames; 0 is where a player shows t = 0.
    pub timeline: Timeline,
    /// Stream time stamp = timeline time stamp + this.
    pub pts_offset: i64,
    /// What is odd about the file.
    pub warnings: Vec<MediaWarning>,
    /// Every video packet, in decoding order.
    pub(crate) packets: Vec<PacketRecord>,
    /// For each frame of the timeline, the packet that it comes from.
    pub(crate) order: Vec<u32>,
    /// Which packets refer to which, where the codec says.
    pub(crate) references: Option<References>,
    /// How the stored picture is turned upright.
    pub(crate) orientation: Orientation,
    /// Finds a packet again after a jump.
    pub(crate) lookup: Lookup,
}

/// One video packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PacketRecord {
    /// What identifies it when it is read again.
    pub(crate) key: PacketKey,
    /// When its picture is shown, in stream units.
    pub(crate) pts: i64,
    /// Where a seek must aim to find it, in stream units.
    pub(crate) seek: Option<i64>,
    /// What it means to the others.
    pub(crate) class: Class,
}

/// What the container says about a packet; almost always unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PacketKey {
    pub(crate) position: i64,
    pub(crate) pts: Option<i64>,
    pub(crate) size: u32,
}

impl PacketKey {
    /// The key of a packet as it was read.
    pub(crate) fn of(packet: &Packet) -> Self {
        let position = i64::try_from(packet.position()).unwrap_or(-1);
        Self {
            position,
            pts: packet.pts(),
            size: u32::try_from(packet.size()).unwrap_or(u32::MAX),
        }
    }

    /// Whether it says more than a size.
    fn identifies(self) -> bool {
        self.position >= 0 || self.pts.is_some()
    }
}

/// Packets by what identifies them: four bytes a packet, as there may be millions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lookup(Vec<u32>);

impl Lookup {
    fn new(packets: &[PacketRecord]) -> Self {
        let mut ordinals: Vec<u32> = (0..)
            .zip(packets)
            .filter(|(_, packet)| packet.key.identifies())
            .map(|(ordinal, _)| ordinal)
            .collect();
        ordinals.sort_unstable_by_key(|&ordinal| packets[ordinal as usize].key);
        Self(ordinals)
    }

    /// The one packet with this key; `None` when there is none or several look alike.
    pub(crate) fn find(&self, packets: &[PacketRecord], key: PacketKey) -> Option<u32> {
        let key_of = |ordinal: u32| packets[ordinal as usize].key;
        let first = self.0.partition_point(|&ordinal| key_of(ordinal) < key);
        let mut alike = self.0[first..]
            .iter()
            .copied()
            .take_while(|&ordinal| key_of(ordinal) == key);
        alike.next().filter(|_| alike.next().is_none())
    }
}

/// Reads every packet of `input` once and says what is there; of remote files that describe their packets in tables,
/// the packets' data are not read. Nothing is decoded, except in the rare streams whose
/// packets carry no presentation times (bare H.264, AVI with B-frames): their frame order is known to a decoder alone.
///
/// # Errors
/// Every [`DecodeError`] that concerns the source; limits are checked while reading.
///
/// # Cancellation
/// Checked at every read and packet.
pub fn index(
    input: &Input,
    limits: &DecodeLimits,
    cancel: &CancelFlag,
) -> Result<Arc<PacketIndex>, DecodeError> {
    let mut demuxer = Demuxer::open(input, limits, cancel)?;
    let facts = facts::Facts::read(&demuxer)?;
    let read_data = if is_described(input, cancel)? {
        unread::FIRST_PACKETS
    } else {
        usize::MAX
    };
    let mut pass = Pass::run(&mut demuxer, &facts, limits, read_data)?;
    drop(demuxer);
    if pass.packets.is_empty() {
        let detail = "its video track holds no picture that can be read".to_owned();
        return Err(DecodeError::Corrupt { detail });
    }
    let decoded = if pass.lacks_times() {
        Some(executor::shown_order(input, limits, cancel)?)
    } else {
        None
    };
    let order = match decoded {
        Some(order) => pass.take_order(order, &facts),
        None => shown::order(&pass.packets),
    };
    let index = assemble(pass, order, facts)?;
    if index.info.duration_secs > limits.max_duration_secs {
        let [limit, actual] = [limits.max_duration_secs, index.info.duration_secs].map(whole_secs);
        return Err(DecodeError::TooLong {
            unit: "seconds",
            limit,
            actual,
        });
    }
    Ok(Arc::new(index))
}

/// Whether reading the data of all packets is costly and can be avoided.
fn is_described(input: &Input, cancel: &CancelFlag) -> Result<bool, DecodeError> {
    match input {
        Input::Bytes(bytes) if bytes.is_remote() => {
            tables::are_complete(&**bytes, cancel).map_err(crate::source::error_from_io)
        }
        _ => Ok(false),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "for a message; saturates"
)]
fn whole_secs(secs: f64) -> u64 {
    secs.ceil() as u64
}

fn assemble(pass: Pass, order: Vec<u32>, facts: facts::Facts) -> Result<PacketIndex, DecodeError> {
    let (timeline, pts_offset) = shown::timeline(&pass, &order, &facts)?;
    let mut warnings = pass.warnings(&facts);
    warnings.extend(facts.warnings);
    let lookup = Lookup::new(&pass.packets);
    let info = MediaInfo {
        fps: timeline.average_fps(),
        duration_secs: timeline.duration_secs(),
        frame_count: timeline.len() as u64,
        ..facts.info
    };
    let Pass {
        packets, references, ..
    } = pass;
    Ok(PacketIndex {
        info,
        timeline,
        pts_offset,
        warnings,
        packets,
        order,
        references,
        orientation: facts.orientation,
        lookup,
    })
}
