//! Probe, packet index and exact frame extraction with FFmpeg.
//!
//! Owns the way from a file to exactly the frames that are wanted. Does not own which frames are wanted
//! (`reelsight-sampling`), what models do with them (`reelsight-preprocess`), or where URLs are read: FFmpeg never opens
//! anything here but the file that it is given.
//!
//! ```text
//! Input -> index(): PacketIndex -> DecodePlan -> workers -> ordered, byte-bounded channels -> FrameReader
//! ```
//!
//! * **Index**: one demux pass. Every video packet with its time and its part in the stream, read from the codec's own
//!   headers: where decoding may begin, what nothing refers to, what is never shown.
//! * **Plan** (pure): from the packets of the wanted frames to runs of packets with everything left out that no wanted
//!   frame refers to.
//! * **Executor**: one demuxer, decoder and converter per worker; threads named `decode-N`, at most
//!   [`DecodeOptions::threads`], ended and joined when the reader is dropped.
//! * **Convert**: swscale at full size with everything set explicitly, then rotation, then Pillow's bicubic.
//!
//! ```no_run
//! use reelsight_decode::{DecodeLimits, DecodeOptions, Input, index, read_frames};
//! use reelsight_media::{CancelFlag, FrameSource as _};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let input = Input::Path("clip.mp4".into());
//! let packets = index(&input, &DecodeLimits::default(), &CancelFlag::new())?;
//! let mut frames = read_frames(&input, packets, vec![0, 25, 50], DecodeOptions::default())?;
//! while let Some(frame) = frames.next_frame()? {
//!     assert_eq!(frame.data.len() as u32, frame.width * frame.height * 3);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What FFmpeg makes easy to get wrong
//! * Playlists, scripts and reference movies open other files: demuxers are listed, protocols are none
//!   (`tests/decode/bad_input.rs`).
//! * Container key flags mark H.264 recovery points and HEVC CRA pictures, at which leading pictures cannot be decoded
//!   (`tests/decode/corpus.rs`, open GOPs).
//! * Times say little in bare streams and AVI: packets are numbered, and pictures are matched by that number.
//! * RGB rows are padded, and chroma of interlaced pictures belongs to fields (`tests/decode/corpus.rs`).
//! * FFmpeg's log level is global to the process; it is set to quiet.

mod about;
mod bits;
mod classify;
mod convert;
mod cursor;
mod decoder;
mod demux;
mod error;
mod executor;
mod forecast;
mod formats;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hardware;
mod index;
mod input;
mod limits;
mod plan;
mod references;
mod source;
mod stats;
mod structure;
mod threads;

pub use about::{codecs, ffmpeg_version};
pub use convert::PlanarFrame;
pub use error::DecodeError;
pub use forecast::{Fate, Forecast};
pub use frames::{DecodeOptions, FrameReader, read_frames, read_frames_on, read_planes};
pub use hardware::{Gpu, NoHardware, hardware_codecs, hardware_kinds};
pub use index::{
    EncodedIndexError, INDEX_VERSION, MediaInfo, MediaWarning, PacketIndex, TrackInfo, VideoDetails, index,
};
pub use input::Input;
pub use limits::DecodeLimits;
pub use stats::DecodeStats;
pub use structure::{PacketFacts, PacketKind, Spread, StreamStructure};
pub use threads::{ThreadBudget, ThreadShare};
