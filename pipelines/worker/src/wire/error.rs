//! Errors across the border.

use reelsight_decode::DecodeError;

use super::Error;

/// Units of [`DecodeError::TooLong`].
const UNITS: [&str; 2] = ["seconds", "frames"];

impl From<&DecodeError> for Error {
    fn from(error: &DecodeError) -> Self {
        use DecodeError as E;
        let (text, numbers) = match error {
            E::Unreadable { detail, .. }
            | E::Corrupt { detail }
            | E::Internal { detail }
            | E::Crashed { detail } => (detail.clone(), vec![]),
            E::TooLarge { limit, actual } => (String::new(), vec![*limit, *actual]),
            E::TooLong { unit, limit, actual } => ((*unit).to_owned(), vec![*limit, *actual]),
            E::TooManyTracks { limit, actual } => (String::new(), vec![*limit as u64, *actual as u64]),
            E::Resolution { width, height, limit } => {
                (limit.clone(), vec![(*width).into(), (*height).into()])
            }
            E::NotAVideo { what } => (what.clone(), vec![]),
            E::CodecUnsupported { codec } => (codec.clone(), vec![]),
            E::InvalidFrames { frame, count } => (String::new(), vec![*frame, *count]),
            E::InvalidSize { width, height } => (String::new(), vec![(*width).into(), (*height).into()]),
            E::TooMuchMemory { limit } => (String::new(), vec![*limit]),
            E::TimedOut { limit } => (String::new(), vec![super::convert::nanos(*limit)]),
            other => (other.to_string(), vec![]),
        };
        Self {
            reason: error.reason().to_owned(),
            text,
            numbers,
        }
    }
}

impl From<Error> for DecodeError {
    /// What has no known reason comes back as an internal error.
    fn from(error: Error) -> Self {
        let Error {
            reason,
            text,
            numbers,
        } = error;
        let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
        let short = |at: usize| u32::try_from(number(at)).unwrap_or(u32::MAX);
        let count = |at: usize| usize::try_from(number(at)).unwrap_or(usize::MAX);
        match reason.as_str() {
            "SOURCE_NOT_FOUND" => Self::NotFound,
            "SOURCE_IS_DIRECTORY" => Self::IsDirectory,
            "SOURCE_UNREADABLE" => Self::Unreadable {
                detail: text,
                source: None,
            },
            "MEDIA_EMPTY" => Self::Empty,
            "SOURCE_TOO_LARGE" => Self::TooLarge {
                limit: number(0),
                actual: number(1),
            },
            "SOURCE_TOO_LONG" => Self::TooLong {
                unit: UNITS.into_iter().find(|unit| *unit == text).unwrap_or(UNITS[1]),
                limit: number(0),
                actual: number(1),
            },
            "TRACK_LIMIT" => Self::TooManyTracks {
                limit: count(0),
                actual: count(1),
            },
            "RESOLUTION_LIMIT" => Self::Resolution {
                width: short(0),
                height: short(1),
                limit: text,
            },
            "NOT_A_VIDEO" => Self::NotAVideo { what: text },
            "NO_VIDEO_TRACK" => Self::NoVideoTrack,
            "CODEC_UNSUPPORTED" => Self::CodecUnsupported { codec: text },
            "MEDIA_CORRUPT" => Self::Corrupt { detail: text },
            "INVALID_FRAMES" => Self::InvalidFrames {
                frame: number(0),
                count: number(1),
            },
            "INVALID_SIZE" => Self::InvalidSize {
                width: short(0),
                height: short(1),
            },
            "CANCELLED" => Self::Cancelled,
            "DECODER_MEMORY" => Self::TooMuchMemory { limit: number(0) },
            "DECODER_CRASHED" => Self::Crashed { detail: text },
            "DECODER_TIMEOUT" => Self::TimedOut {
                limit: std::time::Duration::from_nanos(number(0)),
            },
            _ => Self::Internal { detail: text },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_error_reads_the_same_on_both_sides() {
        let text = || "why".to_owned();
        let all = [
            DecodeError::NotFound,
            DecodeError::IsDirectory,
            DecodeError::Unreadable {
                detail: text(),
                source: None,
            },
            DecodeError::Empty,
            DecodeError::TooLarge { limit: 1, actual: 2 },
            DecodeError::TooLong {
                unit: "seconds",
                limit: 1,
                actual: 2,
            },
            DecodeError::TooLong {
                unit: "frames",
                limit: 1,
                actual: 2,
            },
            DecodeError::TooManyTracks { limit: 1, actual: 2 },
            DecodeError::Resolution {
                width: 1,
                height: 2,
                limit: text(),
            },
            DecodeError::NotAVideo { what: text() },
            DecodeError::NoVideoTrack,
            DecodeError::CodecUnsupported { codec: text() },
            DecodeError::Corrupt { detail: text() },
            DecodeError::InvalidFrames { frame: 1, count: 2 },
            DecodeError::InvalidSize { width: 1, height: 2 },
            DecodeError::Cancelled,
            DecodeError::TooMuchMemory { limit: 3 },
            DecodeError::Crashed { detail: text() },
            DecodeError::TimedOut {
                limit: Duration::from_secs(4),
            },
            DecodeError::Internal { detail: text() },
        ];
        for error in all {
            let back = DecodeError::from(Error::from(&error));
            assert_eq!(back.to_string(), error.to_string());
            assert_eq!(back.reason(), error.reason());
        }
    }
}
