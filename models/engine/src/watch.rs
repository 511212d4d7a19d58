//! A video becomes a prefilled sequence: prefill follows the frames as their embeddings come in.

use std::collections::BTreeMap;

use reelsight_families::{Prompt, Turn, VideoShown};
use reelsight_media::{FrameError, FrameErrorKind};

use crate::{
    EngineConfig, EngineError, EngineEvent, OpenFrames, VideoPlan,
    control::{Control, StageClocks},
    events::Events,
    evidence::ShownFrame,
    graphs::{Features, Logits, VisionEncoder},
    model::{Model, prompt_error},
    pipeline::{Encoded, SeenFrame, Stages, overlapped, serial},
    plan::shown,
    sequence::Sequence,
};

/// What the stages of one job share.
pub(crate) struct JobContext<'a> {
    pub(crate) id: u64,
    pub(crate) model: &'a Model,
    pub(crate) config: &'a EngineConfig,
    pub(crate) control: &'a Control,
    pub(crate) clocks: &'a StageClocks,
    pub(crate) events: &'a Events,
}

/// A video that the model has seen, with the question that was prefilled after it.
pub(crate) struct Watched<'m> {
    pub(crate) sequence: Sequence<'m>,
    pub(crate) prompt: Prompt,
    /// After the last token of the prompt; `None` without a question.
    pub(crate) logits: Option<Logits>,
    pub(crate) video: VideoShown,
    pub(crate) frames: Vec<ShownFrame>,
    pub(crate) damaged: usize,
}

/// Looks at the planned frames and prefills `turns` about them.
pub(crate) fn watch<'m>(
    context: &JobContext<'m>,
    plan: &VideoPlan,
    open: OpenFrames,
    turns: &[Turn],
) -> Result<Watched<'m>, EngineError> {
    let JobContext {
        model,
        config,
        control,
        clocks,
        ..
    } = *context;
    let video = shown(plan);
    let prompt = model
        .family
        .prompt(&video, turns)
        .map_err(|error| prompt_error(&error))?;
    let limit = model.info.context_tokens;
    if prompt.ids.len() >= limit {
        return Err(EngineError::ContextExceeded {
            limit,
            actual: prompt.ids.len(),
        });
    }
    let mut progress = Progress {
        context,
        plan,
        sequence: Sequence::new(model, control)?,
        prompt,
        video: video.clone(),
        features: BTreeMap::new(),
        seen: Vec::new(),
        damaged: 0,
    };
    let stages = Stages {
        model,
        video: &video,
        control,
        clocks,
        batch: config.vision_batch.max(1),
    };
    if config.no_overlap {
        serial(stages, open, |batch| progress.take(batch))?;
    } else {
        overlapped(stages, context.id, open, |batch| {
            progress.take(batch)?;
            progress.prefill_what_is_there()
        })?;
    }
    progress.finish(turns)
}

struct Progress<'c, 'm> {
    context: &'c JobContext<'m>,
    plan: &'c VideoPlan,
    sequence: Sequence<'m>,
    prompt: Prompt,
    video: VideoShown,
    /// By place in the prompt, which is the order of arrival.
    features: BTreeMap<usize, Features>,
    /// Place in the plan of each frame that arrived.
    seen: Vec<usize>,
    damaged: usize,
}

impl<'m> Progress<'_, 'm> {
    fn take(&mut self, batch: Vec<Encoded>) -> Result<(), EngineError> {
        for Encoded { frames, features } in batch {
            self.features.insert(self.features.len(), features);
            self.see(&frames)?;
        }
        let frames = EngineEvent::Frames {
            done: self.seen.len(),
            total: self.plan.frames.len(),
        };
        self.context.events.send(frames, self.context.control)
    }

    fn see(&mut self, frames: &[SeenFrame]) -> Result<(), EngineError> {
        for &SeenFrame { index, damaged } in frames {
            // A frame that nobody planned would shift all time stamps.
            let Ok(place) = self.plan.frames.binary_search(&index) else {
                return Err(EngineError::Internal {
                    message: format!("frame {index} was not planned"),
                });
            };
            if self.seen.last().is_some_and(|&last| last >= place) {
                return Err(EngineError::Internal {
                    message: format!("frame {index} came out of order"),
                });
            }
            self.seen.push(place);
            self.damaged += usize::from(damaged);
        }
        Ok(())
    }

    /// Whether every frame that came has the place for which the prompt was made.
    fn as_planned(&self) -> bool {
        self.seen.last().is_none_or(|&last| last + 1 == self.seen.len())
    }

    fn prefill_what_is_there(&mut self) -> Result<(), EngineError> {
        match self.features.len().checked_sub(1).filter(|_| self.as_planned()) {
            Some(last) => self.prefill(self.prompt.frames[last].block.end).map(drop),
            None => Ok(()),
        }
    }

    fn prefill(&mut self, end: usize) -> Result<Option<Logits>, EngineError> {
        let JobContext {
            config,
            control,
            clocks,
            ..
        } = *self.context;
        let Self {
            sequence,
            prompt,
            features,
            ..
        } = self;
        clocks
            .prefill
            .time(|| sequence.prefill(prompt, end, features, config.prefill_chunk, control))
    }

    fn finish(mut self, turns: &[Turn]) -> Result<Watched<'m>, EngineError> {
        let JobContext { control, events, .. } = *self.context;
        let planned = self.plan.frames.len();
        if self.seen.is_empty() {
            return Err(EngineError::Frames(FrameError {
                kind: FrameErrorKind::Media,
                reason: "NO_FRAMES",
                message: format!("none of the {planned} planned frames could be decoded"),
            }));
        }
        if self.seen.len() < planned {
            self.rebuild(turns)?;
        }
        self.mark()?;
        events.send(EngineEvent::Prefill, control)?;
        let logits = self.prefill(self.prompt.ids.len())?;
        let frames = self
            .seen
            .iter()
            .map(|&place| ShownFrame::of(self.plan, place, &self.seen))
            .collect();
        Ok(Watched {
            logits: logits.filter(|_| !turns.is_empty()),
            sequence: self.sequence,
            prompt: self.prompt,
            video: self.video,
            frames,
            damaged: self.damaged + planned - self.seen.len(),
        })
    }

    /// Fills the slots that show no picture.
    fn mark(&mut self) -> Result<(), EngineError> {
        let model = self.context.model;
        let slots = self.prompt.frames.iter().enumerate();
        for (at, _) in slots.filter(|(_, slot)| slot.pictures.is_empty()) {
            let extra = model.vision.as_ref().and_then(VisionEncoder::extra);
            let marker = model.family.assemble(&[], None, extra);
            let marker = marker.map_err(|error| prompt_error(&error))?;
            self.features.insert(at, marker.into());
        }
        Ok(())
    }

    /// Tells the prompt anew with the frames that came: it names their number and their times.
    fn rebuild(&mut self, turns: &[Turn]) -> Result<(), EngineError> {
        let JobContext { model, control, .. } = *self.context;
        self.video.stamps_secs = self
            .seen
            .iter()
            .map(|&place| self.plan.times[place].secs())
            .collect();
        self.prompt = model
            .family
            .prompt(&self.video, turns)
            .map_err(|error| prompt_error(&error))?;
        let before_frames = self.prompt.frames.first().map_or(0, |slot| slot.block.start);
        let common = self.sequence.common_prefix(&self.prompt.ids).min(before_frames);
        self.sequence.truncate(common, control)
    }
}
