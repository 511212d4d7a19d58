//! Which frames an ask looks at: the family's rule, reduced to what fits, and never in silence.

use reelsight_families::{Prompt, Turn, VideoShown};
use reelsight_media::Timeline;
use reelsight_sampling::{SamplingError, sample};

use crate::{
    EngineError, ReducedReason, SamplingRequest, VideoPlan,
    model::{Model, prompt_error},
};

pub(crate) fn plan(
    model: &Model,
    timeline: &Timeline,
    request: &SamplingRequest,
    question: &str,
    max_tokens: usize,
) -> Result<VideoPlan, EngineError> {
    let limits = Limits::new(model, request)?;
    let mut plan = plan_frames(model, timeline, request, limits.frames)?;
    if plan.wanted > limits.frames {
        plan.video.reduced = Some(limits.reason);
    }
    let room = model
        .info
        .context_tokens
        .saturating_sub(model.max_tokens(max_tokens));
    let tokens = prompt_tokens(model, &plan.video, question)?;
    if tokens > room {
        plan.video = largest_that_fits(model, timeline, request, question, plan.video.frames.len(), room)?;
        plan.video.reduced = Some(ReducedReason::ContextLength);
    }
    Ok(plan.video)
}

/// Most frames, and whose wish that is.
struct Limits {
    frames: usize,
    reason: ReducedReason,
}

impl Limits {
    fn new(model: &Model, request: &SamplingRequest) -> Result<Self, EngineError> {
        let frames = if request.max_frames == 0 {
            model.info.default_max_frames
        } else {
            request.max_frames
        };
        let per_frame = model.info.tokens_per_frame;
        if request.max_visual_tokens == 0 || request.max_visual_tokens / per_frame >= frames {
            return Ok(Self {
                frames,
                reason: ReducedReason::MaxFrames,
            });
        }
        if request.max_visual_tokens < per_frame {
            return Err(EngineError::InvalidInput {
                field: "sampling.max_visual_tokens",
                message: format!("one frame takes {per_frame} visual tokens: allow at least that many"),
            });
        }
        Ok(Self {
            frames: request.max_visual_tokens / per_frame,
            reason: ReducedReason::VisualTokens,
        })
    }
}

struct Planned {
    video: VideoPlan,
    /// Frames at the wanted rate, without any limit.
    wanted: usize,
}

fn plan_frames(
    model: &Model,
    timeline: &Timeline,
    request: &SamplingRequest,
    max_frames: usize,
) -> Result<Planned, EngineError> {
    let fps = if request.fps == 0.0 {
        model.info.default_fps
    } else {
        request.fps
    };
    let rule = model.family.sampling_rule(fps, max_frames);
    let sampled = sample(timeline, &rule, request.range_secs).map_err(|error| sampling_error(&error))?;
    let indices: Vec<usize> = sampled
        .frames
        .iter()
        .filter_map(|&frame| usize::try_from(frame).ok())
        .collect();
    let base = timeline.base();
    let (first, end) = (base.secs(timeline.start()), base.secs(timeline.end()));
    let (start, end) = request
        .range_secs
        .map_or((first, end), |(start, stop)| (start.max(first), stop.min(end)));
    let duration_secs = (end - start).max(0.0);
    let frames = indices.len();
    let mut video = VideoPlan {
        times: indices.iter().filter_map(|&index| timeline.time(index)).collect(),
        ends_secs: indices
            .iter()
            .map(|&index| timeline.frame_end_secs(index))
            .collect(),
        frames: sampled.frames,
        duration_secs,
        source_fps: timeline.average_fps(),
        effective_fps: if duration_secs > 0.0 {
            frames as f64 / duration_secs
        } else {
            0.0
        },
        picture: request.picture,
        visual_tokens: 0,
        reduced: None,
    };
    video.visual_tokens = video_prompt(model, &video)?.visual_tokens();
    let shown = timeline
        .index_at_secs(end)
        .saturating_sub(timeline.index_at_secs(start))
        + 1;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates"
    )]
    let wanted = (fps * duration_secs).round_ties_even() as usize;
    Ok(Planned {
        video,
        wanted: wanted.min(shown),
    })
}

/// The plan with the most frames, below `frames`, whose prompt has at most `room` tokens.
fn largest_that_fits(
    model: &Model,
    timeline: &Timeline,
    request: &SamplingRequest,
    question: &str,
    frames: usize,
    room: usize,
) -> Result<VideoPlan, EngineError> {
    let (mut fits, mut fails) = (0, frames);
    let mut best = None;
    let mut smallest = 0;
    while fails - fits > 1 || (best.is_none() && fits == 0) {
        let middle = usize::midpoint(fits, fails).max(1);
        let plan = plan_frames(model, timeline, request, middle)?.video;
        let tokens = prompt_tokens(model, &plan, question)?;
        if tokens <= room {
            fits = middle;
            best = Some(plan);
        } else {
            fails = middle;
            smallest = tokens;
            if middle == 1 {
                break;
            }
        }
    }
    best.ok_or(EngineError::ContextExceeded {
        limit: room,
        actual: smallest,
    })
}

fn prompt_tokens(model: &Model, plan: &VideoPlan, question: &str) -> Result<usize, EngineError> {
    let turn = Turn {
        question: question.to_owned(),
        answer: None,
    };
    let turns = if question.is_empty() {
        Vec::new()
    } else {
        vec![turn]
    };
    Ok(model
        .family
        .prompt(&shown(plan), &turns)
        .map_err(|error| prompt_error(&error))?
        .ids
        .len())
}

fn video_prompt(model: &Model, plan: &VideoPlan) -> Result<Prompt, EngineError> {
    model
        .family
        .prompt(&shown(plan), &[])
        .map_err(|error| prompt_error(&error))
}

/// The planned video as a prompt tells of it.
pub(crate) fn shown(plan: &VideoPlan) -> VideoShown {
    VideoShown {
        stamps_secs: plan.times.iter().map(|time| time.secs()).collect(),
        duration_secs: plan.duration_secs,
        size: plan.picture,
    }
}

fn sampling_error(error: &SamplingError) -> EngineError {
    let field = match error {
        SamplingError::InvalidFps { .. } => "sampling.fps",
        SamplingError::InvalidCount => "sampling.max_frames",
        _ => "sampling.range",
    };
    EngineError::InvalidInput {
        field,
        message: error.to_string(),
    }
}
