//! The public face: load a model, plan frames, submit asks.

use std::sync::Arc;

use reelsight_media::Timeline;
use reelsight_registry::ModelFolder;

use crate::{AskHandle, AskJob, EngineConfig, EngineError, ModelInfo, SamplingRequest, VideoPlan};

/// A loaded model with its job threads. Cloning is cheap; the last clone that goes shuts it down.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: ModelInfo,
}

fn not_yet<T>() -> Result<T, EngineError> {
    Err(EngineError::Internal {
        message: "the engine is being built".into(),
    })
}

impl Engine {
    /// Loads the graphs of `folder` and starts the session and job threads.
    ///
    /// # Errors
    /// [`EngineError::Model`] when the folder cannot be used, [`EngineError::DeviceMemory`] when it does not fit.
    pub fn load(_folder: &ModelFolder, _config: EngineConfig) -> Result<Self, EngineError> {
        not_yet()
    }

    /// What the loaded model is and wants.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// Which frames an ask would look at: the family's sampling rule, reduced to what fits, never silently
    /// ([`VideoPlan::reduced`]). `max_tokens` is the room that is kept for the answer; 0 is the model's default.
    ///
    /// # Errors
    /// [`EngineError::InvalidInput`] for an impossible request, [`EngineError::ContextExceeded`] when even one frame
    /// does not fit beside the question.
    pub fn plan(
        &self,
        _timeline: &Timeline,
        _request: &SamplingRequest,
        _question: &str,
        _max_tokens: usize,
    ) -> Result<VideoPlan, EngineError> {
        not_yet()
    }

    /// Puts an ask into the queue and returns at once.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`] when there is no place, [`EngineError::InvalidInput`] for wrong parameters.
    pub fn submit(&self, _job: AskJob) -> Result<AskHandle, EngineError> {
        not_yet()
    }

    /// Asks that run now.
    #[must_use]
    pub fn active(&self) -> usize {
        0
    }

    /// Asks that wait now.
    #[must_use]
    pub fn queued(&self) -> usize {
        0
    }

    /// Cancels all asks and joins all threads. Later asks are refused.
    pub fn shutdown(&self) {}
}
