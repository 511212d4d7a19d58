//! What a prompt is made from, and the prompt.

use std::ops::Range;

/// A video as a prompt tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoShown {
    /// When each frame is shown, in seconds.
    pub stamps_secs: Vec<f64>,
    /// How long the (part of the) video is, in seconds.
    pub duration_secs: f64,
    /// Width and height of its frames in pixels; families that take pictures of any size need it.
    pub size: Option<(u32, u32)>,
}

/// A picture or a video in a conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// A still picture, by its size in pixels.
    Image {
        /// Pixels per row.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A video.
    Video(VideoShown),
}

/// A question and, in the past, its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// As the user wrote it.
    pub question: String,
    /// As the user read it; `None` for the turn that is to be answered.
    pub answer: Option<String>,
}

/// A [`Turn`] with what was shown in it, before its question.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatTurn {
    /// In the order in which the model sees it.
    pub media: Vec<Media>,
    /// As the user wrote it; may be empty when something is shown.
    pub question: String,
    /// As the user read it; `None` for the turn that is to be answered.
    pub answer: Option<String>,
}

/// A conversation from its start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// What the model is told before the first turn; `None` leaves it to the model's template.
    pub system: Option<String>,
    /// At least one.
    pub turns: Vec<ChatTurn>,
}

impl Conversation {
    /// `turns` about one video, which is shown in the first of them.
    #[must_use]
    pub fn about(video: &VideoShown, turns: &[Turn]) -> Self {
        let mut media = vec![Media::Video(video.clone())];
        let mut turns: Vec<_> = turns
            .iter()
            .map(|turn| ChatTurn {
                media: std::mem::take(&mut media),
                question: turn.question.clone(),
                answer: turn.answer.clone(),
            })
            .collect();
        if turns.is_empty() {
            turns.push(ChatTurn {
                media,
                question: String::new(),
                answer: None,
            });
        }
        Self { system: None, turns }
    }

    /// Whether the last turn waits for an answer to a question.
    pub(crate) fn is_asking(&self) -> bool {
        self.turns
            .last()
            .is_some_and(|turn| turn.answer.is_none() && !turn.question.is_empty())
    }

    /// Everything that is shown, in order.
    pub(crate) fn media(&self) -> impl Iterator<Item = &Media> {
        self.turns.iter().flat_map(|turn| &turn.media)
    }
}

/// Where a picture is in a prompt: what one output of the vision graph fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSlot {
    /// All tokens about it: its time stamp, its markers and its visual tokens.
    pub block: Range<usize>,
    /// Its visual tokens, which embeddings of the vision encoder replace.
    pub visual: Range<usize>,
    /// Which medium of the conversation it belongs to.
    pub medium: usize,
    /// Which pictures of that medium it shows: frames of a video, tiles of an image. Empty for a marker whose
    /// embedding the family gives.
    pub pictures: Range<usize>,
}

/// Where tokens stand for the decoder's rotary embedding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// Time, height and width of each token of the prompt; empty when a token stands at its index.
    axes: Vec<[u32; 3]>,
    /// Where the first token after the prompt stands, on every axis.
    next: u32,
}

impl Positions {
    /// Given positions; what follows continues after the largest.
    #[must_use]
    pub fn new(axes: Vec<[u32; 3]>) -> Self {
        let next = axes.iter().flatten().max().map_or(0, |largest| largest + 1);
        Self { axes, next }
    }

    /// Position of token `index` on the axes of time, height and width. Tokens behind the prompt (answers) go on by one.
    /// Graphs with one axis take the first.
    #[must_use]
    pub fn at(&self, index: usize) -> [u32; 3] {
        let beyond = || {
            let offset = u32::try_from(index - self.axes.len()).unwrap_or(u32::MAX);
            [self.next.saturating_add(offset); 3]
        };
        self.axes.get(index).copied().unwrap_or_else(beyond)
    }

    fn truncate(&mut self, tokens: usize) {
        if tokens < self.axes.len() {
            self.axes.truncate(tokens);
            *self = Self::new(std::mem::take(&mut self.axes));
        }
    }
}

/// A prompt as ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    /// All ids, visual placeholders included.
    pub ids: Vec<u32>,
    /// One per picture or group of pictures, in order; the blocks of a video's frames touch each other.
    pub frames: Vec<FrameSlot>,
    /// Where each token stands.
    pub positions: Positions,
}

impl Prompt {
    /// Tokens up to the end of the last frame: what every question about the same video shares.
    #[must_use]
    pub fn video_tokens(&self) -> usize {
        self.frames.last().map_or(0, |slot| slot.block.end)
    }

    /// Visual tokens of all frames.
    #[must_use]
    pub fn visual_tokens(&self) -> usize {
        self.frames.iter().map(|slot| slot.visual.len()).sum()
    }

    /// Keeps the first `tokens`.
    pub(crate) fn truncate(&mut self, tokens: usize) {
        self.ids.truncate(tokens);
        self.frames.retain(|slot| slot.block.end <= tokens);
        self.positions.truncate(tokens);
    }
}
