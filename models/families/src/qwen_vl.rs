//! Qwen2-VL and Qwen2.5-VL: pictures of any size, frames in pairs, positions on three axes.
//!
//! # Source
//! transformers 5.23 `Qwen2VLProcessor`, `Qwen2_5_VLProcessor` and `get_rope_index` of both models.

use std::sync::Arc;

use reelsight_media::RgbFrame;
use reelsight_preprocess::{QwenVlPreprocess, VisionInput};
use reelsight_registry::{ModelFolder, MropeTextRestart};
use reelsight_sampling::Rule;
use reelsight_text::{ChatTemplate, Tokenizer};
use serde_json::Value;

use crate::{
    Conversation, Family, FamilyError, Media, Positions, Prompt, VideoShown,
    layout::{Expansion, Marks, SlotPlan, lay_out, messages},
    load::special_token,
    settings::{
        TextSizes, backend, filter, image_processor, normalise, side, template, token_id, video_processor,
    },
};

const IMAGE: &str = "<|image_pad|>";
const VIDEO: &str = "<|video_pad|>";
const FILE: &str = "preprocessor_config.json";
/// `tokens_per_second` of the Qwen2.5-VL configuration class.
const DEFAULT_TOKENS_PER_SECOND: f64 = 4.0;
/// Frames per second, least and most frames of the video processor.
const DEFAULT_FPS: f64 = 2.0;
const DEFAULT_MIN_FRAMES: usize = 4;
const DEFAULT_MAX_FRAMES: usize = 768;

/// A model of the family.
#[derive(Debug)]
pub(crate) struct QwenVl {
    name: String,
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
    bos: Option<String>,
    sizes: TextSizes,
    visual: [u32; 2],
    images: QwenVlPreprocess,
    videos: QwenVlPreprocess,
    fps: f64,
    frames: (usize, usize),
    /// Steps of the time axis per second; `None` where each pair of frames is one step.
    tokens_per_second: Option<f64>,
    restart: MropeTextRestart,
}

/// Tokens along time, height and width of one medium, and how far its pairs of frames are apart on the time axis.
#[derive(Debug, Clone, Copy)]
struct Grid {
    times: u32,
    rows: u32,
    columns: u32,
    interval: f32,
}

impl QwenVl {
    pub(crate) fn load(folder: &ModelFolder, tokenizer: &Arc<Tokenizer>) -> Result<Self, FamilyError> {
        let vision = &folder.config()["vision_config"];
        let missing = || FamilyError::config("chat_template.jinja", "there is none");
        let (stills, videos) = (image_processor(folder)?, video_processor(folder)?);
        let number = |name: &str, default: usize| {
            let value = videos[name]
                .as_u64()
                .and_then(|value| usize::try_from(value).ok());
            value.filter(|&value| value > 0).unwrap_or(default)
        };
        let timed = folder.family() == "qwen2_5_vl";
        let per_second = || {
            vision["tokens_per_second"]
                .as_f64()
                .unwrap_or(DEFAULT_TOKENS_PER_SECOND)
        };
        Ok(Self {
            name: folder.family().to_owned(),
            template: template(folder)?.ok_or_else(missing)?,
            bos: special_token(
                &folder.json("tokenizer_config.json")?.unwrap_or_default(),
                "bos_token",
            ),
            sizes: TextSizes::read(folder, tokenizer)?,
            visual: [token_id(tokenizer, IMAGE)?, token_id(tokenizer, VIDEO)?],
            images: preprocess(folder, &stills, &QwenVlPreprocess::images())?,
            videos: preprocess(folder, &videos, &QwenVlPreprocess::videos())?,
            fps: videos["fps"]
                .as_f64()
                .filter(|&fps| fps > 0.0)
                .unwrap_or(DEFAULT_FPS),
            frames: (
                number("min_frames", DEFAULT_MIN_FRAMES),
                number("max_frames", DEFAULT_MAX_FRAMES),
            ),
            tokens_per_second: timed.then(per_second),
            restart: folder.manifest().mrope_text_restart,
            tokenizer: Arc::clone(tokenizer),
        })
    }

    fn expansion(&self, medium: &Media) -> Result<(Expansion, Grid), FamilyError> {
        let (mark, processor, patches, interval) = match medium {
            Media::Image { width, height } => {
                (IMAGE, &self.images, self.images.grid(*width, *height, 1)?, 1.0)
            }
            Media::Video(video) => {
                let (width, height) = video.size.ok_or_else(|| FamilyError::Refused {
                    what: "a video of unknown size",
                    why: "the number of visual tokens depends on the size of its frames".into(),
                })?;
                let patches = self.videos.grid(width, height, video.stamps_secs.len())?;
                (VIDEO, &self.videos, patches, self.interval(video))
            }
        };
        let [times, rows, columns] = patches;
        let per_slot = processor.tokens([1, rows, columns]);
        let frames = match medium {
            Media::Image { .. } => 1,
            Media::Video(video) => video.stamps_secs.len(),
        };
        let group = self.frames_per_slot();
        let slots = (0..times as usize).map(|at| SlotPlan {
            tokens: per_slot,
            pictures: at * group..frames.min((at + 1) * group),
        });
        let expansion = Expansion {
            mark: mark.to_owned(),
            text: mark.repeat(per_slot * times as usize),
            first_block: 0,
            slots: slots.collect(),
            closing: 0,
        };
        let (rows, columns) = (rows / processor.merge, columns / processor.merge);
        Ok((
            expansion,
            Grid {
                times,
                rows,
                columns,
                interval,
            },
        ))
    }

