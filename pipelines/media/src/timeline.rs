//! The presentation times of all frames of a video, known from its packets before anything is decoded.

use crate::time::{MediaTime, Pts, TimeBase};

/// Presentation times in increasing order. Index `i` is the `i`-th frame that a player would show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    base: TimeBase,
    pts: Vec<i64>,
    end: i64,
}

/// Why a list of time stamps is not a timeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimelineError {
    /// There is no frame at all.
    #[error("the video has no frames")]
    Empty,
    /// Time stamps must not decrease, and the end must lie after the last one.
    #[error("time stamps are not in order at frame {at}")]
    Unordered {
        /// Index of the first offending frame.
        at: usize,
    },
    /// The presentation is longer than can be counted in its own units.
    #[error("the time stamps are too far apart")]
    TooWide,
}

impl Timeline {
    /// `pts` in presentation order, in units of `base`; `end` is the last time stamp plus that frame's duration.
    ///
    /// # Errors
    /// [`TimelineError`] when there is no frame or the order is violated.
    pub fn new(base: TimeBase, pts: Vec<i64>, end: i64) -> Result<Self, TimelineError> {
        let Some(&last) = pts.last() else {
            return Err(TimelineError::Empty);
        };
        if let Some(at) = pts.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(TimelineError::Unordered { at: at + 1 });
        }
        if end < last {
            return Err(TimelineError::Unordered { at: pts.len() });
        }
        if end.checked_sub(pts[0]).is_none() {
            return Err(TimelineError::TooWide);
        }
        Ok(Self { base, pts, end })
    }

    /// Number of frames; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a timeline is never empty")]
    pub fn len(&self) -> usize {
        self.pts.len()
    }

    /// What one unit of the time stamps is.
    #[must_use]
    pub fn base(&self) -> TimeBase {
        self.base
    }

    /// Time stamp of frame `index`; `None` past the last frame.
    #[must_use]
    pub fn pts(&self, index: usize) -> Option<Pts> {
        self.pts.get(index).copied().map(Pts)
    }

    /// All time stamps in presentation order.
    #[must_use]
    pub fn all_pts(&self) -> &[i64] {
        &self.pts
    }

    /// Exact time of frame `index`; `None` past the last frame.
    #[must_use]
    pub fn time(&self, index: usize) -> Option<MediaTime> {
        self.pts(index).map(|pts| MediaTime { pts, base: self.base })
    }

    /// First time stamp, in units.
    #[must_use]
    pub fn start(&self) -> i64 {
        self.pts[0]
    }

    /// End of the presentation (last time stamp plus its duration), in units.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Seconds from the first time stamp to the end.
    #[must_use]
    pub fn duration_secs(&self) -> f64 {
        self.base.secs(self.end - self.start())
    }

    /// Average frames per second over the whole presentation.
    #[must_use]
    pub fn average_fps(&self) -> f64 {
        let secs = self.duration_secs();
        if secs > 0.0 { self.len() as f64 / secs } else { 0.0 }
    }

    /// The frame that is shown at `units`: the largest time stamp that is not later, or the first frame.
    #[must_use]
    pub fn index_at(&self, units: i64) -> usize {
        self.pts.partition_point(|&pts| pts <= units).saturating_sub(1)
    }

    /// [`Timeline::index_at`] for a time in seconds.
    #[must_use]
    pub fn index_at_secs(&self, secs: f64) -> usize {
        self.index_at(self.base.floor_units(secs))
    }

    /// Where frame `index` stops being shown, in seconds: the next frame's time, or the end.
    #[must_use]
    pub fn frame_end_secs(&self, index: usize) -> f64 {
        self.base
            .secs(self.pts.get(index + 1).copied().unwrap_or(self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(pts: &[i64], end: i64) -> Timeline {
        Timeline::new(TimeBase::new(1, 10).unwrap(), pts.to_vec(), end).unwrap()
    }

    #[test]
    fn shows_the_latest_frame_not_after_the_time() {
        let t = timeline(&[5, 6, 9, 20], 22);
        let shown: Vec<_> = [0, 5, 6, 8, 9, 19, 20, 99]
            .iter()
            .map(|&u| t.index_at(u))
            .collect();
        assert_eq!(shown, [0, 0, 1, 1, 2, 2, 3, 3]);
        assert!((t.duration_secs() - 1.7).abs() < 1e-12);
        assert!((t.frame_end_secs(1) - 0.9).abs() < 1e-12);
        assert!((t.frame_end_secs(3) - 2.2).abs() < 1e-12);
    }

    #[test]
    fn refuses_what_is_not_a_timeline() {
        let base = TimeBase::new(1, 10).unwrap();
        assert_eq!(Timeline::new(base, vec![], 0), Err(TimelineError::Empty));
        assert_eq!(
            Timeline::new(base, vec![0, 2, 1], 3),
            Err(TimelineError::Unordered { at: 2 })
        );
        assert_eq!(
            Timeline::new(base, vec![0, 2], 1),
            Err(TimelineError::Unordered { at: 2 })
        );
    }
}
