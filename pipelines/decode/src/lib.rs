//! Probe, packet index and exact frame extraction with FFmpeg.

mod about;
mod error;
mod frames;
mod index;
mod input;
mod limits;

pub use about::{codecs, ffmpeg_version};
pub use error::DecodeError;
pub use frames::{DecodeOptions, DecodeStats, FrameReader, read_frames};
pub use index::{MediaInfo, MediaWarning, PacketIndex, index};
pub use input::Input;
pub use limits::DecodeLimits;
