//! A video on its way into the cache: frames come in as embeddings, and the prompt is prefilled as far as they reach.

use std::collections::BTreeMap;

use reelsight_families::{Prompt, VideoShown};
use reelsight_media::{FrameError, FrameErrorKind};

use super::tell;
use crate::{
    EngineError, VideoPlan,
    evidence::ShownFrame,
    graphs::{Features, VisionEncoder},
    model::Model,
    pipeline::{Encoded, Pipeline, SeenFrame},
};

/// What has come so far.
#[derive(Debug)]
pub(crate) struct Watching {
    pub(super) pipeline: Pipeline,
    plan: VideoPlan,
    /// Place in the plan of each frame that arrived.
    seen: Vec<usize>,
    damaged: usize,
}

/// What was shown in the end.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) frames: Vec<ShownFrame>,
    pub(super) damaged: usize,
    /// The prompt told anew, when frames are missing.
    pub(super) retold: Option<(Prompt, VideoShown)>,
}

impl Watching {
    pub(super) fn new(pipeline: Pipeline, plan: VideoPlan) -> Self {
        Self {
            pipeline,
            plan,
            seen: Vec::new(),
            damaged: 0,
        }
    }

    /// Takes a batch; `features` are by place in the prompt, which is the order of arrival.
    pub(super) fn take(
        &mut self,
        batch: Vec<Encoded>,
        features: &mut BTreeMap<usize, Features>,
    ) -> Result<(), EngineError> {
        for Encoded {
            frames,
            features: rows,
        } in batch
        {
            features.insert(features.len(), rows);
            for &frame in &frames {
                self.see(frame)?;
            }
        }
        Ok(())
    }

    fn see(&mut self, SeenFrame { index, damaged }: SeenFrame) -> Result<(), EngineError> {
        // A frame that nobody planned would shift all time stamps.
        let wrong = |how: &str| EngineError::Internal {
            message: format!("frame {index} {how}"),
        };
        let place = self.plan.frames.binary_search(&index);
        let place = place.map_err(|_place| wrong("was not planned"))?;
        if self.seen.last().is_some_and(|&last| last >= place) {
            return Err(wrong("came out of order"));
        }
        self.seen.push(place);
        self.damaged += usize::from(damaged);
        Ok(())
    }

    /// Frames that came, and frames that were planned.
    pub(super) fn progress(&self) -> (usize, usize) {
        (self.seen.len(), self.plan.frames.len())
    }

    /// Up to which token `prompt` can be prefilled with the first `slots` features. Only what is told of frames that
    /// came as planned: a missing one changes the prompt from its first frame on.
    pub(super) fn reach(&self, prompt: &Prompt, slots: usize) -> usize {
        let as_planned = self.seen.last().is_none_or(|&last| last + 1 == self.seen.len());
        match slots.checked_sub(1) {
            _ if !as_planned => 0,
            Some(last) => prompt.frames.get(last).map_or(0, |slot| slot.block.end),
            None => prompt.frames.first().map_or(0, |slot| slot.block.start),
        }
    }

    /// No more frames will come. `video` is how the prompt was told.
    pub(super) fn finish(
        &self,
        model: &Model,
        video: &VideoShown,
        turns: &[reelsight_families::Turn],
    ) -> Result<Shown, EngineError> {
        let planned = self.plan.frames.len();
        if self.seen.is_empty() {
            return Err(EngineError::Frames(FrameError {
                kind: FrameErrorKind::Media,
                reason: "NO_FRAMES",
                message: format!("none of the {planned} planned frames could be decoded"),
            }));
        }
        let mut retold = None;
        if self.seen.len() < planned {
            let stamps = self.seen.iter().map(|&place| self.plan.times[place].secs());
            let video = VideoShown {
                stamps_secs: stamps.collect(),
                ..video.clone()
            };
            retold = Some((tell(model, Some(&video), turns)?, video));
        }
        let frames = self.seen.iter();
        Ok(Shown {
            frames: frames
                .map(|&place| ShownFrame::of(&self.plan, place, &self.seen))
                .collect(),
            damaged: self.damaged + planned - self.seen.len(),
            retold,
        })
    }
}

/// Fills the slots of `prompt` that show no picture.
pub(super) fn mark(
    model: &Model,
    prompt: &Prompt,
    features: &mut BTreeMap<usize, Features>,
) -> Result<(), EngineError> {
    let slots = prompt.frames.iter().enumerate();
    for (at, _) in slots.filter(|(_, slot)| slot.pictures.is_empty()) {
        let extra = model.vision.as_ref().and_then(VisionEncoder::extra);
        let marker = model.family.assemble(&[], None, extra);
        let marker = marker.map_err(|error| crate::model::prompt_error(&error))?;
        features.insert(at, marker.into());
    }
    Ok(())
}

/// Overwrites the rows of visual tokens in `embeds`, which begins at token `start` of the prompt.
pub(crate) fn place_frames(
    prompt: &Prompt,
    start: usize,
    features: &BTreeMap<usize, Features>,
    embeds: &mut [f32],
    hidden: usize,
) -> Result<(), EngineError> {
    let end = start + embeds.len() / hidden;
    let first = prompt.frames.partition_point(|slot| slot.visual.end <= start);
    for (at, slot) in prompt.frames.iter().enumerate().skip(first) {
        let (from, to) = (slot.visual.start.max(start), slot.visual.end.min(end));
        if from >= to {
            break;
        }
        let missing = || EngineError::Internal {
            message: format!("frame {at} has no embeddings, or too few"),
        };
        let frame = features.get(&at).ok_or_else(missing)?;
        let rows = (from - slot.visual.start) * hidden..(to - slot.visual.start) * hidden;
        let source = frame.get(rows).ok_or_else(missing)?;
        embeds[(from - start) * hidden..(to - start) * hidden].copy_from_slice(source);
    }
    Ok(())
}
