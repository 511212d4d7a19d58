//! Which frames: the options that `frames` and `probe` share.

use clap::{Args as ClapArgs, ValueEnum};

/// Exactly one of these says which frames are taken.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Which frames (one of)")]
pub(crate) struct RuleArgs {
    /// One frame every 1/F seconds of presentation time.
    #[arg(long, value_name = "F", value_parser = super::positive)]
    pub(crate) fps: Option<f64>,
    /// The frames shown at the centres of N equal parts.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: Option<u32>,
    /// The frames shown at these times: seconds, MM:SS or HH:MM:SS.mmm, separated by commas.
    #[arg(long, value_name = "TIME,...", value_delimiter = ',', value_parser = time, conflicts_with_all = ["start", "end"])]
    pub(crate) at: Option<Vec<f64>>,
    /// Every frame at which decoding may begin (I-frames that nothing refers across, and open-GOP starts).
    #[arg(long)]
    pub(crate) every_keyframe: bool,
    /// One frame per shot, from its middle. A cut counts from this score on, between 0 and 1; 0.5 without a value.
    /// Every frame of the range is decoded once to find the cuts.
    #[arg(long, value_name = "SCORE", num_args = 0..=1, default_missing_value = "0.5", value_parser = score)]
    pub(crate) scene: Option<f64>,
}

/// Which part of the video, and how shots are found.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Which part")]
pub(crate) struct RangeArgs {
    /// Begin here: seconds, MM:SS or HH:MM:SS.mmm.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) start: Option<f64>,
    /// End before here.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) end: Option<f64>,
}

/// What finds shot changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SceneModel {
    /// `TransNetV2` when it is installed, else the content detector.
    #[default]
    Auto,
    /// Compares pictures: no model needed.
    Content,
    /// The network `TransNetV2`; `make shots` installs it.
    Transnetv2,
}

impl RangeArgs {
    /// The range in seconds; `None` for the whole video.
    pub(crate) fn secs(&self) -> Option<(f64, f64)> {
        (self.start.is_some() || self.end.is_some())
            .then(|| (self.start.unwrap_or(0.0), self.end.unwrap_or(f64::INFINITY)))
    }
}

/// Reads seconds, `MM:SS` or `HH:MM:SS`, each with an optional fraction.
fn time(text: &str) -> Result<f64, String> {
    let wrong = || "must be seconds, MM:SS or HH:MM:SS.mmm, for example 7.25 or 01:02:03.5".to_owned();
    let parts: Vec<&str> = text.split(':').collect();
    let (secs, larger) = parts.split_last().ok_or_else(wrong)?;
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| match part.split_once('.') {
        Some((whole, fraction)) => digits(fraction) && (digits(whole) || whole.is_empty()),
        None => digits(part),
    };
    if larger.len() > 2 || !number(secs) || !larger.iter().all(|part| digits(part)) {
        return Err(wrong());
    }
    let mut total: f64 = 0.0;
    for (at, part) in parts.iter().enumerate() {
        let value: f64 = part.parse().map_err(|_not_a_number| wrong())?;
        if at > 0 && value >= 60.0 {
            return Err(wrong());
        }
        total = total * 60.0 + value;
    }
    Ok(total)
}

fn score(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => {
            Err("must be a score between 0 and 1, for example 0.5 (name the video before --scene)".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_forms() {
        assert_eq!(time("7.25"), Ok(7.25));
        assert_eq!(time("0"), Ok(0.0));
        assert_eq!(time(".5"), Ok(0.5));
        assert_eq!(time("90"), Ok(90.0));
        assert_eq!(time("01:30"), Ok(90.0));
        assert_eq!(time("1:02:03.5"), Ok(3723.5));
        for wrong in [
            "", "-1", "1:60", "1:-2", "a", "1:2:3:4", "nan", "inf", "1e3", "1:", ":1", "1.", "+1", "1.5:00",
        ] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn scores_lie_between_their_ends() {
        assert_eq!(score("0.3"), Ok(0.3));
        for wrong in ["0", "1", "27", "clip.mp4", "nan"] {
            assert!(score(wrong).is_err(), "{wrong}");
        }
    }
}
