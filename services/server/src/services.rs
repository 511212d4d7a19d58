//! The parts of a server, made in their order; also what a process without listeners asks.

use std::sync::Arc;

use reelsight_catalog::{Decoders, Media, MediaRoots, Sources, Uploads};
use reelsight_engine::Engine;
use reelsight_fetch::{Fetcher, UrlPolicy};
use reelsight_qa::{Models, Parts, Qa};
use reelsight_store::{DataDir, PageTokens, Store};
use reelsight_worker::{WorkerOptions, WorkerPool};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{ServerConfig, ServerError};

/// Everything behind the listeners.
#[derive(Clone)]
pub struct Services {
    /// Questions; [`Qa::ask`] is the same path with and without a socket.
    pub qa: Qa,
    /// Media.
    pub media: Media,
    pub(crate) uploads: Uploads,
    pub(crate) pool: WorkerPool,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services")
            .field("qa", &self.qa)
            .finish_non_exhaustive()
    }
}

impl Services {
    /// Opens the data folder and connects the parts. The first engine is the default model.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn open(config: &ServerConfig, engines: Vec<Engine>) -> Result<Self, ServerError> {
        let pool = WorkerPool::start(WorkerOptions {
            workers: config.qa.max_active + config.sources.indexing,
            ..config.workers.clone()
        })?;
        let dir = DataDir::open(&config.data_dir)?;
        let (store, pages) = (Store::open(&dir)?, PageTokens::open(&dir)?);
        let policy = UrlPolicy::new(config.url_allow.clone());
        let (limits, resolver) = (config.fetch.clone(), Arc::clone(&config.resolver));
        let fetcher = Fetcher::with(policy, limits, resolver, &config.url_authorities)
            .with_s3(config.s3_stores.clone());
        let roots = MediaRoots::new(&config.media_roots).map_err(ServerError::MediaRoot)?;
        let decoders = Decoders {
            refusal: refusal(config, &pool).await?,
            pool: pool.clone(),
        };
        let limits = config.sources.clone();
        let sources = Sources::new(dir.clone(), store.clone(), fetcher, roots, limits, decoders);
        let uploads = Uploads::new(dir, store.clone(), sources.clone(), config.uploads.clone());
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let qa = Qa::new(Parts {
            models: Models::new(engines),
            sources: sources.clone(),
            uploads: uploads.clone(),
            store: store.clone(),
            pages: pages.clone(),
            limits: config.qa.clone(),
            tracker: tracker.clone(),
            shutdown: stop.clone(),
        })
        .await?;
        let media = Media::new(sources, uploads.clone(), store, pages, Arc::new(qa.clone()));
        Ok(Self {
            qa,
            media,
            uploads,
            pool,
            tracker,
            stop,
        })
    }

    /// Deletes what has expired.
    pub(crate) async fn sweep(&self) {
        if let Err(error) = self.uploads.sweep().await {
            tracing::error!(%error, "expired media could not be deleted");
        }
        if let Err(error) = self.qa.sweep().await {
            tracing::error!(%error, "expired sessions could not be deleted");
        }
    }

    /// Ends running asks, waits for their tasks and joins the engines' threads and the decode workers.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        let qa = self.qa.clone();
        let pool = self.pool.clone();
        let joined = tokio::task::spawn_blocking(move || {
            for engine in qa.models().all() {
                engine.shutdown();
            }
            pool.close();
        });
        if let Err(error) = joined.await {
            tracing::error!(%error, "the engines did not stop cleanly");
        }
    }
}

/// What keeps strangers' sources out. Waits until the first worker has locked itself in.
async fn refusal(config: &ServerConfig, pool: &WorkerPool) -> Result<Option<String>, ServerError> {
    let pool = pool.clone();
    let gaps = tokio::task::spawn_blocking(move || pool.sandbox_gaps());
    let gaps = gaps.await.map_err(ServerError::Panicked)??;
    if gaps.is_empty() {
        return Ok(None);
    }
    let gap = gaps.join("; ");
    if config.allow_unsandboxed {
        tracing::warn!(
            gap,
            "decoders are not locked in, and sources from anyone are decoded"
        );
        return Ok(None);
    }
    tracing::warn!(
        gap,
        "decoders cannot be locked in: only files of the media roots are decoded"
    );
    Ok(Some(gap))
}
