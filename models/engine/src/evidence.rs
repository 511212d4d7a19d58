//! Which frames an answer rests on.
//!
//! A model may bring a grounding graph that says so ([`grounded`]). The other measure works on any decoder graph: the
//! likelihood of the given answer while all other frames are hidden from the question and the answer by zeros in the
//! attention mask. A frame that alone makes the answer likely is evidence for it (sufficiency); when none does alone,
//! frames without which it gets less likely are (necessity).

use reelsight_families::{FrameSlot, Prompt};

use crate::{EvidenceSpan, VideoPlan};

/// Groups of neighbouring frames that are told apart: at most `2 * MAX_GROUPS + 2` passes are made.
const MAX_GROUPS: usize = 32;
/// Part of the video's whole effect that a frame must have alone to count as sufficient.
const SUFFICIENT: f64 = 0.5;
/// Effects smaller than this many nats are noise.
const NOISE: f64 = 0.02;
/// Frames with less than this part of the best frame's score are not cited.
const CITED: f64 = 0.5;
/// Frames that a grounding graph gives at least this chance are cited; when none has it, the best one is.
const GROUNDED: f64 = 0.4;

/// A frame that the model was shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShownFrame {
    pub(crate) index: u64,
    /// A frame stands for the times that it is nearest to: from half way after the one before, or from its own time.
    pub(crate) start_secs: f64,
    /// To half way before the next one, or to where the last one stops being shown.
    pub(crate) end_secs: f64,
}

impl ShownFrame {
    /// The frame at `place` of `plan`, when those at `seen` were shown.
    pub(crate) fn of(plan: &VideoPlan, place: usize, seen: &[usize]) -> Self {
        let time = plan.times[place].secs();
        let half_way = |other: &usize| f64::midpoint(time, plan.times[*other].secs());
        let before = seen[..seen.partition_point(|&other| other < place)].last();
        let next = seen.get(seen.partition_point(|&other| other <= place));
        let start_secs = before.map_or(time, half_way);
        let end_secs = next.map_or(plan.ends_secs[place], half_way);
        Self {
            index: plan.frames[place],
            start_secs,
            end_secs,
        }
    }
}

/// How much of an answer each frame carries, found by asking for likelihoods one after the other.
pub(crate) trait EvidenceMethod {
    /// Which groups of frames to show for the next likelihood; `None` when the scores are there.
    fn next(&self) -> Option<Vec<bool>>;

    /// Takes the logarithm of the answer's probability for what [`EvidenceMethod::next`] wanted.
    fn observe(&mut self, likelihood: f64);

    /// One score per group, none negative.
    fn scores(&self) -> Vec<f64>;
}

/// Sufficiency first, then necessity.
#[derive(Debug)]
pub(crate) struct Likelihood {
    groups: usize,
    /// With all groups, with none, with each alone, without each: in this order, as far as they are known.
    known: Vec<f64>,
}

impl Likelihood {
    pub(crate) fn new(groups: usize) -> Self {
        Self {
            groups,
            known: Vec::new(),
        }
    }

    fn alone(&self) -> Vec<f64> {
        let none = self.known.get(1).copied().unwrap_or_default();
        let alone = self.known.iter().skip(2).take(self.groups);
        alone.map(|likelihood| (likelihood - none).max(0.0)).collect()
    }

    fn without(&self) -> Vec<f64> {
        let all = self.known.first().copied().unwrap_or_default();
        let without = self.known.iter().skip(2 + self.groups);
        without.map(|likelihood| (all - likelihood).max(0.0)).collect()
    }

    /// Whether some group alone makes the answer likely.
    fn suffices(&self) -> bool {
        let effect = self.known[0] - self.known[1];
        self.groups < 2 || highest(&self.alone()) >= NOISE.max(SUFFICIENT * effect)
    }
}

impl EvidenceMethod for Likelihood {
    fn next(&self) -> Option<Vec<bool>> {
        let groups = self.groups;
        let differs = |which: usize, shown: bool| (0..groups).map(|at| (at == which) == shown).collect();
        match self.known.len() {
            0 => Some(vec![true; groups]),
            1 => Some(vec![false; groups]),
            known if known < 2 + groups => Some(differs(known - 2, true)),
            known if known < 2 + 2 * groups && !self.suffices() => Some(differs(known - 2 - groups, false)),
            _ => None,
        }
    }

    fn observe(&mut self, likelihood: f64) {
        self.known.push(likelihood);
    }

    fn scores(&self) -> Vec<f64> {
        let without = self.without();
        if without.iter().any(|&score| score >= NOISE) {
            without
        } else {
            self.alone()
        }
    }
}

/// The chance of each frame to be evidence, from the scores that a grounding graph gave the tokens of `prompt`.
pub(crate) fn chances(prompt: &Prompt, scores: &[f32]) -> Vec<f64> {
    let chance = |slot: &FrameSlot| {
        let scores = scores.get(slot.visual.clone()).unwrap_or_default();
        let chance = sigmoid(log_sum_exp(scores));
        slot.pictures.clone().map(move |_| chance)
    };
    prompt.frames.iter().flat_map(chance).collect()
}

