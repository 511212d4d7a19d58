//! A detector that compares pictures: no model, no training.
//!
//! * **Cuts**: what motion of small blocks and the colours of the picture before cannot explain, against what is usual
//!   around it. Every pair of pictures a few frames before and after must differ, so that a flash is no cut.
//! * **Gradual changes**: every picture between two different ones is a mixture of both with a falling share of the
//!   first, blended (dissolves, fades) or pixel by pixel (wipes). A camera that moves gives no such mixture, and light
//!   that changes leaves the structure.

use std::collections::VecDeque;

use super::{
    ShotDetector, ShotError, Transition,
    compare::{self, Mix, Thumb, difference},
};

/// Pictures on each side of a cut that must differ from each other: longer than a flash.
const FLASH: usize = 6;
/// Pictures on each side that say what change is usual.
const AROUND: usize = 4;
/// Change beyond the usual that is as likely a cut as not.
const CUT_UNIT: f32 = 1.35;
/// How much of the usual change is taken off.
const USUAL_WEIGHT: f32 = 2.0;
/// Half-lengths of the windows in which gradual changes are looked for.
const WINDOWS: [usize; 6] = [4, 6, 9, 13, 19, 28];
/// Pictures that are kept on each side.
const REACH: usize = WINDOWS[WINDOWS.len() - 1];
/// Mean difference that both ends of a gradual change have at least.
const MIN_DIFFERENCE: f32 = 12.0;
/// Difference of both ends that is as likely a change of shot as not.
const GRADUAL_UNIT: f32 = 1.5;
/// Correlation above which both ends show the same, brighter or darker.
const SAME_STRUCTURE: f32 = 0.6;
/// Residual of a mixture, as a share of the difference of both ends.
const MAX_RESIDUAL: f32 = 0.22;
/// Share of the whole change that one step may make.
const MAX_STEP: f32 = 0.45;
/// Contrast below which a picture is a plain colour.
const PLAIN: f32 = 4.0;
/// Pictures of plain colour between two fades that belong to one transition.
const MAX_PLAIN_RUN: usize = 75;

/// The content detector.
#[derive(Debug, Default)]
pub struct ContentDetector {
    /// The latest pictures.
    recent: VecDeque<Thumb>,
    /// Number of the first of them.
    first: usize,
    /// Change from the picture before, for each picture.
    change: Vec<f32>,
    /// Whether each picture is a plain colour.
    plain: Vec<bool>,
    cuts: Vec<Found>,
    gradual: Vec<Found>,
}

/// A change and how strong it is; 1 is as likely a change of shot as not.
#[derive(Debug, Clone, Copy)]
struct Found {
    from: usize,
    to: usize,
    strength: f32,
}

impl ContentDetector {
    /// Before the first picture.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn thumb(&self, at: usize) -> Option<&Thumb> {
        self.recent.get(at.checked_sub(self.first)?)
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
        let best = WINDOWS.iter().filter_map(|&half| self.gradual_change(at, half));
        let best = best.max_by(|a, b| a.strength.total_cmp(&b.strength));
        self.gradual.extend(best);
    }

    /// How much stronger the change to picture `at` is than what is usual there; `None` when it is not.
    fn cut_strength(&self, at: usize) -> Option<f32> {
        let change = *self.change.get(at).filter(|_| at > 0)?;
        let excess = |change: f32| (change - USUAL_WEIGHT * self.usual_change(at)) / CUT_UNIT;
        if excess(change) < 0.2 {
            return None;
        }
        let mut least = change;
        for before in at.saturating_sub(FLASH)..at {
            let pairs = (at..at + FLASH).take_while(|after| after - before <= FLASH);
            for after in pairs {
                if let (Some(a), Some(b)) = (self.thumb(before), self.thumb(after)) {
                    least = least.min(difference(a, b));
                }
            }
        }
        Some(excess(least)).filter(|&strength| strength > 0.0)
    }

    /// The middle one of the changes around picture `at`.
    fn usual_change(&self, at: usize) -> f32 {
        let around = at.saturating_sub(AROUND).max(1)..(at + AROUND + 1).min(self.change.len());
        let mut around: Vec<f32> = around
            .filter(|&other| other != at)
            .map(|other| self.change[other])
            .collect();
        around.sort_unstable_by(f32::total_cmp);
        around.get(around.len() / 2).copied().unwrap_or(0.0)
    }

    /// A gradual change from `half` pictures before `at` to as many after it.
    fn gradual_change(&self, at: usize, half: usize) -> Option<Found> {
        let (from, to) = (at.checked_sub(half)?, at + half);
        let (start, end) = (self.thumb(from)?, self.thumb(to)?);
        let whole = compare::mean_difference(start, end);
        let structured = start.contrast >= PLAIN && end.contrast >= PLAIN;
        if whole < MIN_DIFFERENCE || (structured && compare::correlation(start, end) > SAME_STRUCTURE) {
            return None;
        }
        let mixed = [compare::blend, compare::wipe]
            .into_iter()
            .find(|mix| self.is_mixed(from, to, whole, mix))?;
        let shares = (from + 1..to).map(|at| self.thumb(at).map_or(0.0, |middle| mixed(start, middle, end).share));
        let (from, to) = extent(from, &shares.collect::<Vec<_>>());
        let strength = difference(start, end) / GRADUAL_UNIT;
        Some(Found { from, to, strength })
    }

    /// Whether the pictures between `from` and `to` are mixtures of both, with a share of the first that falls evenly.
    fn is_mixed(
        &self,
        from: usize,
        to: usize,
        whole: f32,
        mix: impl Fn(&Thumb, &Thumb, &Thumb) -> Mix,
    ) -> bool {
        let (Some(start), Some(end)) = (self.thumb(from), self.thumb(to)) else {
            return false;
        };
        let mut last = 1.0;
        let quarter = (to - from) / 4;
        for at in [from + quarter, from + 2 * quarter, from + 3 * quarter] {
            let Some(middle) = self.thumb(at) else { return false };
            let Mix { share, residual } = mix(start, middle, end);
            if residual > MAX_RESIDUAL * whole || share > last + 0.02 {
                return false;
            }
            last = share;
        }
        // One step that makes most of the change is a cut.
        let mut last = 1.0;
        for at in from + 1..=to {
            let Some(middle) = self.thumb(at) else { return false };
            let share = mix(start, middle, end).share;
            if last - share > MAX_STEP {
                return false;
            }
            last = share;
        }
        true
    }
}

