//! From a decoded picture to what is handed out.

mod orient;
mod planes;
mod rgb;
mod scale;

use std::time::Duration;

use ffmpeg_next::frame;
use reelsight_media::{MediaTime, Weighted};

use crate::error::DecodeError;

pub use planes::PlanarFrame;
pub(crate) use planes::ToPlanes;
pub(crate) use rgb::ToRgb;

/// What is known about a picture besides its pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    pub(crate) index: u64,
    pub(crate) time: MediaTime,
    pub(crate) damaged: bool,
}

/// CPU time spent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ConvertTime {
    pub(crate) convert: Duration,
    pub(crate) resize: Duration,
}

/// Turns decoded pictures into what is handed out. Lives on one thread.
pub(crate) trait Convert {
    /// What is handed out.
    type Out: Weighted + Send + 'static;

    /// Converts one picture.
    fn convert(&mut self, picture: &frame::Video, label: Label) -> Result<Self::Out, DecodeError>;

    /// Time spent since the last call.
    fn take_time(&mut self) -> ConvertTime;
}