fn log_sum_exp(scores: &[f32]) -> f64 {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(highest)
        + scores
            .iter()
            .map(|score| f64::from(score - highest).exp())
            .sum::<f64>()
            .ln()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Time ranges that the model itself says carry the answer, best first.
pub(crate) fn grounded(frames: &[ShownFrame], chances: &[f64]) -> Vec<EvidenceSpan> {
    spans(frames, chances, GROUNDED.min(highest(chances)))
}

/// Neighbouring frames that are shown or hidden together when `frames` are, `per_slot` of which share a slot of the
/// prompt.
pub(crate) fn group_size(frames: usize, per_slot: usize) -> usize {
    frames.div_ceil(MAX_GROUPS).next_multiple_of(per_slot)
}

/// Time ranges that carry the answer by likelihood, best first; `scores` are those of groups of `size` frames.
pub(crate) fn likeliest(frames: &[ShownFrame], scores: &[f64], size: usize) -> Vec<EvidenceSpan> {
    let scores: Vec<f64> = (0..frames.len()).map(|frame| scores[frame / size]).collect();
    spans(frames, &scores, CITED * highest(&scores))
}

fn highest(scores: &[f64]) -> f64 {
    scores.iter().copied().fold(0.0, f64::max)
}

/// Merges the frames that score at least `threshold` into ranges; scores become shares of the whole.
fn spans(frames: &[ShownFrame], scores: &[f64], threshold: f64) -> Vec<EvidenceSpan> {
    let cited = |score: f64| score > 0.0 && score >= threshold;
    let total: f64 = scores.iter().sum();
    let mut spans: Vec<EvidenceSpan> = Vec::new();
    let mut previous = None;
    for (at, (frame, &score)) in frames.iter().zip(scores).enumerate() {
        if !cited(score) {
            continue;
        }
        #[expect(clippy::cast_possible_truncation, reason = "a share of one")]
        let share = (score / total) as f32;
        match spans
            .last_mut()
            .filter(|_| previous.is_some_and(|previous: usize| previous + 1 == at))
        {
            Some(span) => {
                span.end_secs = frame.end_secs;
                span.frames.push(frame.index);
                span.score += share;
            }
            None => spans.push(EvidenceSpan {
                start_secs: frame.start_secs,
                end_secs: frame.end_secs,
                frames: vec![frame.index],
                score: share,
            }),
        }
        previous = Some(at);
    }
    spans.sort_by(|a, b| b.score.total_cmp(&a.score));
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: u32) -> Vec<ShownFrame> {
        let frame = |at: u32| ShownFrame {
            index: u64::from(at) * 25,
            start_secs: f64::from(at),
            end_secs: f64::from(at) + 0.5,
        };
        (0..count).map(frame).collect()
    }

    fn likelihoods(groups: usize, of: impl Fn(&[bool]) -> f64) -> (Vec<f64>, usize) {
        let mut method = Likelihood::new(groups);
        let mut passes = 0;
        while let Some(shown) = method.next() {
            passes += 1;
            method.observe(of(&shown));
        }
        (method.scores(), passes)
    }

    #[test]
    fn neighbours_merge_and_the_best_span_comes_first() {
        let spans = spans(&frames(6), &[1.0, 0.1, 0.0, 2.0, 1.5, 0.4], 1.0);
        assert_eq!(spans.len(), 2);
        assert_eq!((spans[0].start_secs, spans[0].end_secs), (3.0, 4.5));
        assert_eq!(spans[0].frames, [75, 100]);
        assert!((spans[0].score - 0.7).abs() < 1e-6 && (spans[1].score - 0.2).abs() < 1e-6);
        assert_eq!((spans[1].start_secs, spans[1].end_secs), (0.0, 0.5));
        assert!(super::spans(&frames(3), &[0.0; 3], 0.0).is_empty());
    }

    #[test]
    fn visual_tokens_add_up_to_a_chance() {
        assert!((log_sum_exp(&[0.0, 0.0]) - 2.0_f64.ln()).abs() < 1e-9);
        assert!((log_sum_exp(&[-900.0, -900.0]) - (2.0_f64.ln() - 900.0)).abs() < 1e-9);
        assert!((sigmoid(0.0) - 0.5).abs() < 1e-12 && sigmoid(-900.0) >= 0.0);
    }

    #[test]
    fn a_frame_that_suffices_alone_is_the_evidence() {
        let (scores, passes) = likelihoods(5, |shown| if shown[3] { -0.1 } else { -4.0 });
        assert_eq!(
            scores.iter().map(|score| *score > 1.0).collect::<Vec<_>>(),
            [false, false, false, true, false]
        );
        assert_eq!(passes, 7);
    }

    #[test]
    fn frames_that_only_together_suffice_are_found_by_leaving_them_out() {
        let (scores, passes) = likelihoods(4, |shown| if shown[1] && shown[2] { -0.1 } else { -4.0 });
        assert_eq!(
            scores.iter().map(|score| *score > 1.0).collect::<Vec<_>>(),
            [false, true, true, false]
        );
        assert_eq!(passes, 10);
    }

    #[test]
    fn a_frame_stands_for_the_times_that_it_is_nearest_to() {
        let base = reelsight_media::TimeBase::new(1, 10).unwrap();
        let time = |pts| reelsight_media::MediaTime {
            pts: reelsight_media::Pts(pts),
            base,
        };
        let plan = VideoPlan {
            frames: vec![0, 1, 2],
            times: vec![time(0), time(10), time(20)],
            ends_secs: vec![0.1, 1.1, 2.1],
            duration_secs: 2.1,
            source_fps: 10.0,
            effective_fps: 1.0,
            picture: None,
            visual_tokens: 27,
            reduced: None,
        };
        let ranges = |seen: &[usize]| {
            let frames = seen.iter().map(|&at| ShownFrame::of(&plan, at, seen));
            frames
                .map(|frame| (frame.start_secs, frame.end_secs))
                .collect::<Vec<_>>()
        };
        assert_eq!(ranges(&[0, 1, 2]), [(0.0, 0.5), (0.5, 1.5), (1.5, 2.1)]);
        assert_eq!(ranges(&[0, 2]), [(0.0, 1.0), (1.0, 2.1)]);
    }
}
