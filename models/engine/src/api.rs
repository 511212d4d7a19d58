//! What the engine is asked and what it answers: plain values, no tensors.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use reelsight_media::{CancelFlag, FrameError, FrameSource, MediaTime};
use tokio::sync::mpsc;

use crate::{
    ChoiceScore, EngineError, GenerationOptions, KvTier, TokenLogprob, TraceSpan, choice::margin,
    scheduler::Waker, session::SessionKv,
};

/// How the engine is set up; all bounds of its queues are here.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Threads inside each ONNX Runtime session.
    pub intra_threads: usize,
    /// Asks that run at the same time: those on videos have a decoder and an encoder at work.
    pub max_active: usize,
    /// Asks that may wait beyond the active ones; one more is [`EngineError::QueueFull`].
    pub max_queued: usize,
    /// Tokens of a prompt that are prefilled in one run of the decoder graph: running answers wait for at most one such
    /// run between two tokens.
    pub prefill_chunk: usize,
    /// Answers that are decoded in one run of the decoder graph.
    pub max_batch: usize,
    /// Tokens that are guessed ahead at most, where one ask writes alone; 0 guesses nothing. Answers do not depend on it.
    pub max_draft: usize,
    /// Bytes of KV that running asks may take room for.
    pub kv_bytes: usize,
    /// Bytes of KV at rest: prefixes of videos and states of sessions.
    pub kv_cache_bytes: usize,
    /// Where KV at rest is kept beyond the end of the process; `None` forgets it.
    pub kv_disk: Option<KvDisk>,
    /// Trace every ask; what the last one did is at [`crate::Engine::last_trace`].
    pub trace: bool,
    /// Waiting this long is worth one level of [`Priority`].
    pub priority_age: Duration,
    /// Frames per run of the vision graph.
    pub vision_batch: usize,
    /// Run decode, preprocess + encode and prefill one after another instead of overlapped (for measurements).
    pub no_overlap: bool,
}

/// KV at rest in files: prefixes of videos and states of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvDisk {
    /// A folder for nothing else. Engines may share it.
    pub dir: PathBuf,
    /// Bytes of files; the least recently used go first.
    pub bytes: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            intra_threads: 1,
            max_active: 8,
            max_queued: 32,
            prefill_chunk: 256,
            max_batch: 8,
            max_draft: 10,
            kv_bytes: 2 << 30,
            kv_cache_bytes: 512 << 20,
            kv_disk: None,
            trace: false,
            priority_age: Duration::from_secs(5),
            vision_batch: 8,
            no_overlap: false,
        }
    }
}

/// What a loaded model is and wants.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Folder name or manifest name, for example `reelsight-tiny`.
    pub name: String,
    /// `model_type` of the configuration, for example `smolvlm`.
    pub family: String,
    /// `fp32`, `fp16`, `q8`, `q4`...
    pub precision: String,
    /// Longest prompt plus answer.
    pub context_tokens: usize,
    /// Visual tokens of one frame.
    pub tokens_per_frame: usize,
    /// KV-cache bytes of one token over all layers.
    pub kv_bytes_per_token: usize,
    /// Bytes of weights.
    pub weight_bytes: u64,
    /// sha256 over the folder's files, hex.
    pub sha256: String,
    /// Licence as the card states it.
    pub license: String,
    /// Frames per second when the caller does not say.
    pub default_fps: f64,
    /// Frames when the caller does not say.
    pub default_max_frames: usize,
}

/// What the caller asked of sampling; zero means "the model's default".
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SamplingRequest {
    /// Frames per second.
    pub fps: f64,
    /// Hard cap on frames.
    pub max_frames: usize,
    /// Hard cap on visual tokens.
    pub max_visual_tokens: usize,
    /// Part of the video, in seconds from its start; the end is exclusive.
    pub range_secs: Option<(f64, f64)>,
    /// Width and height of the frames; models that take pictures of any size cannot plan without it.
    pub picture: Option<(u32, u32)>,
}

/// Why fewer frames are used than were asked for. The names are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReducedReason {
    /// `max_frames` of the request or of the model.
    MaxFrames,
    /// `max_visual_tokens` of the request.
    VisualTokens,
    /// The model's context length.
    ContextLength,
}

