//! From what decode and the store know to the contract's messages.

use std::time::UNIX_EPOCH;

use prost::Message as _;
use reelsight_decode::PacketIndex;
use reelsight_proto::{
    time::{duration_from_secs, timestamp_from_millis},
    v1,
};
use reelsight_store::MediaRow;

/// What a file says about itself.
#[must_use]
pub fn media_info_from_index(index: &PacketIndex) -> v1::MediaInfo {
    let info = &index.info;
    let start_time = info.start_time.and_then(|time| {
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        Some(timestamp_from_millis(i64::try_from(since.as_millis()).ok()?))
    });
    v1::MediaInfo {
        container: info.container.clone(),
        video_codec: info.video_codec.clone(),
        audio_codec: info.audio_codec.clone().unwrap_or_default(),
        width: info.width,
        height: info.height,
        fps: info.fps,
        duration: Some(duration_from_secs(info.duration_secs)),
        start_time,
        frame_count: info.frame_count,
    }
}

/// The public form of a stored media file.
#[must_use]
pub fn media_from_row(row: MediaRow) -> v1::Media {
    v1::Media {
        name: format!("media/{}", row.id),
        display_name: row.display_name,
        size_bytes: row.size,
        sha256: row.sha256,
        info: v1::MediaInfo::decode(row.info.as_slice()).ok(),
        create_time: Some(timestamp_from_millis(row.created_ms)),
        expire_time: Some(timestamp_from_millis(row.expires_ms)),
    }
}