/// The last picture that is still almost all of the first kind and the first that is almost none of it; `shares` begin
/// after picture `from`.
fn extent(from: usize, shares: &[f32]) -> (usize, usize) {
    let begun = shares.iter().position(|&share| share < 0.95).unwrap_or(shares.len());
    let over = shares.iter().rposition(|&share| share > 0.05).map_or(0, |last| last + 1);
    (from + begun, from + 1 + over.max(begun))
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
        self.change
            .push(self.recent.back().map_or(0.0, |last| difference(last, &thumb)));
        self.plain.push(thumb.contrast < PLAIN);
        self.recent.push_back(thumb);
        if self.recent.len() > 2 * REACH + 1 {
            self.recent.pop_front();
            self.first += 1;
        }
        if let Some(at) = (self.change.len() - 1).checked_sub(REACH) {
            self.judge(at);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, threshold: f64) -> Result<Vec<Transition>, ShotError> {
        for at in self.change.len().saturating_sub(REACH)..self.change.len() {
            self.judge(at);
        }
        let scored = |found: &Found| Transition {
            from: found.from,
            to: found.to,
            score: f64::from(found.strength / (found.strength + 1.0)),
        };
        let strong = |found: &&Found| scored(found).score >= threshold;
        let cuts = strongest(self.cuts.iter().filter(strong).copied().collect());
        let clear = |found: &&Found| !cuts.iter().any(|cut| found.from <= cut.to && cut.from <= found.to);
        let gradual = strongest(self.gradual.iter().filter(strong).filter(clear).copied().collect());
        let gradual = self.through_plain(gradual);
        let mut all: Vec<_> = cuts.iter().chain(&gradual).map(scored).collect();
        all.sort_unstable_by_key(|transition| transition.from);
        Ok(all)
    }
}

impl ContentDetector {
    /// Joins a fade to a plain colour with the fade from it. One without the other is no change of shot.
    fn through_plain(&self, found: Vec<Found>) -> Vec<Found> {
        let mut out: Vec<Found> = Vec::new();
        for next in found {
            match out.last_mut() {
                Some(last)
                    if next.from.saturating_sub(last.to) <= MAX_PLAIN_RUN
                        && (last.to..=next.from.max(last.to)).all(|at| self.plain[at]) =>
                {
                    last.to = next.to;
                    last.strength = last.strength.max(next.strength);
                }
                _ => out.push(next),
            }
        }
        let one_sided = |found: &Found| {
            let (before, after) = (self.plain[found.from], self.plain[found.to.min(self.plain.len() - 1)]);
            before && self.plain[..found.from].iter().all(|&plain| plain)
                || after && self.plain[found.to.min(self.plain.len() - 1)..].iter().all(|&plain| plain)
        };
        out.retain(|found| !one_sided(found));
        out
    }
}

/// Of changes that overlap, the strongest.
fn strongest(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| b.strength.total_cmp(&a.strength));
    let mut kept: Vec<Found> = Vec::new();
    for next in found {
        if !kept.iter().any(|other| next.from <= other.to && other.from <= next.to) {
            kept.push(next);
        }
    }
    kept.sort_unstable_by_key(|found| found.from);
    kept
}
