//! Between protobuf's durations and time stamps, and std's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A duration as protobuf has it; saturates at what protobuf can hold.
#[must_use]
pub fn duration_from_std(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(i32::MAX),
    }
}

/// Seconds to protobuf, rounded to a nanosecond; not-a-number and infinities become 0.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` saturates, and the fraction is below 1e9"
)]
pub fn duration_from_secs(secs: f64) -> prost_types::Duration {
    if !secs.is_finite() {
        return prost_types::Duration::default();
    }
    let (whole, nanos) = (secs.trunc() as i64, (secs.fract() * 1e9).round() as i32);
    let mut duration = prost_types::Duration {
        seconds: whole,
        nanos,
    };
    duration.normalize();
    duration
}

/// Seconds of a protobuf duration; negative ones stay negative.
#[must_use]
pub fn secs_from_duration(duration: &prost_types::Duration) -> f64 {
    duration.seconds as f64 + f64::from(duration.nanos) / 1e9
}

/// A duration as std has it; `None` when it is negative or malformed.
#[must_use]
pub fn std_from_duration(duration: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(duration.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(duration.seconds).ok()?, nanos))
}

/// A protobuf time stamp of milliseconds since 1970.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the remainder is below 1e9")]
pub fn timestamp_from_millis(millis: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: millis.div_euclid(1000),
        nanos: (millis.rem_euclid(1000) * 1_000_000) as i32,
    }
}

/// Now, in milliseconds since 1970.
#[must_use]
pub fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_survive_the_round_trip() {
        for secs in [0.0, 0.04, 1.5, 59.999_999_999, 7200.033, -1.25] {
            assert!(
                (secs_from_duration(&duration_from_secs(secs)) - secs).abs() < 1e-9,
                "{secs}"
            );
        }
        assert_eq!(duration_from_secs(f64::NAN), prost_types::Duration::default());
    }

    #[test]
    fn negative_and_malformed_durations_are_refused() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(std_from_duration(&prost_types::Duration { seconds, nanos }), None);
        }
    }
}
