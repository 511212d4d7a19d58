//! One decoded picture.

use bytes::Bytes;

use crate::{channel::Weighted, time::MediaTime};

/// A picture as shown to people and models: packed RGB, rotated upright, with its exact time.
///
/// # Shapes
/// `data`: `[height, width, 3]` u8, rows without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbFrame {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// RGB bytes, `width * height * 3` of them. Cloning is cheap.
    pub data: Bytes,
    /// Position among all frames of the video, in presentation order.
    pub index: u64,
    /// When it is shown; 0 is where a player starts.
    pub time: MediaTime,
    /// The decoder reported an error in this picture or in one that it depends on.
    pub damaged: bool,
}

impl Weighted for RgbFrame {
    fn weight(&self) -> usize {
        self.data.len()
    }
}
