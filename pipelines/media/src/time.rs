//! Exact media time. Seconds as `f64` are for people and for models; everything in between is rational.

use std::fmt;

/// A presentation time stamp, in units of a stream's [`TimeBase`], already shifted so that 0 is where a player starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pts(pub i64);

/// Seconds per time-stamp unit, as a fraction with positive terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeBase {
    num: u32,
    den: u32,
}

impl TimeBase {
    /// `num / den` seconds per unit; `None` unless both are positive.
    #[must_use]
    pub fn new(num: u32, den: u32) -> Option<Self> {
        (num > 0 && den > 0).then_some(Self { num, den })
    }

    /// Numerator of the seconds per unit.
    #[must_use]
    pub fn num(self) -> u32 {
        self.num
    }

    /// Denominator of the seconds per unit.
    #[must_use]
    pub fn den(self) -> u32 {
        self.den
    }

    /// Seconds of `units`.
    #[must_use]
    pub fn secs(self, units: i64) -> f64 {
        units as f64 * f64::from(self.num) / f64::from(self.den)
    }

    /// The largest whole number of units that is not later than `secs`; tolerant to a billionth of a unit, so that
    /// `floor_units(secs(n)) == n`. Saturates at the ends of `i64`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, which is what is wanted"
    )]
    pub fn floor_units(self, secs: f64) -> i64 {
        let units = secs * f64::from(self.den) / f64::from(self.num);
        (units + 1e-9 * units.abs().max(1.0)).floor() as i64
    }
}

/// An exact point in media time: `pts` units of `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaTime {
    /// Units since the start of the presentation.
    pub pts: Pts,
    /// What one unit is.
    pub base: TimeBase,
}

impl MediaTime {
    /// The same point in seconds.
    #[must_use]
    pub fn secs(self) -> f64 {
        self.base.secs(self.pts.0)
    }
}

impl fmt::Display for MediaTime {
    /// `HH:MM:SS.mmm`, the form of a citation's label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&label_from_secs(self.secs()))
    }
}

/// `HH:MM:SS.mmm`; negative times keep their sign.
#[must_use]
pub fn label_from_secs(secs: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates; sign is taken apart"
    )]
    let millis = (secs.abs() * 1000.0).round() as u64;
    let sign = if secs < 0.0 && millis > 0 { "-" } else { "" };
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    format!(
        "{sign}{hours:02}:{minutes:02}:{:02}.{:03}",
        millis / 1000 % 60,
        millis % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_units_inverts_secs_for_awkward_bases() {
        for (num, den) in [(1, 25), (1001, 30_000), (1, 90_000), (1, 12_800), (1, 1_000_000)] {
            let base = TimeBase::new(num, den).unwrap();
            for units in (-5_000..5_000).chain(900_000_000..900_001_000) {
                assert_eq!(base.floor_units(base.secs(units)), units, "{num}/{den}");
            }
        }
    }

    #[test]
    fn labels_carry_over_and_keep_their_sign() {
        assert_eq!(label_from_secs(83.4), "00:01:23.400");
        assert_eq!(label_from_secs(59.9996), "00:01:00.000");
        assert_eq!(label_from_secs(-1.5), "-00:00:01.500");
    }
}