    /// Steps of the time axis from one pair of frames to the next. The reference computes in f32.
    #[expect(clippy::cast_possible_truncation, reason = "the reference computes in f32")]
    fn interval(&self, video: &VideoShown) -> f32 {
        let Some(per_second) = self.tokens_per_second else {
            return 1.0;
        };
        let sampled_fps = if video.duration_secs > 0.0 {
            video.stamps_secs.len() as f64 / video.duration_secs
        } else {
            self.fps
        };
        let seconds = f64::from(self.videos.temporal_patch) / sampled_fps;
        per_second as f32 * seconds as f32
    }

    fn positions(&self, prompt: &Prompt, grids: &[Grid]) -> Positions {
        let mut axes = Vec::with_capacity(prompt.ids.len());
        let mut current = 0;
        for (medium, grid) in grids.iter().enumerate() {
            let slots = prompt.frames.iter().filter(|slot| slot.medium == medium);
            let start = slots.map(|slot| slot.visual.start).min().unwrap_or(axes.len());
            text(&mut axes, &mut current, start);
            let mut largest = 0;
            for time in (0..grid.times).map(|time| step(time, grid.interval)) {
                largest = largest.max(time);
                for row in 0..grid.rows {
                    for column in 0..grid.columns {
                        axes.push([current + time, current + row, current + column]);
                    }
                }
            }
            let plane = grid.rows.max(grid.columns);
            current += match self.restart {
                MropeTextRestart::MaxAll => plane.max(largest + 1),
                MropeTextRestart::MaxHw => plane,
            };
        }
        text(&mut axes, &mut current, prompt.ids.len());
        Positions::new(axes)
    }
}

/// Text up to token `end`: all axes go on by one.
fn text(axes: &mut Vec<[u32; 3]>, current: &mut u32, end: usize) {
    while axes.len() < end {
        axes.push([*current; 3]);
        *current += 1;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the reference truncates here"
)]
fn step(time: u32, interval: f32) -> u32 {
    (time as f32 * interval) as u32
}

impl Family for QwenVl {
    fn name(&self) -> &str {
        &self.name
    }

    fn hidden_size(&self) -> usize {
        self.sizes.hidden
    }

    fn context_tokens(&self) -> usize {
        self.sizes.context
    }

    fn tokens_per_frame(&self) -> usize {
        let factor = u64::from(self.videos.patch * self.videos.merge);
        let most = self.videos.max_pixels / (factor * factor).max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        most.div_ceil(self.frames_per_slot()).max(1)
    }

    fn rows_per_picture(&self) -> Option<usize> {
        None
    }

    fn frames_per_slot(&self) -> usize {
        self.videos.temporal_patch.max(1) as usize
    }

    fn default_sampling(&self) -> (f64, usize) {
        (self.fps, self.frames.1)
    }

    fn sampling_rule(&self, fps: f64, max_frames: usize) -> Rule {
        Rule::QwenVl {
            fps,
            min_frames: self.frames.0,
            max_frames,
            group: self.frames_per_slot(),
        }
    }

    fn video_pixels(&self, frames: &[RgbFrame], video: &VideoShown) -> Result<VisionInput, FamilyError> {
        let frames: Vec<_> = frames.iter().collect();
        let patches = self.videos.preprocess(&frames, video.stamps_secs.len())?;
        Ok(VisionInput::Patches(patches))
    }

    fn image_pixels(&self, image: &RgbFrame, _images: usize) -> Result<Vec<VisionInput>, FamilyError> {
        Ok(vec![VisionInput::Patches(self.images.preprocess(&[image], 1)?)])
    }

    fn chat(&self, conversation: &Conversation) -> Result<Prompt, FamilyError> {
        let marks = Marks {
            texts: &[IMAGE, VIDEO],
        };
        let messages = messages(conversation, &self.tokenizer, &marks)?;
        let text = self.template.render(&messages, conversation.is_asking())?;
        let mut expansions = Vec::new();
        let mut grids = Vec::new();
        for medium in conversation.media() {
            let (expansion, grid) = self.expansion(medium)?;
            expansions.push(expansion);
            grids.push(grid);
        }
        let mut prompt = lay_out(
            &self.tokenizer,
            &text,
            self.bos.as_deref(),
            &expansions,
            &self.visual,
        )?;
        prompt.positions = self.positions(&prompt, &grids);
        Ok(prompt)
    }
}

fn preprocess(
    folder: &ModelFolder,
    settings: &Value,
    default: &QwenVlPreprocess,
) -> Result<QwenVlPreprocess, FamilyError> {
    let pixels = |old: &str, new: &str, default: u64| {
        settings[old]
            .as_u64()
            .or_else(|| settings["size"][new].as_u64())
            .filter(|&pixels| pixels > 0)
            .unwrap_or(default)
    };
    let side = |name: &str, default: u32| {
        if settings[name].is_null() {
            Ok(default)
        } else {
            side(settings, name, FILE)
        }
    };
    let capped = settings["cap_pixels_per_frame"].as_bool() == Some(true);
    Ok(QwenVlPreprocess {
        min_pixels: pixels("min_pixels", "shortest_edge", default.min_pixels),
        max_pixels: pixels("max_pixels", "longest_edge", default.max_pixels),
        patch: side("patch_size", default.patch)?,
        merge: side("merge_size", default.merge)?,
        temporal_patch: side("temporal_patch_size", default.temporal_patch)?,
        video_tokens: capped.then(|| settings["max_video_tokens"].as_u64().unwrap_or(128_000)),
        filter: filter(settings, default.filter)?,
        normalise: normalise(settings, default.normalise),
        // The video processor exists for torchvision alone, the image processor for both.
        backend: if settings["image_processor_type"].is_string() {
            backend(folder)
        } else {
            default.backend
        },
    })
}
