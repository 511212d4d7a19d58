//! The parts that every call shares.

use std::{sync::Arc, time::Duration};

use reelsight_catalog::{Plan, Planner, Sources, Uploads};
use reelsight_decode::PacketIndex;
use reelsight_edge::KeyedLocks;
use reelsight_proto::{
    status::ServiceError,
    time::now_millis,
    v1::{Sampling, TimeRange},
};
use reelsight_store::{PageTokens, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Models, QaError, convert::report_from_plan, headers::Headers, operations::Running, sessions::session_of,
    validate,
};

/// Bounds of everything that waits or is kept.
#[derive(Debug, Clone)]
pub struct QaLimits {
    /// Asks that the engine runs at a time; the same number that it was configured with.
    pub max_active: usize,
    /// Asks that may wait or be prepared beyond those.
    pub max_queued: usize,
    /// Operations that run or wait. Default 256.
    pub max_operations: usize,
    /// Bytes of KV at rest (states of sessions, prefixes of videos), for each model; the same number that the engines
    /// were configured with. Default 512 MiB.
    pub session_bytes: usize,
    /// How long a session lives after its last use. Default one hour.
    pub session_ttl: Duration,
    /// The most that a client may ask for. Default one day.
    pub max_session_ttl: Duration,
    /// Threads of one decode. Default 1.
    pub decode_threads: usize,
    /// Bytes of pictures that may wait between decoder and encoder, per ask. Default 64 MiB.
    pub frame_budget: usize,
    /// How long answers are remembered by `request_id`. Default one day.
    pub keep_replies: Duration,
    /// How long finished operations are kept. Default seven days.
    pub keep_operations: Duration,
}

impl Default for QaLimits {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            max_active: 8,
            max_queued: 32,
            max_operations: 256,
            session_bytes: 512 << 20,
            session_ttl: Duration::from_hours(1),
            max_session_ttl: day,
            decode_threads: 1,
            frame_budget: 64 << 20,
            keep_replies: day,
            keep_operations: 7 * day,
        }
    }
}

/// What a [`Qa`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Who answers.
    pub models: Models,
    /// Where videos come from.
    pub sources: Sources,
    /// Where bytes of asks are kept.
    pub uploads: Uploads,
    /// What survives a restart.
    pub store: Store,
    /// Signs page tokens.
    pub pages: PageTokens,
    /// Bounds.
    pub limits: QaLimits,
    /// Owns all tasks.
    pub tracker: TaskTracker,
    /// Raised to end running asks.
    pub shutdown: CancellationToken,
}

/// Answers questions. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Qa(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) parts: Parts,
    pub(crate) headers: Headers,
    pub(crate) locks: KeyedLocks,
    pub(crate) running: Running,
    admission: Arc<Semaphore>,
    operations: Arc<Semaphore>,
}

impl Qa {
    /// Over the given parts. Operations that an earlier server left unfinished end with `SERVER_RESTARTED`.
    ///
    /// # Errors
    /// [`QaError::Store`].
    pub async fn new(parts: Parts) -> Result<Self, QaError> {
        let limits = &parts.limits;
        let admission = Arc::new(Semaphore::new(limits.max_active + limits.max_queued));
        let operations = Arc::new(Semaphore::new(limits.max_operations));
        let (locks, running) = (KeyedLocks::default(), Running::default());
        let qa = Self(Arc::new(Inner {
            parts,
            headers: Headers::default(),
            locks,
            running,
            admission,
            operations,
        }));
        qa.end_interrupted_operations().await?;
        Ok(qa)
    }

    /// Who answers.
    #[must_use]
    pub fn models(&self) -> &Models {
        &self.0.parts.models
    }

    /// Sessions whose KV state is in memory.
    #[must_use]
    pub fn cached_sessions(&self) -> usize {
        self.kept_sessions().len()
    }

    /// Ids of sessions whose KV state is in memory.
    fn kept_sessions(&self) -> Vec<String> {
        let names = self.models().all().flat_map(reelsight_engine::Engine::kept_names);
        names
            .filter_map(|name| session_of(&name).map(str::to_owned))
            .collect()
    }

    /// A place among the asks that run or wait.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, QaError> {
        Arc::clone(&self.0.admission)
            .try_acquire_owned()
            .map_err(|_full| {
                let limits = &self.0.parts.limits;
                let wait = self.models().estimate_wait(limits.max_queued, limits.max_active);
                QaError::QueueFull {
                    limit: limits.max_active + limits.max_queued,
                    retry_after: wait.clamp(Duration::from_secs(1), Duration::from_mins(1)),
                }
            })
    }

    /// A place as soon as there is one, for work that nobody waits for.
    pub(crate) async fn admit_later(&self) -> Result<OwnedSemaphorePermit, QaError> {
        let permit = Arc::clone(&self.0.admission).acquire_owned().await;
        permit.map_err(|_closed| QaError::Internal("the admission semaphore is closed"))
    }

    pub(crate) fn admit_operation(&self) -> Result<OwnedSemaphorePermit, QaError> {
        Arc::clone(&self.0.operations)
            .try_acquire_owned()
            .map_err(|_full| QaError::QueueFull {
                limit: self.0.parts.limits.max_operations,
                retry_after: Duration::from_secs(30),
            })
    }

    /// Forgets what has expired.
    ///
    /// # Errors
    /// [`QaError::Store`].
    pub async fn sweep(&self) -> Result<(), QaError> {
        let (now, limits) = (now_millis(), &self.0.parts.limits);
        let ago = |duration: Duration| now - i64::try_from(duration.as_millis()).unwrap_or(0);
        let (replies, operations) = (ago(limits.keep_replies), ago(limits.keep_operations));
        // An expired session is still known for a while, so that a late follow-up learns why it is refused.
        let sessions = ago(limits.max_session_ttl);
        let mut cached = self.kept_sessions();
        cached.extend(self.0.headers.sessions());
        let dead = self.0.parts.store.run(move |db| {
            db.sweep_replies(replies)?;
            db.sweep_operations(operations)?;
            db.sweep_sessions(sessions)?;
            db.dead_sessions(cached, now)
        });
        for session in dead.await? {
            self.forget_state(&session);
        }
        Ok(())
    }
}

impl Planner for Qa {
    fn plan(
        &self,
        model: &str,
        index: &PacketIndex,
        sampling: &Sampling,
        range: Option<&TimeRange>,
    ) -> Result<Plan, Box<dyn ServiceError + Send + Sync>> {
        let plan = || {
            let engine = self.models().get(model)?;
            let mut request = validate::sampling(sampling, range)?;
            validate::clip_range(&mut request, index.timeline.duration_secs())?;
            request.picture = Some((index.info.width, index.info.height));
            let plan = engine.plan(&index.timeline, &request, "", 0)?;
            let bytes = plan.visual_tokens as u64 * engine.info().kv_bytes_per_token as u64;
            Ok::<_, QaError>(Plan {
                report: report_from_plan(&plan),
                estimated_time: self.models().estimate(plan.frames.len()),
                device_bytes: bytes,
            })
        };
        plan().map_err(|error| Box::new(error) as Box<dyn ServiceError + Send + Sync>)
    }
}
