//! Probe, packet index and exact frame extraction with FFmpeg.

mod about;
mod bits;
mod classify;
mod convert;
mod cursor;
mod decoder;
mod demux;
mod error;
mod executor;
mod formats;
mod frames;
mod index;
mod input;
mod limits;
mod plan;
mod source;
mod stats;

pub use about::{codecs, ffmpeg_version};
pub use convert::PlanarFrame;
pub use error::DecodeError;
pub use frames::{DecodeOptions, FrameReader, read_frames, read_planes};
pub use index::{MediaInfo, MediaWarning, PacketIndex, index};
pub use input::Input;
pub use limits::DecodeLimits;
pub use stats::DecodeStats;
