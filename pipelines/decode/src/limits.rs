//! What an untrusted source may cost.

use std::time::Duration;

/// Bounds that are checked before and while a source is read. `Default` suits files that people upload.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeLimits {
    /// Size of the file. Default 64 GiB.
    pub max_bytes: u64,
    /// Length of the presentation. Default 24 hours.
    pub max_duration_secs: f64,
    /// Pixels per row, as stored. Default 16384.
    pub max_width: u32,
    /// Rows, as stored. Default 16384.
    pub max_height: u32,
    /// Pixels per picture, as stored. Default 64 million (8K has 33 million).
    pub max_pixels: u64,
    /// Tracks of any kind. Default 64.
    pub max_tracks: usize,
    /// Video frames that the index may hold. Default 6 million (24 hours at 69 fps).
    pub max_frames: usize,
    /// Memory of a decode worker beyond what it starts with; the frames that wait for the consumer are not in it.
    /// Default 4 GiB. Enforced by `reelsight-worker`.
    pub max_memory_bytes: u64,
    /// Time that a consumer may wait for one index, or for all frames of one request. Default 1 hour. Enforced by
    /// `reelsight-worker`.
    pub max_wall: Duration,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 30,
            max_duration_secs: 24.0 * 3600.0,
            max_width: 16_384,
            max_height: 16_384,
            max_pixels: 64_000_000,
            max_tracks: 64,
            max_frames: 6_000_000,
            max_memory_bytes: 4 << 30,
            max_wall: Duration::from_hours(1),
        }
    }
}
