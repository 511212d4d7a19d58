//! What the container's header says.

use std::time::{Duration, SystemTime};

use ff::{codec::packet::side_data, ffi};
use ffmpeg_next as ff;
use reelsight_media::TimeBase;
use serde::{Deserialize, Serialize};

use super::{MediaInfo, MediaWarning, details};
use crate::{
    classify::Classifier,
    demux::{self, Demuxer},
    error::DecodeError,
};

/// Everything that is known before the first packet.
pub(crate) struct Facts {
    /// With what only packets tell left at 0.
    pub(super) info: MediaInfo,
    pub(super) base: TimeBase,
    pub(super) orientation: Orientation,
    pub(super) warnings: Vec<MediaWarning>,
    /// Start of the whole presentation, in seconds on the container's clock.
    pub(super) start_secs: f64,
    /// Its length, where the header says so.
    pub(super) declared_secs: Option<f64>,
    /// Usual length of a frame, in stream units.
    pub(super) frame_units: i64,
    pub(super) classify: ClassifierSeed,
}

/// What a [`Classifier`] begins with.
pub(super) struct ClassifierSeed {
    codec: ff::codec::Id,
    extradata: Vec<u8>,
    intra_only: bool,
}

impl ClassifierSeed {
    pub(super) fn grow(&self) -> Classifier {
        Classifier::new(self.codec, &self.extradata, self.intra_only)
    }
}

impl Facts {
    pub(super) fn read(demuxer: &Demuxer) -> Result<Self, DecodeError> {
        let stream = demuxer.stream()?;
        let parameters = stream.parameters();
        let codec = parameters.id();
        if ff::decoder::find(codec).is_none() {
            return Err(DecodeError::CodecUnsupported {
                codec: codec.name().to_owned(),
            });
        }
        let ff::Rational(num, den) = stream.time_base();
        let base = u32::try_from(num).ok().zip(u32::try_from(den).ok());
        let base = base.and_then(|(num, den)| TimeBase::new(num, den));
        let base = base.ok_or_else(|| corrupt("its time base is not positive"))?;
        let (orientation, odd_rotation) = orientation(&stream);
        let (width, height) = orientation.shown_size(demux::stored_size(&parameters));
        let mut warnings = Vec::new();
        if odd_rotation {
            let message =
                "the picture should be turned by an angle that is no multiple of 90 degrees: left as it is";
            warnings.push(MediaWarning {
                reason: "ROTATION_IGNORED".into(),
                message: message.to_owned(),
            });
        }
        let context = demuxer.context();
        let (start_secs, declared_secs) = clock(context, &stream, base);
        Ok(Self {
            info: MediaInfo {
                container: context.format().name().to_owned(),
                video_codec: codec.name().to_owned(),
                audio_codec: audio_codec(context),
                width,
                height,
                rotation_degrees: orientation.degrees(),
                fps: 0.0,
                duration_secs: 0.0,
                frame_count: 0,
                start_time: recording_start(context),
                video: details::video(demuxer, &stream, orientation),
                tracks: details::tracks(demuxer),
            },
            base,
            orientation,
            warnings,
            start_secs,
            declared_secs,
            frame_units: frame_units(&stream, base),
            classify: ClassifierSeed {
                codec,
                extradata: extradata(&parameters),
                intra_only: is_intra_only(codec),
            },
        })
    }
}

fn corrupt(detail: &str) -> DecodeError {
    DecodeError::Corrupt {
        detail: detail.to_owned(),
    }
}

fn audio_codec(context: &ff::format::context::Input) -> Option<String> {
    let audio = context
        .streams()
        .find(|stream| stream.parameters().medium() == ff::media::Type::Audio)?;
    Some(audio.parameters().id().name().to_owned())
}

/// Start of the presentation and its declared length. Sound that begins before zero is an encoder's run-in, which no
/// player shows; pictures before zero are real.
#[expect(unsafe_code, reason = "the safe layer does not show these fields")]
fn clock(
    context: &ff::format::context::Input,
    stream: &ff::Stream<'_>,
    base: TimeBase,
) -> (f64, Option<f64>) {
    let micro = f64::from(ffi::AV_TIME_BASE);
    // SAFETY: the context is open; these are plain integers.
    let (start, method) = unsafe {
        (
            (*context.as_ptr()).start_time,
            (*context.as_ptr()).duration_estimation_method,
        )
    };
    let start = if start == ffi::AV_NOPTS_VALUE {
        0.0
    } else {
        start as f64 / micro
    };
    let video = stream.start_time();
    let video = if video == ffi::AV_NOPTS_VALUE {
        0.0
    } else {
        base.secs(video)
    };
    let start = if start < 0.0 { video.min(0.0) } else { start };
    let duration = context.duration();
    let declared = method == ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_STREAM && duration > 0;
    (start, declared.then(|| duration as f64 / micro))
}

/// Usual length of a frame, at least 1.
#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn frame_units(stream: &ff::Stream<'_>, base: TimeBase) -> i64 {
    let rate = [stream.avg_frame_rate(), stream.rate()]
        .into_iter()
        .find(|rate| rate.0 > 0 && rate.1 > 0);
    let ff::Rational(num, den) = rate.unwrap_or(ff::Rational(25, 1));
    let units = f64::from(den) / f64::from(num) * f64::from(base.den()) / f64::from(base.num());
    (units.round() as i64).max(1)
}

