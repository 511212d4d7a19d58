//! Shots: where one ends and the next begins. Pure: pictures go in, transitions come out.

mod compare;
mod content;
mod gradual;

pub use content::ContentDetector;

/// The change from one shot to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transition {
    /// The last picture of the shot before, counted from the first that was pushed.
    pub from: usize,
    /// The first picture of the shot after; `from + 1` for a hard cut.
    pub to: usize,
    /// How sure it is, from 0 to 1.
    pub score: f64,
}

impl Transition {
    /// Whether it takes no picture at all.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.to <= self.from + 1
    }

    /// The picture at which the new shot takes over: its first, or the middle of a gradual change.
    #[must_use]
    pub fn at(&self) -> usize {
        self.from + (self.to - self.from).div_ceil(2)
    }
}

/// A detector cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShotError {
    /// A picture of another size than the detector's.
    #[error("a picture of {actual} bytes where {expected} are needed")]
    WrongSize {
        /// Bytes of a picture of the right size.
        expected: usize,
        /// Bytes that came.
        actual: usize,
    },
    /// What the detector is built on failed.
    #[error("the shot detector failed: {why}")]
    Failed {
        /// What was said.
        why: String,
    },
}

/// Finds shot changes in a run of pictures that are pushed in order.
pub trait ShotDetector: Send {
    /// What it is called in reports.
    fn name(&self) -> &str;

    /// Width and height of the pictures that it wants.
    fn size(&self) -> (u32, u32);

    /// Takes the next picture.
    ///
    /// # Shapes
    /// `rgb`: `[height, width, 3]` u8, rows without padding.
    ///
    /// # Errors
    /// [`ShotError`] when the size is wrong or the detector fails.
    fn push(&mut self, rgb: &[u8]) -> Result<(), ShotError>;

    /// The transitions whose score is at least `threshold`, in order; none overlaps another.
    ///
    /// # Errors
    /// [`ShotError`] when the detector fails.
    fn finish(self: Box<Self>, threshold: f64) -> Result<Vec<Transition>, ShotError>;
}

/// First and last picture of each shot among `count` pictures. Pictures inside a gradual change go to the shot that
/// they are nearer to.
#[must_use]
pub fn shots(count: usize, transitions: &[Transition]) -> Vec<(usize, usize)> {
    let inside = transitions.iter().map(Transition::at);
    let mut starts: Vec<usize> = std::iter::once(0)
        .chain(inside.filter(|&at| at > 0 && at < count))
        .collect();
    starts.dedup();
    let ends = starts[1..]
        .iter()
        .map(|&start| start - 1)
        .chain([count.saturating_sub(1)]);
    starts.iter().copied().zip(ends).collect()
}

#[cfg(test)]
mod tests;
