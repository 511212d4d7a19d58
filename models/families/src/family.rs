//! What the engine asks of a family.

use std::{fmt, ops::Range};

use reelsight_media::RgbFrame;
use reelsight_preprocess::PixelTensor;
use reelsight_sampling::Rule;

use crate::FamilyError;

/// A video as a prompt tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoShown {
    /// When each frame is shown, in seconds.
    pub stamps_secs: Vec<f64>,
    /// How long the (part of the) video is, in seconds.
    pub duration_secs: f64,
}

/// A question and, in the past, its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// As the user wrote it.
    pub question: String,
    /// As the user read it; `None` for the turn that is to be answered.
    pub answer: Option<String>,
}

/// Where a frame is in a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSlot {
    /// All tokens about the frame: its time stamp, its markers and its visual tokens.
    pub block: Range<usize>,
    /// Its visual tokens, which embeddings of the vision encoder replace.
    pub visual: Range<usize>,
}

/// A prompt as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// All ids, visual placeholders included.
    pub ids: Vec<u32>,
    /// One per frame, in order; blocks touch each other.
    pub frames: Vec<FrameSlot>,
}

impl Prompt {
    /// Tokens up to the end of the last frame: what every question about the same video shares.
    #[must_use]
    pub fn video_tokens(&self) -> usize {
        self.frames.last().map_or(0, |slot| slot.block.end)
    }
}

/// One model family: how videos and questions become pixels and ids. Pure; tensor names come from the graphs.
pub trait Family: fmt::Debug + Send + Sync {
    /// `model_type` of the configuration.
    fn name(&self) -> &str;

    /// Visual tokens of one frame.
    fn tokens_per_frame(&self) -> usize;

    /// Width of embeddings, as the configuration says.
    fn hidden_size(&self) -> usize;

    /// Longest prompt plus answer, as the configuration says.
    fn context_tokens(&self) -> usize;

    /// Frames per second and frames when nobody says.
    fn default_sampling(&self) -> (f64, usize);

    /// The family's own way to choose frames.
    fn sampling_rule(&self, fps: f64, max_frames: usize) -> Rule;

    /// Resizes and normalises one frame for the vision graph.
    ///
    /// # Errors
    /// [`FamilyError::Frame`] when it is not a picture.
    fn pixels(&self, frame: &RgbFrame) -> Result<PixelTensor, FamilyError>;

    /// The conversation about `video`, up to where the answer to the last turn begins. Without turns: what every
    /// conversation about it begins with, up to the end of the last frame.
    ///
    /// # Errors
    /// [`FamilyError::ControlToken`] when a question holds one, [`FamilyError::Text`] from tokenizer and template.
    fn prompt(&self, video: &VideoShown, turns: &[Turn]) -> Result<Prompt, FamilyError>;
}
