//! A detector that compares pictures: no model, no training.
//!
//! * **Cuts**: what motion of small blocks and the colours of the picture before cannot explain, against what is usual
//!   around it. Every pair of pictures a few frames before and after must differ, so that a flash is no cut.
//! * **Gradual changes** (`gradual`): every picture between two different ones is a mixture of both with a falling share
//!   of the first, blended (dissolves, fades) or pixel by pixel (wipes). A camera that moves gives no such mixture, and
//!   light that changes leaves the structure.

use std::collections::VecDeque;

use super::{
    ShotDetector, ShotError, Transition,
    compare::{self, Difference, Thumb, difference},
    gradual,
};

/// Pictures on each side of a cut that must differ from each other: longer than a flash.
const FLASH: usize = 6;
/// Pictures on each side that say what change is usual.
const AROUND: usize = 4;
/// Change beyond the usual that is as likely a cut as not.
const CUT_UNIT: f32 = 1.15;
/// How much of the usual change is taken off.
const USUAL_WEIGHT: f32 = 2.0;
/// Excess below which nobody would want to hear of a cut.
const LEAST_EXCESS: f32 = 0.2;

/// The content detector.
#[derive(Debug, Default)]
pub struct ContentDetector {
    recent: Recent,
    track: Track,
    cuts: Vec<Found>,
    gradual: Vec<Found>,
}

/// The latest pictures, enough on both sides of the one that is judged.
#[derive(Debug, Default)]
pub(super) struct Recent {
    thumbs: VecDeque<Thumb>,
    /// Number of the first of them.
    first: usize,
}

/// What is remembered of every picture.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// Difference from the picture before.
    pub(super) steps: Vec<Difference>,
    pub(super) contrast: Vec<f32>,
}

/// A change and how strong it is; 1 is as likely a change of shot as not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) strength: f32,
}

impl Found {
    fn transition(&self) -> Transition {
        Transition {
            from: self.from,
            to: self.to,
            score: f64::from(self.strength / (self.strength + 1.0)),
        }
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

impl Recent {
    /// Picture `at`, counted from the first that was pushed.
    pub(super) fn get(&self, at: usize) -> Option<&Thumb> {
        self.thumbs.get(at.checked_sub(self.first)?)
    }

    fn push(&mut self, thumb: Thumb) {
        self.thumbs.push_back(thumb);
        if self.thumbs.len() > 2 * gradual::REACH + 1 {
            self.thumbs.pop_front();
            self.first += 1;
        }
    }
}

impl ContentDetector {
    /// Before the first picture.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at picture `at`, around which everything there will be is known.
    fn judge(&mut self, at: usize) {
        if let Some(strength) = self.cut_strength(at) {
            self.cuts.push(Found {
                from: at - 1,
                to: at,
                strength,
            });
        }
        self.gradual.extend(gradual::find(&self.recent, &self.track, at));
    }

    /// How much stronger the change to picture `at` is than what is usual there; `None` when it is not.
    fn cut_strength(&self, at: usize) -> Option<f32> {
        let step = self.track.steps.get(at).filter(|_| at > 0)?;
        let usual = self.usual_change(at);
        let excess = |change: f32| (change - USUAL_WEIGHT * usual) / CUT_UNIT;
        let mut least = step.unexplained();
        if excess(least) < LEAST_EXCESS {
            return None;
        }
        for before in at.saturating_sub(FLASH)..at {
            for after in at..=before + FLASH {
                if let (Some(a), Some(b)) = (self.recent.get(before), self.recent.get(after)) {
                    least = least.min(difference(a, b).unexplained());
                }
            }
        }
        Some(excess(least)).filter(|&excess| excess > LEAST_EXCESS)
    }

    /// The middle one of the changes around picture `at`.
    fn usual_change(&self, at: usize) -> f32 {
        let steps = &self.track.steps;
        let around = at.saturating_sub(AROUND).max(1)..(at + AROUND + 1).min(steps.len());
        let mut around: Vec<f32> = around
            .filter(|&other| other != at)
            .map(|other| steps[other].unexplained())
            .collect();
        around.sort_unstable_by(f32::total_cmp);
        around.get(around.len() / 2).copied().unwrap_or(0.0)
    }
}

impl ShotDetector for ContentDetector {
    fn name(&self) -> &'static str {
        "content"
    }

    fn size(&self) -> (u32, u32) {
        (64, 36)
    }

    fn push(&mut self, rgb: &[u8]) -> Result<(), ShotError> {
        let expected = compare::SIZE.0 * compare::SIZE.1 * 3;
        if rgb.len() != expected {
            return Err(ShotError::WrongSize {
                expected,
                actual: rgb.len(),
            });
        }
        let thumb = Thumb::new(rgb);
        let last = self.recent.thumbs.back();
        let step = last.map_or(Difference::default(), |last| difference(last, &thumb));
        self.track.steps.push(step);
        self.track.contrast.push(thumb.contrast);
        self.recent.push(thumb);
        if let Some(at) = (self.track.steps.len() - 1).checked_sub(gradual::REACH) {
            self.judge(at);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, threshold: f64) -> Result<Vec<Transition>, ShotError> {
        let count = self.track.steps.len();
        for at in count.saturating_sub(gradual::REACH)..count {
            self.judge(at);
        }
        let strong = |found: &Found| found.transition().score >= threshold;
        self.cuts.retain(strong);
        let mut cuts = strongest(self.cuts);
        self.gradual
            .retain(|found| strong(found) && !cuts.iter().any(|cut| cut.overlaps(found)));
        let gradual = gradual::whole_changes(strongest(self.gradual), &self.track);
        // The darkest step of a fade can look like a cut.
        cuts.retain(|cut| !gradual.iter().any(|found| found.overlaps(cut)));
        let mut all: Vec<_> = cuts.iter().chain(&gradual).map(Found::transition).collect();
        all.sort_unstable_by_key(|transition| transition.from);
        Ok(all)
    }
}

/// Of changes that overlap, the strongest.
fn strongest(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| b.strength.total_cmp(&a.strength));
    let mut kept: Vec<Found> = Vec::new();
    for next in found {
        if !kept.iter().any(|other| next.overlaps(other)) {
            kept.push(next);
        }
    }
    kept.sort_unstable_by_key(|found| found.from);
    kept
}
