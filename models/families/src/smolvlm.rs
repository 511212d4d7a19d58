//! SmolVLM, SmolVLM2 and Idefics3: videos with a time for each frame, images cut into tiles.
//!
//! # Source
//! transformers 5.23 `SmolVLMProcessor.replace_video_token`, `get_image_prompt_string` and `apply_chat_template`, which takes
//! `DEFAULT_CHAT_TEMPLATE` rather than the model's own whenever a video is present.

use std::sync::Arc;

use reelsight_media::RgbFrame;
use reelsight_preprocess::{Normalise, SmolVlmPreprocess, VisionInput};
use reelsight_registry::ModelFolder;
use reelsight_sampling::Rule;
use reelsight_text::{ChatTemplate, Tokenizer};
use serde_json::Value;

use crate::{
    Conversation, Family, FamilyError, Media, Prompt, VideoShown,
    layout::{Expansion, Marks, SlotPlan, lay_out, messages},
    load::special_token,
    numbers::{duration, stamp, words},
    settings::{TextSizes, backend, filter, image_processor, normalise, template, token_id, video_processor},
};

const VIDEO_CHAT_TEMPLATE: &str = "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% elif line['type'] == 'video' %}{{ '<video>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}";
const VIDEO_MARK: &str = "<video>";
const FRAME_INTRO: &str = "\nFrame from ";
const OUTRO: &str = "\n\n";

/// A model of the family.
#[derive(Debug)]
pub(crate) struct SmolVlm {
    name: String,
    tokenizer: Arc<Tokenizer>,
    /// For conversations with a video.
    template: ChatTemplate,
    /// The model's own, for all others.
    own_template: Option<ChatTemplate>,
    bos: Option<String>,
    tokens: Tokens,
    image_token_id: u32,
    image_seq_len: usize,
    sizes: TextSizes,
    sampling: (f64, usize),
    preprocess: SmolVlmPreprocess,
}

/// Texts of the markers; the tokenizer's configuration may rename them.
#[derive(Debug)]
struct Tokens {
    fake: String,
    image: String,
    global: String,
}

impl SmolVlm {
    pub(crate) fn load(folder: &ModelFolder, tokenizer: &Arc<Tokenizer>) -> Result<Self, FamilyError> {
        let named = folder.json("tokenizer_config.json")?.unwrap_or_default();
        let token = |name: &str, default: &str| {
            let extra = special_token(&named["extra_special_tokens"], name);
            extra
                .or_else(|| special_token(&named, name))
                .unwrap_or_else(|| default.to_owned())
        };
        let tokens = Tokens {
            fake: token("fake_image_token", "<fake_token_around_image>"),
            image: token("image_token", "<image>"),
            global: token("global_image_token", "<global-img>"),
        };
        for marker in [&tokens.fake, &tokens.image, &tokens.global] {
            if tokenizer.id(marker).is_none() {
                return Err(FamilyError::config(
                    "tokenizer.json",
                    format!("it has no token {marker}"),
                ));
            }
        }
        let image_token_id = token_id(tokenizer, &tokens.image)?;
        let sizes = TextSizes::read(folder, tokenizer)?;
        let (images, videos) = (image_processor(folder)?, video_processor(folder)?);
        Ok(Self {
            name: folder.family().to_owned(),
            template: ChatTemplate::new(VIDEO_CHAT_TEMPLATE.to_owned(), Vec::new())?,
            bos: special_token(&named, "bos_token"),
            image_token_id,
            image_seq_len: image_seq_len(folder)?,
            own_template: template(folder)?,
            sizes,
            sampling: sampling(&videos),
            preprocess: preprocess(folder, &videos, &images)?,
            tokenizer: Arc::clone(tokenizer),
            tokens,
        })
    }

    /// What replaces `<video>`, and where in it the first frame begins.
    fn video_text(&self, video: &VideoShown) -> (String, usize) {
        let Tokens { fake, image, global } = &self.tokens;
        let mut text = format!(
            "You are provided the following series of {} frames from a {} [H:MM:SS] video.\n",
            words(video.stamps_secs.len()),
            duration(whole_secs(video.duration_secs)),
        );
        let first_frame = text.len();
        let picture = format!("{fake}{global}{}{fake}", image.repeat(self.image_seq_len));
        for &secs in &video.stamps_secs {
            text.extend([FRAME_INTRO, &stamp(whole_secs(secs)), ":", &picture]);
        }
        text.push_str(OUTRO);
        (text, first_frame)
    }

    /// What replaces `<video>`: an introduction, then each frame with its time.
    fn video(&self, video: &VideoShown) -> Expansion {
        let (text, first_block) = self.video_text(video);
        Expansion {
            mark: VIDEO_MARK.into(),
            text,
            first_block,
            slots: (0..video.stamps_secs.len()).map(|at| self.slot(at)).collect(),
            closing: 1,
        }
    }

    /// What replaces `<image>`: its tiles by row and column, then the whole picture.
    fn image(&self, width: u32, height: u32) -> Expansion {
        let Tokens { fake, image, global } = &self.tokens;
        let (rows, columns) = self.preprocess.tile_grid(width, height);
        let picture = image.repeat(self.image_seq_len);
        let mut text = String::new();
        for row in 1..=rows {
            for column in 1..=columns {
                let place = format!("<row_{row}_col_{column}>");
                text.extend([fake.as_str(), &place, &picture]);
            }
            text.push('\n');
        }
        if rows > 0 {
            text.push('\n');
        }
        text.extend([fake.as_str(), global, &picture, fake]);
        Expansion {
            mark: image.clone(),
            text,
            first_block: 0,
            slots: (0..=(rows * columns) as usize).map(|at| self.slot(at)).collect(),
            closing: 0,
        }
    }

