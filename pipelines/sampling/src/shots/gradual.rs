//! Changes that take several pictures: dissolves, fades and wipes.

use super::{
    compare::{self, Mix, Thumb, difference},
    content::{Found, Recent, Track},
};

/// Half-lengths of the windows in which changes are looked for.
const WINDOWS: [usize; 6] = [4, 6, 9, 13, 19, 28];
/// How far before and after a change pictures must differ, too, and how many of them are looked at.
const LASTING: usize = 24;
const LASTING_STEP: usize = 4;
/// Pictures that are needed on each side.
pub(super) const REACH: usize = WINDOWS[WINDOWS.len() - 1] + LASTING;
/// Mean difference that both ends of a window have at least.
const MIN_DIFFERENCE: f32 = 12.0;
/// Difference of both ends that is as likely a change of shot as not.
const UNIT: f32 = 1.5;
/// The same for wipes, which are rarer than things that look like them.
const WIPE_UNIT: f32 = 2.2;
/// Correlation above which both ends show the same, brighter or darker.
const SAME_STRUCTURE: f32 = 0.6;
/// Residual of mixtures as a share of the difference of both ends: of one picture, and on average.
const MAX_RESIDUAL: f32 = 0.36;
const MAX_MEAN_RESIDUAL: f32 = 0.2;
/// Share of the whole change that one step may make.
const MAX_STEP: f32 = 0.45;
/// How much the share of the first picture may rise from one picture to the next.
const MAX_RISE: f32 = 0.05;
/// Share of the difference between neighbours that is left after motion: below it, things move and nothing is wiped.
const MIN_UNEXPLAINED: f32 = 0.5;
/// Contrast below which a picture is a plain colour...
const PLAIN: f32 = 4.0;
/// ...or nearly one: the dark end of a fade.
const NEARLY_PLAIN: f32 = 12.0;
/// Nearly plain pictures between two fades that belong to one change.
const MAX_PLAIN_RUN: usize = 75;

/// The best explanation of the pictures around `at` as a change of shot.
pub(super) fn find(recent: &Recent, track: &Track, at: usize) -> Option<Found> {
    let windows = WINDOWS.iter().filter_map(|&half| Window::new(recent, at, half));
    windows
        .filter_map(|window| window.change(recent, track))
        .max_by(|a, b| a.strength.total_cmp(&b.strength))
}

/// Pictures from `from` to `to`, which differ.
struct Window<'a> {
    from: usize,
    to: usize,
    start: &'a Thumb,
    end: &'a Thumb,
    /// Mean difference of both.
    whole: f32,
}

impl<'a> Window<'a> {
    fn new(recent: &'a Recent, at: usize, half: usize) -> Option<Self> {
        let (from, to) = (at.checked_sub(half)?, at + half);
        let (start, end) = (recent.get(from)?, recent.get(to)?);
        let whole = compare::mean_difference(start, end);
        (whole >= MIN_DIFFERENCE && !is_same_structure(start, end)).then_some(Self {
            from,
            to,
            start,
            end,
            whole,
        })
    }

    fn change(&self, recent: &Recent, track: &Track) -> Option<Found> {
        let wiped = || {
            let steps = &track.steps[self.from + 1..=self.to];
            let still: f32 = steps.iter().map(|step| step.still).sum();
            let left: f32 = steps.iter().map(|step| step.residual).sum();
            (left >= MIN_UNEXPLAINED * still)
                .then(|| self.shares(recent, compare::wipe))
                .flatten()
        };
        let blended = self.shares(recent, compare::blend);
        let unit = if blended.is_some() { UNIT } else { WIPE_UNIT };
        let shares = blended.or_else(wiped)?;
        let (begun, over) = self.extent(&shares)?;
        let (from, to) = (self.from + begun, self.from + over);
        let strength = lasting_difference(recent, self.from, self.to) / unit;
        Some(Found { from, to, strength })
    }

