//! LLaVA-OneVision: an image as a whole and in tiles, videos with pooled frames, and a learnt marker at line ends.
//!
//! # Source
//! transformers 5.23 `LlavaOnevisionProcessor` and `pack_image_features`, `apply_pooling` of its model. The marker is a
//! weight that published exports leave out; ours have it as the output `image_newline` of the vision graph.

use std::sync::Arc;

use reelsight_media::RgbFrame;
use reelsight_preprocess::{AnyRes, Filter, LlavaOnevisionPreprocess, Normalise, VisionInput};
use reelsight_registry::{ModelFolder, Role};
use reelsight_sampling::Rule;
use reelsight_text::{ChatTemplate, Tokenizer};
use serde_json::Value;

use crate::{
    Conversation, Family, FamilyError, Media, Prompt, VideoShown,
    grid::{Grid, Tiled},
    layout::{Expansion, Marks, SlotPlan, lay_out, messages},
    load::special_token,
    settings::{
        TextSizes, backend, filter, image_processor, normalise, side, template, token_id, video_processor,
    },
};

const IMAGE: &str = "<image>";
const VIDEO: &str = "<video>";
const NEWLINE: &str = "image_newline";
const DEFAULT_FRAMES: usize = 32;
/// The number in `anyres_max_9`.
const DEFAULT_TILES: u32 = 9;

/// A model of the family.
#[derive(Debug)]
pub(crate) struct LlavaOnevision {
    name: String,
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
    bos: Option<String>,
    sizes: TextSizes,
    visual: [u32; 2],
    /// Features along one side of a tile.
    features: usize,
    images: LlavaOnevisionPreprocess,
    videos: LlavaOnevisionPreprocess,
    frames: usize,
    has_newline: bool,
}

impl LlavaOnevision {
    pub(crate) fn load(folder: &ModelFolder, tokenizer: &Arc<Tokenizer>) -> Result<Self, FamilyError> {
        let config = folder.config();
        let vision = &config["vision_config"];
        let missing = || FamilyError::config("chat_template.jinja", "there is none");
        let processor = folder.json("processor_config.json")?.unwrap_or_default();
        let (stills, videos) = (image_processor(folder)?, video_processor(folder)?);
        let image_size = side(vision, "image_size", "config.json")?;
        let features = image_size / side(vision, "patch_size", "config.json")?;
        let shape = LlavaOnevisionPreprocess {
            side: image_size,
            pinpoints: pinpoints(&stills, config, image_size)?,
            features,
            max_tiles: max_tiles(&processor, config),
            filter: filter(&stills, Filter::Bicubic)?,
            normalise: normalise(&stills, Normalise::CLIP),
            backend: backend(folder),
        };
        let newline = |port: &reelsight_registry::Port| port.name == NEWLINE;
        let frames = videos["num_frames"].as_u64();
        Ok(Self {
            name: folder.family().to_owned(),
            template: template(folder)?.ok_or_else(missing)?,
            bos: special_token(
                &folder.json("tokenizer_config.json")?.unwrap_or_default(),
                "bos_token",
            ),
            sizes: TextSizes::read(folder, tokenizer)?,
            visual: [token_id(tokenizer, IMAGE)?, token_id(tokenizer, VIDEO)?],
            features: features as usize,
            videos: LlavaOnevisionPreprocess {
                filter: filter(&videos, Filter::Bicubic)?,
                normalise: normalise(&videos, Normalise::CLIP),
                backend: reelsight_preprocess::Backend::Torchvision,
                ..shape.clone()
            },
            images: shape,
            frames: frames
                .and_then(|frames| usize::try_from(frames).ok())
                .filter(|&frames| frames > 0)
                .unwrap_or(DEFAULT_FRAMES),
            has_newline: folder
                .graph(Role::VisionEncoder)
                .is_some_and(|graph| graph.outputs.iter().any(newline)),
            tokenizer: Arc::clone(tokenizer),
        })
    }

    fn pooled(&self) -> usize {
        self.features.div_ceil(2)
    }

    fn refused(what: &'static str) -> FamilyError {
        FamilyError::Refused {
            what,
            why: format!(
                "this export lacks {NEWLINE}, so it takes a single image of one tile; take an export whose vision \
                 graph gives it"
            ),
        }
    }

    fn expansion(&self, medium: &Media, images: usize) -> Result<Expansion, FamilyError> {
        let (mark, slots) = match medium {
            Media::Video(_) if !self.has_newline => return Err(Self::refused("a video")),
            Media::Video(video) => {
                let frames = video.stamps_secs.len();
                let frame = |at| SlotPlan {
                    tokens: self.pooled() * self.pooled(),
                    pictures: at..at + 1,
                };
                let newline = SlotPlan {
                    tokens: 1,
                    pictures: frames..frames,
                };
                (VIDEO, (0..frames).map(frame).chain([newline]).collect())
            }
            Media::Image { width, height } => (IMAGE, vec![self.image(*width, *height, images)?]),
        };
        let tokens = slots.iter().map(|slot: &SlotPlan| slot.tokens).sum();
        Ok(Expansion {
            mark: mark.to_owned(),
            text: mark.repeat(tokens),
            first_block: 0,
            slots,
            closing: 0,
        })
    }