impl ReducedReason {
    /// Stable form in capitals.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxFrames => "MAX_FRAMES",
            Self::VisualTokens => "MAX_VISUAL_TOKENS",
            Self::ContextLength => "CONTEXT_LENGTH",
        }
    }
}

/// Which frames an ask looks at. Pure: made before anything is decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoPlan {
    /// Indices into the timeline, strictly increasing.
    pub frames: Vec<u64>,
    /// Exact time of each of `frames`.
    pub times: Vec<MediaTime>,
    /// When each of `frames` stops being shown, in seconds.
    pub ends_secs: Vec<f64>,
    /// Duration of the (part of the) video that was sampled, in seconds.
    pub duration_secs: f64,
    /// Average frames per second of the video.
    pub source_fps: f64,
    /// Frames per second that were really planned.
    pub effective_fps: f64,
    /// Width and height of the frames, as far as the request said.
    pub picture: Option<(u32, u32)>,
    /// Visual tokens of all frames.
    pub visual_tokens: usize,
    /// Set when the request could not be honoured.
    pub reduced: Option<ReducedReason>,
}

/// Opens the frames of an ask. It is called on the thread that will read them, and must give up when the flag is raised.
pub type OpenFrames = Box<dyn FnOnce(&CancelFlag) -> Result<Box<dyn FrameSource>, FrameError> + Send>;

/// What the question is about.
pub enum AskTarget {
    /// A video that this engine has not seen: planned frames and where they come from.
    Video {
        /// Made by [`crate::Engine::plan`].
        plan: VideoPlan,
        /// Opens the source on a thread of the ask, so that nothing is opened before it has left the queue.
        open: OpenFrames,
        /// What identifies the content: its digest, and whatever else decides how it is decoded. Asks with equal keys
        /// and plans share the video's part of the KV cache; `None` shares nothing.
        key: Option<String>,
    },
    /// The state that an earlier ask returned; only the new turn is prefilled.
    Session(SessionKv),
    /// Nothing but the question itself.
    Text,
    /// A prompt that was made elsewhere, id by id; the question is ignored and no session can be kept.
    Tokens(Vec<u32>),
}

impl fmt::Debug for AskTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Video { plan, .. } => f
                .debug_struct("Video")
                .field("frames", &plan.frames.len())
                .finish_non_exhaustive(),
            Self::Session(_) => f.write_str("Session"),
            Self::Text => f.write_str("Text"),
            Self::Tokens(ids) => write!(f, "Tokens({})", ids.len()),
        }
    }
}

/// One ask. An empty `question` prepares the session (decode, encode, prefill) without answering.
#[derive(Debug)]
pub struct AskJob {
    /// What the question is about.
    pub target: AskTarget,
    /// The question, as the user wrote it.
    pub question: String,
    /// Decoding parameters.
    pub generation: GenerationOptions,
    /// Score the frames by evidence and cite them.
    pub citations: bool,
    /// Return the KV cache in [`AskOutcome::session`].
    pub keep_session: bool,
    /// Counts time in the queue. The job ends with [`EngineError::DeadlineExceeded`] when it passes.
    pub deadline: Option<Instant>,
    /// Raised by the caller to stop the job at the next step.
    pub cancel: CancelFlag,
    /// Who goes first.
    pub priority: Priority,
    /// Whose ask it is: tenants get equal shares of the model.
    pub tenant: String,
    /// Return what was done when in [`AskOutcome::trace`].
    pub trace: bool,
}

impl AskJob {
    /// A question with everything else at its default: greedy, no citations, no session, no deadline.
    #[must_use]
    pub fn new(target: AskTarget, question: impl Into<String>) -> Self {
        Self {
            target,
            question: question.into(),
            generation: GenerationOptions::default(),
            citations: false,
            keep_session: false,
            deadline: None,
            cancel: CancelFlag::new(),
            priority: Priority::default(),
            tenant: String::new(),
            trace: false,
        }
    }
}

/// Who goes first. A higher one takes the place of a lower one when there is not enough for both; whoever waits moves
/// up with time ([`EngineConfig::priority_age`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Whenever nobody else wants anything.
    Background,
    /// Somebody waits for it.
    #[default]
    Normal,
    /// Before everything else.
    Urgent,
}

