//! What can go wrong, by what the caller should do about it.

use std::{io, sync::Arc, time::Duration};

use reelsight_media::{FrameError, FrameErrorKind, ReadFailure};

/// A source could not be indexed or decoded. Cloneable, so that one failure can be told to every waiter.
///
/// Messages are fragments that say what to do; they never contain the source's name.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is no file at the path.
    #[error("there is no such file: check the path")]
    NotFound,
    /// The path leads to a directory.
    #[error("it is a directory: name a video file in it")]
    IsDirectory,
    /// The file is there but cannot be read.
    #[error("the file cannot be read: {detail}")]
    Unreadable {
        /// What the system said.
        detail: String,
        /// The system's error, when there is one.
        #[source]
        source: Option<Arc<io::Error>>,
    },
    /// The file holds no bytes.
    #[error("the file is empty: it may still be uploading, or a download failed")]
    Empty,
    /// More bytes than allowed.
    #[error("the file has {actual} bytes and at most {limit} are allowed: cut or re-encode it")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// A longer presentation, or more frames, than allowed.
    #[error("the video has {actual} {unit} and at most {limit} are allowed: cut it into parts")]
    TooLong {
        /// `seconds` or `frames`.
        unit: &'static str,
        /// How many are allowed.
        limit: u64,
        /// How many there are, as far as was read.
        actual: u64,
    },
    /// More tracks than allowed.
    #[error("the file has {actual} tracks and at most {limit} are allowed: remux the one that matters")]
    TooManyTracks {
        /// Tracks allowed.
        limit: usize,
        /// Tracks there are.
        actual: usize,
    },
    /// Larger pictures than allowed; found before anything of that size was allocated.
    #[error("the picture is {width}x{height} and at most {limit} are allowed: scale it down")]
    Resolution {
        /// Pixels per row, as stored.
        width: u32,
        /// Rows, as stored.
        height: u32,
        /// What is allowed, in words.
        limit: String,
    },
    /// The bytes are something else than a video: a still image, a text, a playlist, noise.
    #[error("this is not a video file ({what}): send a container such as MP4, MKV, WebM, MOV, AVI or TS")]
    NotAVideo {
        /// What it looks like instead.
        what: String,
    },
    /// The container is fine and has no video track; cover art does not count.
    #[error("the file has no video track: send one that has pictures, not only sound")]
    NoVideoTrack,
    /// This build of FFmpeg has no decoder for the video.
    #[error("there is no decoder for {codec}: re-encode the video as H.264, HEVC, VP9 or AV1")]
    CodecUnsupported {
        /// FFmpeg's name of the codec.
        codec: String,
    },
    /// Nothing useful can be read from the file.
    #[error("the file is damaged ({detail}): download or export it again")]
    Corrupt {
        /// What was seen.
        detail: String,
    },
    /// The frames asked for are not increasing indices into the timeline.
    #[error("frame {frame} cannot be asked for: indices must increase and be below {count}")]
    InvalidFrames {
        /// The first offending index.
        frame: u64,
        /// Frames in the timeline.
        count: u64,
    },
    /// The size asked for has no pixels.
    #[error("{width}x{height} is no size: give a positive width and height")]
    InvalidSize {
        /// Width asked for.
        width: u32,
        /// Height asked for.
        height: u32,
    },
    /// Decoding takes more memory than allowed.
    #[error("decoding it takes more than {limit} bytes of memory: scale it down or re-encode it")]
    TooMuchMemory {
        /// Bytes allowed.
        limit: u64,
    },
    /// The process that decoded it died.
    #[error("the decoder crashed ({detail}): try again, and another export of the video if it stays")]
    Crashed {
        /// How the process ended.
        detail: String,
    },
    /// The decoder worked, or stood still, for longer than allowed.
    #[error("the decoder took longer than {limit:?}: cut the video into parts, or ask for fewer frames")]
    TimedOut {
        /// Time allowed.
        limit: Duration,
    },
    /// The cancel flag was raised.
    #[error("decoding was cancelled")]
    Cancelled,
    /// FFmpeg or the system failed in a way that is not the file's fault.
    #[error("decoding failed inside ({detail}): try again, and report it if it stays")]
    Internal {
        /// What was seen.
        detail: String,
    },
}

impl DecodeError {
    /// Stable reason for machines.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "SOURCE_NOT_FOUND",
            Self::IsDirectory => "SOURCE_IS_DIRECTORY",
            Self::Unreadable { source, .. } => {
                let failure = source.as_deref().and_then(ReadFailure::of);
                failure.map_or("SOURCE_UNREADABLE", |failure| failure.reason)
            }
            Self::Empty => "MEDIA_EMPTY",
            Self::TooLarge { .. } => "SOURCE_TOO_LARGE",
            Self::TooLong { .. } => "SOURCE_TOO_LONG",
            Self::TooManyTracks { .. } => "TRACK_LIMIT",
            Self::Resolution { .. } => "RESOLUTION_LIMIT",
            Self::NotAVideo { .. } => "NOT_A_VIDEO",
            Self::NoVideoTrack => "NO_VIDEO_TRACK",
            Self::CodecUnsupported { .. } => "CODEC_UNSUPPORTED",
            Self::Corrupt { .. } => "MEDIA_CORRUPT",
            Self::InvalidFrames { .. } => "INVALID_FRAMES",
            Self::InvalidSize { .. } => "INVALID_SIZE",
            Self::TooMuchMemory { .. } => "DECODER_MEMORY",
            Self::Crashed { .. } => "DECODER_CRASHED",
            Self::TimedOut { .. } => "DECODER_TIMEOUT",
            Self::Cancelled => "CANCELLED",
            Self::Internal { .. } => "DECODER_FAILED",
        }
    }
}

impl From<DecodeError> for FrameError {
    fn from(error: DecodeError) -> Self {
        let kind = match error {
            DecodeError::Cancelled => FrameErrorKind::Cancelled,
            DecodeError::Unreadable { .. }
            | DecodeError::NotFound
            | DecodeError::Internal { .. }
            | DecodeError::Crashed { .. }
            | DecodeError::TimedOut { .. } => FrameErrorKind::Io,
            _ => FrameErrorKind::Media,
        };
        Self {
            kind,
            reason: error.reason(),
            message: error.to_string(),
        }
    }
}
