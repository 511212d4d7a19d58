//! Text decoders without eyes (Llama, Qwen2, Mistral and their kin), by their own template alone.

use std::sync::Arc;

use reelsight_media::RgbFrame;
use reelsight_preprocess::VisionInput;
use reelsight_registry::ModelFolder;
use reelsight_sampling::Rule;
use reelsight_text::{ChatTemplate, PlainMessage, Tokenizer};

use crate::{
    Conversation, Family, FamilyError, Prompt, VideoShown,
    settings::{TextSizes, template},
};

/// A model of the family.
#[derive(Debug)]
pub(crate) struct TextDecoder {
    name: String,
    tokenizer: Arc<Tokenizer>,
    /// `None` for a base model, which continues what it is given.
    template: Option<ChatTemplate>,
    sizes: TextSizes,
}

impl TextDecoder {
    pub(crate) fn load(folder: &ModelFolder, tokenizer: &Arc<Tokenizer>) -> Result<Self, FamilyError> {
        Ok(Self {
            name: folder.family().to_owned(),
            template: template(folder)?,
            sizes: TextSizes::read(folder, tokenizer)?,
            tokenizer: Arc::clone(tokenizer),
        })
    }

    fn refused(&self) -> FamilyError {
        FamilyError::Refused {
            what: "a picture",
            why: format!("{} is a text model", self.name),
        }
    }

    /// Messages with plain text as content, as text templates expect it.
    fn messages(&self, conversation: &Conversation) -> Result<Vec<PlainMessage>, FamilyError> {
        let marks = crate::layout::Marks { texts: &[] };
        let parts = crate::layout::messages(conversation, &self.tokenizer, &marks)?;
        Ok(parts.into_iter().map(PlainMessage::from).collect())
    }
}

impl Family for TextDecoder {
    fn name(&self) -> &str {
        &self.name
    }

    fn hidden_size(&self) -> usize {
        self.sizes.hidden
    }

    fn context_tokens(&self) -> usize {
        self.sizes.context
    }

    fn sees(&self) -> bool {
        false
    }

    fn tokens_per_frame(&self) -> usize {
        0
    }

    fn default_sampling(&self) -> (f64, usize) {
        (1.0, 1)
    }

    fn sampling_rule(&self, _fps: f64, max_frames: usize) -> Rule {
        Rule::Count(max_frames)
    }

    fn video_pixels(&self, _frames: &[RgbFrame], _video: &VideoShown) -> Result<VisionInput, FamilyError> {
        Err(self.refused())
    }

    fn image_pixels(&self, _image: &RgbFrame, _images: usize) -> Result<Vec<VisionInput>, FamilyError> {
        Err(self.refused())
    }

    fn chat(&self, conversation: &Conversation) -> Result<Prompt, FamilyError> {
        if conversation.media().next().is_some() {
            return Err(self.refused());
        }
        let messages = self.messages(conversation)?;
        let ids = match (&self.template, &*messages) {
            (Some(template), messages) => {
                let text = template.render(messages, conversation.is_asking())?;
                self.tokenizer.encode(&text, false)?
            }
            (None, [only]) => self.tokenizer.encode(&only.content, true)?,
            (None, _) => {
                let why = "there is none: a base model takes one text, no system prompt and no further turns";
                return Err(FamilyError::config("chat_template.jinja", why));
            }
        };
        Ok(Prompt {
            ids,
            ..Prompt::default()
        })
    }
}