/// What an ask reports while it runs. Ends with `Done`, or with an `Err` item.
#[derive(Debug, Clone)]
pub enum EngineEvent {
    /// Still waiting; 0 is next.
    Queued {
        /// Asks ahead of this one.
        position: usize,
    },
    /// Frames that went through the vision encoder.
    Frames {
        /// So far.
        done: usize,
        /// Of the plan.
        total: usize,
    },
    /// The prompt is being prefilled.
    Prefill,
    /// A piece of the answer; never splits a character.
    Delta(String),
    /// The end.
    Done(Box<AskOutcome>),
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// End-of-turn token or stop string.
    Stop,
    /// `max_tokens` or the context was used up.
    Length,
    /// The model says that the video does not show it (the manifest names the answer that says so).
    NoEvidence,
}

/// A time range that the answer rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct EvidenceSpan {
    /// Seconds; each sampled frame stands for the times that it is nearest to.
    pub start_secs: f64,
    /// Seconds, half way from the last cited frame to the next one that was shown; where the video's last frame ends.
    pub end_secs: f64,
    /// Indices (into the video) of the cited frames that the model was shown.
    pub frames: Vec<u64>,
    /// Share of the evidence in this span, 0 to 1.
    pub score: f32,
}

/// Where the time went. With overlap the stages add up to more than `wall`.
#[derive(Debug, Clone, Copy, Default)]
pub struct StageTimes {
    /// Waiting for a job thread.
    pub queue: Duration,
    /// Blocked in, or spent by, the frame source's own thread.
    pub decode: Duration,
    /// Resize and normalise.
    pub preprocess: Duration,
    /// Vision encoder.
    pub encode: Duration,
    /// Prompt prefill.
    pub prefill: Duration,
    /// Token by token.
    pub generate: Duration,
    /// Evidence scoring after the answer.
    pub evidence: Duration,
    /// From leaving the queue to the first token.
    pub first_token: Duration,
    /// From leaving the queue to the end.
    pub wall: Duration,
}

/// The result of an ask.
#[derive(Debug, Clone)]
pub struct AskOutcome {
    /// The whole answer.
    pub answer: String,
    /// Why it ended.
    pub finish: Finish,
    /// Best first; empty when not asked for, when there was no question, or with [`Finish::NoEvidence`].
    pub evidence: Vec<EvidenceSpan>,
    /// Tokens of the whole prompt, cached ones included.
    pub prompt_tokens: usize,
    /// Of these: visual ones.
    pub visual_tokens: usize,
    /// Of these: taken from the session's KV cache.
    pub cached_tokens: usize,
    /// Where those were.
    pub cached_in: Option<KvTier>,
    /// Tokens of the answer.
    pub completion_tokens: usize,
    /// Ids of the answer's tokens, end-of-turn included when it was produced.
    pub token_ids: Vec<u32>,
    /// One for each of `token_ids`; empty when not asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// One for each choice, in the order of the request; empty when the answer was written.
    pub choices: Vec<ChoiceScore>,
    /// Frames that were really shown to the model.
    pub frames_used: usize,
    /// Frames that came out damaged or not at all.
    pub frames_damaged: usize,
    /// Where the time went.
    pub times: StageTimes,
    /// For the next question, when `keep_session` was set.
    pub session: Option<SessionKv>,
    /// What was done when, when `trace` was set.
    pub trace: Vec<TraceSpan>,
}

impl AskOutcome {
    /// How far the answer's probability is ahead of the next choice's, 0 to 1; `None` when the answer was written.
    #[must_use]
    pub fn confidence(&self) -> Option<f64> {
        (!self.choices.is_empty()).then(|| margin(&self.choices))
    }
}

/// A submitted ask. Dropping it cancels the job.
#[derive(Debug)]
pub struct AskHandle {
    /// Bounded; the job waits when nobody reads, and ends when the receiver is dropped.
    pub events: mpsc::Receiver<Result<EngineEvent, Arc<EngineError>>>,
    pub(crate) cancel: CancelFlag,
    pub(crate) wake: Waker,
}

impl Drop for AskHandle {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.wake.wake();
    }
}