#[expect(unsafe_code, reason = "the safe layer does not show extradata")]
fn extradata(parameters: &ff::codec::Parameters) -> Vec<u8> {
    // SAFETY: the pointer and size describe one allocation that lives as long as `parameters`.
    unsafe {
        let (data, size) = (
            (*parameters.as_ptr()).extradata,
            (*parameters.as_ptr()).extradata_size,
        );
        match usize::try_from(size) {
            Ok(size) if !data.is_null() => std::slice::from_raw_parts(data, size).to_vec(),
            _ => Vec::new(),
        }
    }
}

#[expect(unsafe_code, reason = "the safe layer does not show codec properties")]
fn is_intra_only(codec: ff::codec::Id) -> bool {
    // SAFETY: the descriptor, where there is one, is static.
    unsafe {
        let descriptor = ffi::avcodec_descriptor_get(codec.into());
        !descriptor.is_null() && (*descriptor).props & ffi::AV_CODEC_PROP_INTRA_ONLY != 0
    }
}

/// One of the eight ways to turn and mirror a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Orientation {
    /// Rows become columns.
    pub(crate) transpose: bool,
    /// Columns of the stored picture are read from the right.
    pub(crate) from_right: bool,
    /// Rows of the stored picture are read from the bottom.
    pub(crate) from_bottom: bool,
}

impl Orientation {
    /// From the `[a b; c d]` of a display matrix, which sends (x, y) to (ax + cy, bx + dy). `None` when it turns by
    /// anything but quarters.
    fn from_matrix([a, b, c, d]: [i32; 4]) -> Option<Self> {
        match (a != 0 || d != 0, b != 0 || c != 0) {
            (true, false) => Some(Self {
                transpose: false,
                from_right: a < 0,
                from_bottom: d < 0,
            }),
            (false, true) => Some(Self {
                transpose: true,
                from_right: b < 0,
                from_bottom: c < 0,
            }),
            _ => None,
        }
    }

    /// Clockwise turn; of a mirrored picture, the turn that remains when the mirroring comes first.
    fn degrees(self) -> u32 {
        match (self.transpose, self.from_right, self.from_bottom) {
            (false, _, false) => 0,
            (true, false, _) => 90,
            (false, _, true) => 180,
            (true, true, _) => 270,
        }
    }

    /// Size as shown of a picture of `stored` size.
    pub(crate) fn shown_size(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.transpose {
            (height, width)
        } else {
            (width, height)
        }
    }

    /// Size to store so that a picture is shown in `shown` size.
    pub(crate) fn stored_size(self, shown: (u32, u32)) -> (u32, u32) {
        self.shown_size(shown)
    }
}

/// The track's orientation, and whether it has one that cannot be applied.
fn orientation(stream: &ff::Stream<'_>) -> (Orientation, bool) {
    let matrix = stream
        .side_data()
        .find(|side| side.kind() == side_data::Type::DisplayMatrix);
    let Some(matrix) = matrix else {
        return (Orientation::default(), false);
    };
    let entry = |at: usize| {
        let bytes = matrix
            .data()
            .get(at * 4..at * 4 + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, i32::from_ne_bytes)
    };
    match Orientation::from_matrix([0, 1, 3, 4].map(entry)) {
        Some(orientation) => (orientation, false),
        None => (Orientation::default(), true),
    }
}

/// When recording began: the tag that phones write with their zone, else the container's own.
fn recording_start(context: &ff::format::context::Input) -> Option<SystemTime> {
    let tags = context.metadata();
    ["com.apple.quicktime.creationdate", "creation_time"]
        .into_iter()
        .filter_map(|tag| tags.get(tag))
        .find_map(time_from_iso)
}

/// Reads `2024-05-06T07:08:09[.123](Z|+02:00|+0200)`. Times before 1971 are muxers' way to say that they do not know.
fn time_from_iso(text: &str) -> Option<SystemTime> {
    let (date, time) = text.trim().split_once(['T', ' '])?;
    let zone_at = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = (1971..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23.0 || minute > 59.0 || !(0.0..61.0).contains(&second) {
        return None;
    }
    let offset_secs = zone_secs(zone)?;
    let secs = days_from_date(year, month, day) as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(secs - offset_secs).ok()?)
}

fn zone_secs(zone: &str) -> Option<f64> {
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    if zone.is_empty() || zone == "Z" {
        return Some(0.0);
    }
    let (hours, minutes) = digits.split_at_checked(2)?;
    let secs = hours.parse::<f64>().ok()? * 3600.0 + minutes.parse::<f64>().unwrap_or(0.0) * 60.0;
    Some(if zone.starts_with('-') { -secs } else { secs })
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(text: &str) -> Option<u64> {
        Some(
            time_from_iso(text)?
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        )
    }

    #[test]
    fn reads_creation_times() {
        // `date -u -d 2024-02-29T12:00:00Z +%s`.
        assert_eq!(unix("2024-02-29T12:00:00.000000Z"), Some(1_709_208_000));
        assert_eq!(unix("2024-02-29T14:00:00+0200"), Some(1_709_208_000));
        assert_eq!(unix("2024-02-29T07:00:00-05:00"), Some(1_709_208_000));
        assert_eq!(unix("1999-12-31 23:59:59"), Some(946_684_799));
        for wrong in [
            "",
            "yesterday",
            "1904-01-01T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T99:00:00Z",
        ] {
            assert_eq!(unix(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn understands_display_matrices() {
        let one = 1 << 16;
        let turn = |matrix| Orientation::from_matrix(matrix).map(Orientation::degrees);
        assert_eq!(turn([one, 0, 0, one]), Some(0));
        assert_eq!(turn([0, one, -one, 0]), Some(90));
        assert_eq!(turn([-one, 0, 0, -one]), Some(180));
        assert_eq!(turn([0, -one, one, 0]), Some(270));
        assert_eq!(turn([46_340, 46_340, -46_340, 46_340]), None);
    }
}
