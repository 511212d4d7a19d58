//! The public face: load a model, plan frames, submit asks.

use std::{fmt, sync::Arc};

use reelsight_media::Timeline;
use reelsight_registry::ModelFolder;

use crate::{
    AskHandle, AskJob, AskTarget, EngineConfig, EngineError, EngineMetrics, KvTier, ModelInfo,
    SamplingRequest, Schema, SessionKv, TraceSpan, VideoPlan,
    control::Control,
    graphs::Tokens,
    kv::{Disk, KvStore, probe},
    model::Model,
    plan,
    scheduler::Scheduler,
};

/// A loaded model with its scheduler. Cloning is cheap; the last clone that goes shuts it down.
#[derive(Clone)]
pub struct Engine(Arc<Scheduler>);

impl Engine {
    /// Loads the graphs of `folder`, tries what its decoder can do, and starts the scheduler.
    ///
    /// # Errors
    /// [`EngineError::Model`] when the folder cannot be used, [`EngineError::DeviceMemory`] when it does not fit.
    pub fn load(folder: &ModelFolder, config: EngineConfig) -> Result<Self, EngineError> {
        let (model, decoder) = Model::load(folder, &config)?;
        let (takes_ids, context) = (decoder.takes_ids(), model.info.context_tokens);
        let embed = |ids: &[u32]| {
            if takes_ids {
                return Ok(Tokens::Ids(ids.to_vec()));
            }
            model.embed(ids, &Control::endless()).map(Tokens::Embeds)
        };
        let (rows, traits) = probe(decoder, config.max_batch.max(1), context, &embed)?;
        let disk = match &config.kv_disk {
            Some(disk) => {
                let weights = format!("{}/{}", model.info.sha256, model.info.precision);
                Some(Disk::open(disk, &weights, model.id, rows.decoder.planes())?)
            }
            None => None,
        };
        let store = Arc::new(KvStore::new(config.kv_cache_bytes, disk));
        let scheduler = Scheduler::start(Arc::new(model), rows, traits, config, store)?;
        Ok(Self(Arc::new(scheduler)))
    }

    /// What the loaded model is and wants.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.0.model().info
    }

    /// Which frames an ask would look at: the family's sampling rule, reduced to what fits, never silently
    /// ([`VideoPlan::reduced`]). `max_tokens` is the room that is kept for the answer; 0 is the model's default.
    ///
    /// # Errors
    /// [`EngineError::InvalidInput`] for an impossible request, [`EngineError::ContextExceeded`] when even one frame
    /// does not fit beside the question.
    pub fn plan(
        &self,
        timeline: &Timeline,
        request: &SamplingRequest,
        question: &str,
        max_tokens: usize,
    ) -> Result<VideoPlan, EngineError> {
        plan::plan(self.0.model(), timeline, request, question, max_tokens)
    }

    /// A JSON schema for [`crate::AnswerForm::Json`]. Takes milliseconds, up to a second for the largest schemas: not
    /// for threads that must not block.
    ///
    /// # Errors
    /// [`EngineError::SchemaInvalid`] with the place in the schema.
    pub fn schema(&self, source: &str) -> Result<Schema, EngineError> {
        let model = self.0.model();
        model.grammars.compile(&model.tokenizer, &model.end, source)
    }

    /// What token `id` adds to a text, as bytes: not always whole characters. Control tokens give their name.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.0.model().token_bytes(id)
    }

    /// Puts an ask into the queue and returns at once.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`] when there is no place, [`EngineError::InvalidInput`] for wrong parameters.
    pub fn submit(&self, job: AskJob) -> Result<AskHandle, EngineError> {
        validate(self.0.model(), &job)?;
        self.0.submit(job)
    }

    /// Asks that run now.
    #[must_use]
    pub fn active(&self) -> usize {
        self.0.active()
    }

    /// Asks that wait now.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.queued()
    }

    /// What the engine has done and how fast.
    #[must_use]
    pub fn metrics(&self) -> EngineMetrics {
        self.0.metrics()
    }

    /// What was done when for the last ask that ended, with [`EngineConfig::trace`].
    #[must_use]
    pub fn last_trace(&self) -> Vec<TraceSpan> {
        self.0.last_trace()
    }

    /// Keeps the state of a session under `name`, as long as there is room: least recently used ones go first, and the
    /// prefixes of videos count among them. What sessions share is there once.
    pub fn keep(&self, name: &str, session: &SessionKv) {
        self.0.store().put(name, session);
    }

    /// The state that was kept under `name`. Reads a file when it is on disk.
    #[must_use]
    pub fn kept(&self, name: &str) -> Option<SessionKv> {
        self.0.store().get(name)
    }

    /// Where [`Engine::kept`] would find `name`, without counting as a use.
    #[must_use]
    pub fn kept_in(&self, name: &str) -> Option<KvTier> {
        self.0.store().tier(name)
    }

    /// Forgets `name`.
    pub fn forget(&self, name: &str) {
        self.0.store().remove(name);
    }

    /// Names of what is kept in memory.
    #[must_use]
    pub fn kept_names(&self) -> Vec<String> {
        self.0.store().names()
    }

    /// Cancels all asks and joins all threads. Later asks are refused.
    pub fn shutdown(&self) {
        self.0.shutdown();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("model", &self.info().name)
            .finish_non_exhaustive()
    }
}

fn validate(model: &Model, job: &AskJob) -> Result<(), EngineError> {
    let wrong = |field, message: &str| {
        Err(EngineError::InvalidInput {
            field,
            message: message.to_owned(),
        })
    };
    job.generation.check()?;
    match &job.target {
        AskTarget::Video { plan, .. } => {
            let increasing = plan.frames.windows(2).all(|pair| pair[0] < pair[1]);
            let complete = [plan.times.len(), plan.ends_secs.len()]
                .iter()
                .all(|&len| len == plan.frames.len());
            if plan.frames.is_empty() || !increasing || !complete {
                return wrong(
                    "plan",
                    "it must name at least one frame, in order, each with its times",
                );
            }
        }
        AskTarget::Session(session) => {
            if session.0.model != model.id {
                return wrong("session", "it belongs to another model: start a new one");
            }
            if job.question.is_empty() {
                return wrong("question", "the session is prepared: ask something");
            }
        }
        AskTarget::Text if job.question.is_empty() => return wrong("question", "ask something"),
        AskTarget::Tokens(ids) if ids.is_empty() => return wrong("tokens", "give at least one token"),
        AskTarget::Text | AskTarget::Tokens(_) => {}
    }
    Ok(())
}
