//! SmolVLM, SmolVLM2 and Idefics3, video side.
//!
//! # Source
//! transformers 5.23 `SmolVLMProcessor.replace_video_token` and `apply_chat_template`, which takes
//! `DEFAULT_CHAT_TEMPLATE` rather than the model's own whenever a video is present.

use std::sync::Arc;

use reelsight_media::RgbFrame;
use reelsight_preprocess::{Filter, PixelTensor, SmolVlmPreprocess};
use reelsight_registry::ModelFolder;
use reelsight_sampling::Rule;
use reelsight_text::{ChatTemplate, Message, Part, Tokenizer};
use serde_json::Value;

use crate::{
    Family, FamilyError, FrameSlot, Prompt, Turn, VideoShown,
    load::special_token,
    numbers::{duration, stamp, words},
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
    template: ChatTemplate,
    bos: Option<String>,
    tokens: Tokens,
    image_token_id: u32,
    image_seq_len: usize,
    hidden_size: usize,
    context_tokens: usize,
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
        let config = folder.config();
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
        let image_token_id = tokenizer.id(&tokens.image).unwrap_or_default();
        let text = &config["text_config"];
        let size = |value: &Value, name: &str| {
            let missing = || FamilyError::config("config.json", format!("it has no text_config.{name}"));
            value[name]
                .as_u64()
                .and_then(|size| usize::try_from(size).ok())
                .ok_or_else(missing)
        };
        let vocabulary = size(text, "vocab_size")?;
        if tokenizer.vocab_size() > vocabulary {
            let why = format!(
                "{} tokens, but the model embeds {vocabulary}",
                tokenizer.vocab_size()
            );
            return Err(FamilyError::config("tokenizer.json", why));
        }
        // `video_preprocessor_config.json` is what newer folders have; the older file serves both kinds of media.
        let processor = folder.json("video_preprocessor_config.json")?;
        let processor = match processor {
            Some(processor) => processor,
            None => folder.json("preprocessor_config.json")?.unwrap_or_default(),
        };
        Ok(Self {
            name: folder.family().to_owned(),
            template: ChatTemplate::new(VIDEO_CHAT_TEMPLATE.to_owned(), Vec::new())?,
            bos: special_token(&named, "bos_token"),
            image_token_id,
            image_seq_len: image_seq_len(folder)?,
            hidden_size: size(text, "hidden_size")?,
            context_tokens: size(text, "max_position_embeddings")?,
            sampling: sampling(&processor),
            preprocess: preprocess(&processor)?,
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

    fn messages(&self, turns: &[Turn]) -> Result<Vec<Message>, FamilyError> {
        let mut messages = Vec::new();
        for (at, Turn { question, answer }) in turns.iter().enumerate() {
            if let Some(token) = self.tokenizer.control_token_in(question) {
                return Err(FamilyError::ControlToken {
                    token: token.to_owned(),
                });
            }
            let video = (at == 0).then_some(Part::Video);
            let question = Part::Text {
                text: question.clone(),
            };
            messages.push(Message {
                role: "user",
                content: video.into_iter().chain([question]).collect(),
            });
            if let Some(answer) = answer {
                // A model can spell out a control token letter by letter; its answer must not act as one.
                let mut text = answer.clone();
                while let Some(token) = self.tokenizer.control_token_in(&text) {
                    text = text.replace(token, "");
                }
                messages.push(Message {
                    role: "assistant",
                    content: vec![Part::Text { text }],
                });
            }
        }
        if messages.is_empty() {
            messages.push(Message {
                role: "user",
                content: vec![Part::Video],
            });
        }
        Ok(messages)
    }

    /// Finds each frame's tokens: runs of image tokens of the right length, each block ending with its closing marker.
    fn slots(&self, ids: &[u32], first: usize, frames: usize) -> Result<Vec<FrameSlot>, FamilyError> {
        let mut slots = Vec::with_capacity(frames);
        let mut start = first;
        while slots.len() < frames {
            let found = ids[start..].iter().position(|&id| id == self.image_token_id);
            let visual_start = found.map_or(ids.len(), |at| start + at);
            let visual = visual_start..visual_start + self.image_seq_len;
            let whole = ids
                .get(visual.clone())
                .is_some_and(|run| run.iter().all(|&id| id == self.image_token_id));
            if !whole || visual.end >= ids.len() {
                return Err(FamilyError::config(
                    "tokenizer.json",
                    "image tokens do not survive tokenization",
                ));
            }
            slots.push(FrameSlot {
                block: start..visual.end + 1,
                visual: visual.clone(),
            });
            start = visual.end + 1;
        }
        Ok(slots)
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
        self.hidden_size
    }

    fn context_tokens(&self) -> usize {
        self.context_tokens
    }

    fn default_sampling(&self) -> (f64, usize) {
        self.sampling
    }

    fn sampling_rule(&self, fps: f64, max_frames: usize) -> Rule {
        Rule::SmolVlm { fps, max_frames }
    }

    fn pixels(&self, frame: &RgbFrame) -> Result<PixelTensor, FamilyError> {
        Ok(self.preprocess.preprocess(frame)?)
    }

    fn prompt(&self, video: &VideoShown, turns: &[Turn]) -> Result<Prompt, FamilyError> {
        let answering = turns.last().is_some_and(|turn| turn.answer.is_none());
        let text = self.template.render(&self.messages(turns)?, answering)?;
        let (shown, first_frame) = self.video_text(video);
        // Questions hold no control tokens, so the first mark is the template's.
        let mark = text.find(VIDEO_MARK).unwrap_or(0);
        let text = text.replacen(VIDEO_MARK, &shown, 1);
        let add_special = self
            .bos
            .as_ref()
            .is_none_or(|bos| !text.starts_with(bos.as_str()));
        let (mut ids, offsets) = self.tokenizer.encode_with_offsets(&text, add_special)?;
        let first = offsets
            .iter()
            .position(|&(start, _)| start >= mark + first_frame)
            .unwrap_or(ids.len());
        let frames = self.slots(&ids, first, video.stamps_secs.len())?;
        if turns.is_empty() {
            ids.truncate(frames.last().map_or(first, |slot| slot.block.end));
        }
        Ok(Prompt { ids, frames })
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

fn preprocess(processor: &Value) -> Result<SmolVlmPreprocess, FamilyError> {
    const FILE: &str = "preprocessor_config.json";
    let edge = |value: &Value| {
        value["longest_edge"]
            .as_u64()
            .and_then(|edge| u32::try_from(edge).ok())
    };
    let default = SmolVlmPreprocess::default();
    let longest = edge(&processor["video_sampling"]["video_size"]).or_else(|| edge(&processor["size"]));
    let filter = match processor["resample"].as_u64() {
        None => default.filter,
        Some(1) => Filter::Lanczos,
        Some(2) => Filter::Bilinear,
        Some(3) => Filter::Bicubic,
        Some(4) => Filter::Box,
        Some(5) => Filter::Hamming,
        Some(other) => {
            return Err(FamilyError::config(
                FILE,
                format!("resample {other} is not supported"),
            ));
        }
    };
    let triple = |name: &str, default: [f64; 3]| {
        let values: Option<Vec<f64>> = processor[name]
            .as_array()
            .map(|all| all.iter().filter_map(Value::as_f64).collect());
        values
            .and_then(|values| values.try_into().ok())
            .unwrap_or(default)
    };
    Ok(SmolVlmPreprocess {
        longest_edge: longest.unwrap_or(default.longest_edge),
        max_image_size: edge(&processor["max_image_size"]).unwrap_or(default.max_image_size),
        filter,
        rescale_factor: processor["rescale_factor"]
            .as_f64()
            .unwrap_or(default.rescale_factor),
        mean: triple("image_mean", default.mean),
        std: triple("image_std", default.std),
        ..default
    })
}