    fn image(&self, width: u32, height: u32, images: usize) -> Result<SlotPlan, FamilyError> {
        let whole = self.features * self.features;
        let AnyRes { tiles, shown, .. } = self.images.layout(width, height);
        if !self.has_newline {
            return if images == 1 && tiles == (1, 1) {
                Ok(SlotPlan {
                    tokens: whole,
                    pictures: 0..1,
                })
            } else {
                Err(Self::refused("this image"))
            };
        }
        if images > 1 {
            return Ok(SlotPlan {
                tokens: whole + 1,
                pictures: 0..1,
            });
        }
        let (rows, columns) = (shown.0 as usize, shown.1 as usize);
        Ok(SlotPlan {
            tokens: whole + rows * (columns + 1),
            pictures: 0..1 + (tiles.0 * tiles.1) as usize,
        })
    }
}

impl Family for LlavaOnevision {
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
        self.pooled() * self.pooled()
    }

    fn rows_per_picture(&self) -> Option<usize> {
        Some(self.features * self.features)
    }

    fn default_sampling(&self) -> (f64, usize) {
        (1.0, self.frames)
    }

    fn sampling_rule(&self, _fps: f64, max_frames: usize) -> Rule {
        Rule::Uniform { frames: max_frames }
    }

    fn video_pixels(&self, frames: &[RgbFrame], _video: &VideoShown) -> Result<VisionInput, FamilyError> {
        let frame = frames
            .first()
            .ok_or_else(|| Self::refused("a video without frames"))?;
        Ok(VisionInput::Picture(self.videos.frame(frame)?))
    }

    fn image_pixels(&self, image: &RgbFrame, images: usize) -> Result<Vec<VisionInput>, FamilyError> {
        let pictures = if !self.has_newline {
            vec![self.images.frame(image)?]
        } else if images > 1 {
            vec![self.images.squared(image)?]
        } else {
            self.images.image(image)?
        };
        Ok(pictures.into_iter().map(VisionInput::Picture).collect())
    }

    fn extra_output(&self) -> Option<&'static str> {
        self.has_newline.then_some(NEWLINE)
    }

    fn assemble(
        &self,
        pictures: &[&[f32]],
        size: Option<(u32, u32)>,
        extra: Option<&[f32]>,
    ) -> Result<Vec<f32>, FamilyError> {
        let newline = || extra.ok_or_else(|| Self::refused("this"));
        let hidden = self.sizes.hidden;
        match (pictures, size) {
            ([], _) => Ok(newline()?.to_vec()),
            ([frame], None) => {
                let whole = Grid {
                    values: frame.to_vec(),
                    rows: self.features,
                    columns: self.features,
                    width: hidden,
                };
                Ok(whole.resized(self.pooled(), self.pooled()).values)
            }
            ([whole], Some(_)) if !self.has_newline => Ok(whole.to_vec()),
            ([whole], Some(_)) => Ok([whole, newline()?].concat()),
            ([whole, tiles @ ..], size) => {
                let (width, height) = size.unwrap_or((1, 1));
                let layout = self.images.layout(width, height);
                let joined = Tiled {
                    tiles,
                    columns: layout.tiles.1 as usize,
                    side: self.features,
                    width: hidden,
                };
                let pair = |(a, b): (u32, u32)| (a as usize, b as usize);
                let kept = joined.cut(pair(layout.padding), pair(layout.kept));
                let (rows, columns) = pair(layout.shown);
                let mut out = whole.to_vec();
                kept.resized(rows, columns).push_lines(newline()?, &mut out);
                Ok(out)
            }
        }
    }

    fn chat(&self, conversation: &Conversation) -> Result<Prompt, FamilyError> {
        let marks = Marks {
            texts: &[IMAGE, VIDEO],
        };
        let messages = messages(conversation, &self.tokenizer, &marks)?;
        let text = self.template.render(&messages, conversation.is_asking())?;
        let images = conversation
            .media()
            .filter(|medium| matches!(medium, Media::Image { .. }))
            .count();
        let expansions: Result<Vec<_>, _> = conversation
            .media()
            .map(|medium| self.expansion(medium, images))
            .collect();
        lay_out(
            &self.tokenizer,
            &text,
            self.bos.as_deref(),
            &expansions?,
            &self.visual,
        )
    }
}

/// `image_grid_pinpoints` as (width, height); the files have (height, width).
fn pinpoints(stills: &Value, config: &Value, side: u32) -> Result<Vec<(u32, u32)>, FamilyError> {
    let list = [stills, config]
        .into_iter()
        .find_map(|file| file["image_grid_pinpoints"].as_array());
    let pair = |pair: &Value| {
        let side = |at: usize| pair[at].as_u64().and_then(|side| u32::try_from(side).ok());
        Some((side(1)?, side(0)?))
    };
    let multiple = |&(width, height): &(u32, u32)| {
        let fits = |value: u32| value > 0 && value <= 1 << 16 && value.is_multiple_of(side);
        fits(width) && fits(height)
    };
    let Some(list) = list else {
        return Ok(vec![(side, side)]);
    };
    list.iter()
        .map(|entry| pair(entry).filter(multiple))
        .collect::<Option<_>>()
        .ok_or_else(|| {
            let why = format!("image_grid_pinpoints are not pairs of multiples of {side}");
            FamilyError::config("preprocessor_config.json", why)
        })
}

/// The number at the end of `vision_aspect_ratio`.
fn max_tiles(processor: &Value, config: &Value) -> u32 {
    let named = [processor, config]
        .into_iter()
        .find_map(|file| file["vision_aspect_ratio"].as_str());
    let digits = named.map(|name| name.trim_start_matches("anyres_max_"));
    digits
        .and_then(|digits| digits.parse().ok())
        .filter(|&tiles| tiles > 0)
        .unwrap_or(DEFAULT_TILES)
}