    /// The share of the first picture in each, when every one is a mixture and the share falls steadily.
    fn shares(&self, recent: &Recent, mix: impl Fn(&Thumb, &Thumb, &Thumb) -> Mix) -> Option<Vec<f32>> {
        let mut shares = vec![1.0];
        let mut residuals = 0.0;
        for at in self.from + 1..=self.to {
            let Mix { share, residual } = mix(self.start, recent.get(at)?, self.end);
            let last = shares[shares.len() - 1];
            // One step that makes most of the change is a cut.
            let steady = share <= last + MAX_RISE && last - share <= MAX_STEP;
            if !steady || residual > MAX_RESIDUAL * self.whole {
                return None;
            }
            residuals += residual;
            shares.push(share);
        }
        let mean = residuals / shares.len() as f32;
        (mean <= MAX_MEAN_RESIDUAL * self.whole).then_some(shares)
    }

    /// Around the place where the share of the first picture falls below a half: the last place where it is almost whole
    /// and the first where it is almost nothing. `None` when that is not in the middle of the window, where another one
    /// sees more of it.
    fn extent(&self, shares: &[f32]) -> Option<(usize, usize)> {
        let half = shares.iter().position(|&share| share < 0.5)?;
        let length = self.to - self.from;
        if !(length / 3..=length - length / 3).contains(&half) {
            return None;
        }
        let begun = shares[..half]
            .iter()
            .rposition(|&share| share > 0.93)
            .unwrap_or(0);
        let over = shares[half..].iter().position(|&share| share < 0.07);
        Some((begun, over.map_or(length, |over| half + over)))
    }
}

/// How different the pictures before `from` are from those after `to`: what passes in front goes away again.
fn lasting_difference(recent: &Recent, from: usize, to: usize) -> f32 {
    let distances = || (0..=LASTING).step_by(LASTING_STEP);
    let before = distances().filter_map(|back| recent.get(from.checked_sub(back)?));
    let after = || distances().filter_map(|on| recent.get(to + on));
    let pairs = before.flat_map(|a| after().map(move |b| (a, b)));
    let unexplained = pairs.map(|(a, b)| {
        if is_same_structure(a, b) {
            0.0
        } else {
            difference(a, b).unexplained()
        }
    });
    unexplained.fold(f32::INFINITY, f32::min)
}

/// Whether both show the same, brighter or darker.
fn is_same_structure(a: &Thumb, b: &Thumb) -> bool {
    let structured = a.contrast >= PLAIN && b.contrast >= PLAIN;
    structured && compare::correlation(a, b) > SAME_STRUCTURE
}

/// Whether `last` fades to a plain colour and `next` from it.
fn is_one_fade(last: &Found, next: &Found, nearly_plain: &impl Fn(usize) -> bool) -> bool {
    let between = last.to..next.from;
    let close = between.len() <= 2 || (between.len() <= MAX_PLAIN_RUN && between.clone().all(nearly_plain));
    close && (last.from..next.to).any(nearly_plain)
}

/// Joins a fade to a plain colour with the fade from it. At the ends of the video, one without the other is no change
/// of shot.
pub(super) fn whole_changes(found: Vec<Found>, track: &Track) -> Vec<Found> {
    let nearly_plain = |at: usize| {
        track
            .contrast
            .get(at)
            .is_none_or(|&contrast| contrast < NEARLY_PLAIN)
    };
    let mut out: Vec<Found> = Vec::new();
    for next in found {
        match out.last_mut() {
            Some(last) if is_one_fade(last, &next, &nearly_plain) => {
                last.to = next.to;
                last.strength = last.strength.max(next.strength);
            }
            _ => out.push(next),
        }
    }
    let count = track.contrast.len();
    out.retain(|found| {
        let nothing_before = (0..=found.from).all(nearly_plain);
        let nothing_after = (found.to..count).all(nearly_plain);
        !nothing_before && !nothing_after
    });
    out
}
