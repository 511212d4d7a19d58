//! Which frames an answer rests on.
//!
//! A model may bring a grounding graph that says so ([`ground`]). The other measure works on any decoder graph: the
//! likelihood of the given answer while all other frames are hidden from the question and the answer by zeros in the
//! attention mask. A frame that alone makes the answer likely is evidence for it (sufficiency); when none does alone,
//! frames without which it gets less likely are (necessity).

use reelsight_families::{FrameSlot, Prompt};

use crate::{
    EngineError, EvidenceSpan, VideoPlan,
    control::Control,
    graphs::{Logits, Step},
    kv::KvCache,
    model::Model,
    sampling::log_probability,
};

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

/// How much of an answer each frame carries.
pub(crate) trait EvidenceMethod {
    /// One score per group, none negative. `likelihood` gives the logarithm of the answer's probability when only the
    /// groups marked `true` are shown.
    fn scores(
        &self,
        groups: usize,
        likelihood: &mut dyn FnMut(&[bool]) -> Result<f64, EngineError>,
    ) -> Result<Vec<f64>, EngineError>;
}

/// Sufficiency first, then necessity.
#[derive(Debug)]
pub(crate) struct Likelihood;

impl EvidenceMethod for Likelihood {
    fn scores(
        &self,
        groups: usize,
        likelihood: &mut dyn FnMut(&[bool]) -> Result<f64, EngineError>,
    ) -> Result<Vec<f64>, EngineError> {
        let all = likelihood(&vec![true; groups])?;
        let none = likelihood(&vec![false; groups])?;
        let mut with = |background: bool, offset: f64, sign: f64| -> Result<Vec<f64>, EngineError> {
            let one = |group: usize| {
                let shown: Vec<bool> = (0..groups).map(|other| (other == group) != background).collect();
                Ok((sign * (likelihood(&shown)? - offset)).max(0.0))
            };
            (0..groups).map(one).collect()
        };
        let alone = with(false, none, 1.0)?;
        let best = alone.iter().copied().fold(0.0, f64::max);
        if groups < 2 || best >= NOISE.max(SUFFICIENT * (all - none)) {
            return Ok(alone);
        }
        let without = with(true, all, -1.0)?;
        Ok(if without.iter().any(|&score| score >= NOISE) {
            without
        } else {
            alone
        })
    }
}

/// What is needed to ask the decoder again.
pub(crate) struct Scene<'a> {
    pub(crate) model: &'a Model,
    pub(crate) prompt: &'a Prompt,
    /// Holds at least the prompt up to the end of the video.
    pub(crate) cache: &'a KvCache,
    pub(crate) frames: &'a [ShownFrame],
    /// The answer without its end-of-turn token.
    pub(crate) answer: &'a [u32],
}

/// The chance of each frame to be evidence, as the model's grounding graph sees it; `logits` are those after the
/// prompt. `None` when the model has no such graph.
pub(crate) fn ground(
    model: &Model,
    prompt: &Prompt,
    cache: &KvCache,
    logits: &Logits,
    control: &Control,
) -> Result<Option<Vec<f64>>, EngineError> {
    let (Some(grounding), Some(hidden)) = (&model.grounding, logits.hidden()) else {
        return Ok(None);
    };
    let scores = grounding.run(hidden, &model.decoder.named(cache), cache.len, control)?;
    let chance = |slot: &FrameSlot| {
        let chance = sigmoid(log_sum_exp(&scores[slot.visual.clone()]));
        slot.pictures.clone().map(move |_| chance)
    };
    Ok(Some(prompt.frames.iter().flat_map(chance).collect()))
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

/// Time ranges that carry the answer, best first: by `grounded` where the model says, else by likelihood.
pub(crate) fn cite(
    scene: &Scene<'_>,
    grounded: Option<&[f64]>,
    control: &Control,
) -> Result<Vec<EvidenceSpan>, EngineError> {
    let frames = scene.frames.len();
    if scene.answer.is_empty() || frames == 0 {
        return Ok(Vec::new());
    }
    if let Some(chances) = grounded {
        return Ok(spans(scene.frames, chances, GROUNDED.min(highest(chances))));
    }
    // Frames of one slot can only be shown or hidden together.
    let size = frames
        .div_ceil(MAX_GROUPS)
        .next_multiple_of(scene.model.family.frames_per_slot());
    let groups = frames.div_ceil(size);
    let probe = Probe::new(scene, control)?;
    let mut likelihood = |shown: &[bool]| probe.likelihood(|frame| shown[frame / size], control);
    let scores = Likelihood.scores(groups, &mut likelihood)?;
    let scores: Vec<f64> = (0..frames).map(|frame| scores[frame / size]).collect();
    Ok(spans(scene.frames, &scores, CITED * highest(&scores)))
}

fn highest(scores: &[f64]) -> f64 {
    scores.iter().copied().fold(0.0, f64::max)
}

/// The question and the answer, ready to be run again after the video's part of the cache.
pub(crate) struct Probe<'a> {
    scene: &'a Scene<'a>,
    video: KvCache,
    embeds: Vec<f32>,
}

impl<'a> Probe<'a> {
    pub(crate) fn new(scene: &'a Scene<'a>, control: &Control) -> Result<Self, EngineError> {
        let video_tokens = scene.prompt.video_tokens();
        let video = scene
            .cache
            .head(video_tokens)
            .map_err(|error| control.error(error))?;
        let mut tail = scene.prompt.ids[video_tokens..].to_vec();
        // The last token of the answer predicts nothing that is scored.
        tail.extend(&scene.answer[..scene.answer.len() - 1]);
        Ok(Self {
            video,
            embeds: scene.model.embed.run(&tail, control)?,
            scene,
        })
    }

    /// Logarithm of the answer's probability when only the frames that satisfy `shown` can be seen.
    pub(crate) fn likelihood(
        &self,
        shown: impl Fn(usize) -> bool,
        control: &Control,
    ) -> Result<f64, EngineError> {
        let Scene {
            model,
            prompt,
            answer,
            ..
        } = self.scene;
        let mut mask = vec![true; self.video.len];
        // A slot without pictures is a marker of the whole video.
        for slot in prompt.frames.iter().filter(|slot| !slot.pictures.is_empty()) {
            mask[slot.block.clone()].fill(shown(slot.pictures.start));
        }
        let step = Step {
            embeds: self.embeds.clone(),
            shown: Some(&mask),
            keep: answer.len(),
        };
        let (logits, _) = model.decoder.run(&self.video, step, control)?;
        Ok(answer
            .iter()
            .enumerate()
            .map(|(at, &id)| log_probability(logits.row(at), id))
            .sum())
    }
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
        let mut passes = 0;
        let mut likelihood = |shown: &[bool]| {
            passes += 1;
            Ok(of(shown))
        };
        (Likelihood.scores(groups, &mut likelihood).unwrap(), passes)
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