    fn slot(&self, at: usize) -> SlotPlan {
        SlotPlan {
            tokens: self.image_seq_len,
            pictures: at..at + 1,
        }
    }
}

impl Family for SmolVlm {
    fn name(&self) -> &str {
        &self.name
    }

    fn tokens_per_frame(&self) -> usize {
        self.image_seq_len
    }

    fn hidden_size(&self) -> usize {
        self.sizes.hidden
    }

    fn context_tokens(&self) -> usize {
        self.sizes.context
    }

    fn default_sampling(&self) -> (f64, usize) {
        self.sampling
    }

    fn sampling_rule(&self, fps: f64, max_frames: usize) -> Rule {
        Rule::SmolVlm { fps, max_frames }
    }

    fn video_pixels(&self, frames: &[RgbFrame], _video: &VideoShown) -> Result<VisionInput, FamilyError> {
        let frame = frames.first().ok_or_else(|| FamilyError::Refused {
            what: "a video without frames",
            why: "there is nothing to see".into(),
        })?;
        Ok(VisionInput::Picture(self.preprocess.preprocess(frame)?))
    }

    fn image_pixels(&self, image: &RgbFrame, _images: usize) -> Result<Vec<VisionInput>, FamilyError> {
        let tiles = self.preprocess.tiles(image)?;
        Ok(tiles.pictures.into_iter().map(VisionInput::Picture).collect())
    }

    fn chat(&self, conversation: &Conversation) -> Result<Prompt, FamilyError> {
        let marks = Marks {
            texts: &[&self.tokens.image, VIDEO_MARK],
        };
        let messages = messages(conversation, &self.tokenizer, &marks)?;
        let has_video = conversation
            .media()
            .any(|medium| matches!(medium, Media::Video(_)));
        let template = match &self.own_template {
            Some(own) if !has_video => own,
            _ => &self.template,
        };
        let text = template.render(&messages, conversation.is_asking())?;
        let expansion = |medium: &Media| match medium {
            Media::Image { width, height } => self.image(*width, *height),
            Media::Video(video) => self.video(video),
        };
        let expansions: Vec<_> = conversation.media().map(expansion).collect();
        lay_out(
            &self.tokenizer,
            &text,
            self.bos.as_deref(),
            &expansions,
            &[self.image_token_id],
        )
    }
}

/// Seconds as the processor prints them: cut, not rounded.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; time is not negative"
)]
fn whole_secs(secs: f64) -> u64 {
    // Times are exact fractions; a billionth keeps 2.9999999999 from becoming 2.
    (secs + 1e-9) as u64
}

/// `image_seq_len` of the processor, or (size / patch)² / scale².
fn image_seq_len(folder: &ModelFolder) -> Result<usize, FamilyError> {
    let processor = folder.json("processor_config.json")?.unwrap_or_default();
    let config = folder.config();
    let number = |value: &Value| value.as_u64().filter(|&number| number > 0);
    let computed = || {
        let vision = &config["vision_config"];
        let side = number(&vision["image_size"])?
            / number(&vision["patch_size"])?
            / number(&config["scale_factor"])?;
        Some(side * side)
    };
    let len = number(&processor["image_seq_len"]).or_else(computed);
    let len = len
        .and_then(|len| usize::try_from(len).ok())
        .filter(|&len| len > 0);
    len.ok_or_else(|| FamilyError::config("processor_config.json", "it has no image_seq_len"))
}

fn sampling(processor: &Value) -> (f64, usize) {
    let sampling = &processor["video_sampling"];
    let fps = sampling["fps"].as_f64().filter(|&fps| fps > 0.0).unwrap_or(1.0);
    let frames = sampling["max_frames"]
        .as_u64()
        .and_then(|frames| usize::try_from(frames).ok());
    (fps, frames.filter(|&frames| frames > 0).unwrap_or(64))
}

fn preprocess(
    folder: &ModelFolder,
    videos: &Value,
    images: &Value,
) -> Result<SmolVlmPreprocess, FamilyError> {
    let edge = |value: &Value| {
        value["longest_edge"]
            .as_u64()
            .and_then(|edge| u32::try_from(edge).ok())
            .filter(|&edge| edge > 0)
    };
    let default = SmolVlmPreprocess::default();
    // A `size` in the file overrules the `video_size` beside it: `SmolVLMVideoProcessor.__init__`.
    let longest = edge(&videos["size"]).or_else(|| edge(&videos["video_sampling"]["video_size"]));
    let values = normalise(videos, Normalise::HALF);
    Ok(SmolVlmPreprocess {
        longest_edge: longest.unwrap_or(default.longest_edge),
        max_image_size: edge(&videos["max_image_size"]).unwrap_or(default.max_image_size),
        filter: filter(videos, default.filter)?,
        rescale_factor: values.rescale_factor,
        mean: values.mean,
        std: values.std,
        image_longest_edge: edge(&images["size"]).unwrap_or(default.image_longest_edge),
        split: images["do_image_splitting"].as_bool().unwrap_or(default.split),
        backend: backend(folder),
    })
}
