//! What the engine asks of a family.

use std::fmt;

use reelsight_media::RgbFrame;
use reelsight_preprocess::VisionInput;
use reelsight_sampling::Rule;

use crate::{Conversation, FamilyError, Prompt, Turn, VideoShown};

/// One model family: how conversations become pixels, ids and positions. Pure; tensor names come from the graphs.
pub trait Family: fmt::Debug + Send + Sync {
    /// `model_type` of the configuration.
    fn name(&self) -> &str;

    /// Width of embeddings, as the configuration says.
    fn hidden_size(&self) -> usize;

    /// Longest prompt plus answer, as the configuration says.
    fn context_tokens(&self) -> usize;

    /// Whether it sees pictures at all.
    fn sees(&self) -> bool {
        true
    }

    /// Visual tokens of one frame of a video; the most that it can take where that depends on the frame.
    fn tokens_per_frame(&self) -> usize;

    /// Rows that the vision graph gives for each picture; `None` where that depends on its size.
    fn rows_per_picture(&self) -> Option<usize> {
        Some(self.tokens_per_frame())
    }

    /// Frames of a video that go into the vision graph, and into a slot of the prompt, together.
    fn frames_per_slot(&self) -> usize {
        1
    }

    /// Frames per second and frames when nobody says.
    fn default_sampling(&self) -> (f64, usize);

    /// The family's own way to choose frames.
    fn sampling_rule(&self, fps: f64, max_frames: usize) -> Rule;

    /// Resizes and normalises the frames of one slot of `video`: [`Family::frames_per_slot`] of them, fewer at its end.
    ///
    /// # Errors
    /// [`FamilyError::Frame`] when one is not a picture, [`FamilyError::Refused`] when the model has no videos.
    fn video_pixels(&self, frames: &[RgbFrame], video: &VideoShown) -> Result<VisionInput, FamilyError>;

    /// Resizes, cuts and normalises one of `images` still images of a conversation: one entry per run of the vision
    /// graph.
    ///
    /// # Errors
    /// As [`Family::video_pixels`].
    fn image_pixels(&self, image: &RgbFrame, images: usize) -> Result<Vec<VisionInput>, FamilyError>;

    /// The embeddings of a slot from what the vision graph gave for its pictures, each `[tokens, hidden]`, and from the
    /// extra output of that graph ([`Family::extra_output`]). `size` is that of the image, `None` for a video.
    ///
    /// # Errors
    /// [`FamilyError::Refused`] when the model's graphs lack what is needed.
    fn assemble(
        &self,
        pictures: &[&[f32]],
        size: Option<(u32, u32)>,
        extra: Option<&[f32]>,
    ) -> Result<Vec<f32>, FamilyError> {
        let _ = (size, extra);
        Ok(pictures.concat())
    }

    /// An output of the vision graph, beside the features, that [`Family::assemble`] wants.
    fn extra_output(&self) -> Option<&'static str> {
        None
    }

    /// `conversation` up to where the answer to its last turn begins.
    ///
    /// # Errors
    /// [`FamilyError::ControlToken`] when a question holds one, [`FamilyError::Refused`] for media that the model cannot
    /// take, [`FamilyError::Text`] from tokenizer and template.
    fn chat(&self, conversation: &Conversation) -> Result<Prompt, FamilyError>;

    /// The conversation about `video`, up to where the answer to the last turn begins. Without turns: what every
    /// conversation about it begins with, up to the end of the last frame.
    ///
    /// # Errors
    /// As [`Family::chat`].
    fn prompt(&self, video: &VideoShown, turns: &[Turn]) -> Result<Prompt, FamilyError> {
        let mut prompt = self.chat(&Conversation::about(video, turns))?;
        if turns.is_empty() {
            prompt.truncate(prompt.video_tokens());
        }
        Ok(prompt)
    }
}
