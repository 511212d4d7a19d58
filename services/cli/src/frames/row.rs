//! What is said about one frame.

use std::path::Path;

use reelsight_decode::PacketIndex;
use reelsight_media::{MediaTime, RgbFrame};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The row of a frame that `samples` samples fell on.
pub(crate) fn row(
    frame: &RgbFrame,
    index: &PacketIndex,
    samples: usize,
    file: Option<&Path>,
    digest: bool,
) -> Value {
    let mut row = json!({ "index": frame.index });
    add_time(&mut row, frame.time, index);
    row["width"] = frame.width.into();
    row["height"] = frame.height.into();
    if digest {
        row["sha256"] = hex::encode(Sha256::digest(&frame.data)).into();
    }
    row["file"] = json!(file);
    if samples > 1 {
        row["samples"] = samples.into();
    }
    if frame.damaged {
        row["damaged"] = true.into();
    }
    row
}

/// Adds a time as the file writes it (`pts` in units of `time_base` seconds) and as a player counts it from its start:
/// exactly (`time`) and rounded (`time_s`).
pub(crate) fn add_time(row: &mut Value, time: MediaTime, index: &PacketIndex) {
    row["pts"] = (time.pts.0 + index.pts_offset).into();
    row["time_base"] = format!("{}/{}", time.base.num(), time.base.den()).into();
    row["time"] = fraction(time).into();
    row["time_s"] = time.secs().into();
}

/// Seconds as a fraction in lowest terms.
fn fraction(time: MediaTime) -> String {
    let num = i128::from(time.pts.0) * i128::from(time.base.num());
    let den = i128::from(time.base.den());
    let (mut a, mut b) = (num.abs(), den);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    format!("{}/{}", num / a, den / a)
}

#[cfg(test)]
mod tests {
    use reelsight_media::{Pts, TimeBase};

    use super::*;

    #[test]
    fn fractions_are_in_lowest_terms() {
        let at = |pts, num, den| {
            let base = TimeBase::new(num, den).unwrap();
            fraction(MediaTime { pts: Pts(pts), base })
        };
        assert_eq!(at(0, 1, 12_800), "0/1");
        assert_eq!(at(19_200, 1, 12_800), "3/2");
        assert_eq!(at(-7, 1001, 30_000), "-7007/30000");
    }
}
