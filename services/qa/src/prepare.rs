//! From an accepted ask to something that the engine can be asked.

use std::{sync::Arc, time::Duration};

use reelsight_catalog::{CatalogError, Resolved, SourceKey};
use reelsight_decode::PacketIndex;
use reelsight_edge::{EdgeError, KeyGuard};
use reelsight_engine::AskTarget;
use reelsight_proto::v1::{AskResult, SamplingReport, Stage, VideoSource, ask_upload_request::Payload};
use tokio_stream::StreamExt as _;

use crate::{
    Qa, QaError,
    accept::{Accepted, Subject, Upload},
    convert, forms, job,
    progress::Run,
    sessions::Stored,
    validate::{self, invalid},
};

/// Longest silence of a client in the middle of its bytes.
const UPLOAD_IDLE: Duration = Duration::from_mins(1);

/// An opened and indexed video.
pub(crate) struct Video {
    pub(crate) source: VideoSource,
    pub(crate) resolved: Resolved,
    pub(crate) index: Arc<PacketIndex>,
}

/// What is known before the engine is asked.
pub(crate) enum Prepared {
    /// The same request was answered before.
    Replay(Box<AskResult>),
    /// Something new.
    Fresh(Box<Fresh>),
}

/// What the engine is asked, and where the answer belongs.
pub(crate) struct Fresh {
    pub(crate) origin: Origin,
    pub(crate) target: AskTarget,
    pub(crate) report: SamplingReport,
    pub(crate) model: String,
}

/// What an answer is about.
pub(crate) enum Origin {
    Video(Video),
    Session { stored: Box<Stored>, rebuilt: bool },
}

/// Held until the ask is over: nobody else answers the same request or continues the same session.
#[derive(Default)]
pub(crate) struct Held {
    request: Option<KeyGuard>,
    session: Option<KeyGuard>,
}

impl Prepared {
    pub(crate) fn report(&self) -> Option<SamplingReport> {
        match self {
            Self::Replay(result) => result.sampling_report.clone(),
            Self::Fresh(fresh) => Some(fresh.report.clone()),
        }
    }
}

impl Qa {
    pub(crate) async fn prepare(
        &self,
        accepted: &mut Accepted,
        run: &Run<'_>,
    ) -> Result<(Prepared, Held), QaError> {
        let mut held = Held::default();
        if !accepted.request_id.is_empty() {
            // A second call with the same id waits for the first and gets its answer.
            held.request = Some(
                self.0
                    .locks
                    .lock(&format!("request/{}", accepted.request_id))
                    .await,
            );
            if let Some(result) = self.remembered(accepted).await? {
                return Ok((Prepared::Replay(Box::new(result)), held));
            }
        }
        let fresh = if let Subject::Session(id) = &accepted.subject {
            let id = id.clone();
            held.session = Some(self.0.locks.lock(&format!("session/{id}")).await);
            self.prepare_session(&id, accepted, run).await?
        } else {
            self.prepare_video(accepted, run).await?
        };
        run.status.enter(Stage::Queued);
        Ok((Prepared::Fresh(Box::new(fresh)), held))
    }

    async fn prepare_video(&self, accepted: &mut Accepted, run: &Run<'_>) -> Result<Fresh, QaError> {
        let engine = self.models().get(&accepted.config.model)?;
        forms::with_schema(engine, &accepted.config, &mut accepted.generation).await?;
        let video = self.open(accepted, run).await?;
        let mut request = accepted.sampling_request;
        validate::clip_range(&mut request, video.index.timeline.duration_secs())?;
        request.picture = Some((video.index.info.width, video.index.info.height));
        let plan = engine.plan(
            &video.index.timeline,
            &request,
            &accepted.question,
            accepted.generation.max_tokens,
        )?;
        let report = convert::report_from_plan(&plan);
        let parts = &self.0.parts;
        let index = Arc::clone(&video.index);
        let target = job::video_target(
            &parts.sources,
            &video.resolved,
            index,
            plan,
            &parts.limits,
            run.decoded.clone(),
        )?;
        Ok(Fresh {
            origin: Origin::Video(video),
            target,
            report,
            model: engine.info().name.clone(),
        })
    }

    async fn open(&self, accepted: &mut Accepted, run: &Run<'_>) -> Result<Video, QaError> {
        let sources = &self.0.parts.sources;
        run.status.enter(Stage::Fetching);
        let (source, resolved) = match &mut accepted.subject {
            Subject::Source(source) => (source.clone(), sources.open(source).await?),
            Subject::Upload(upload) => {
                let Upload { source, chunks, file } = &mut **upload;
                loop {
                    let next = tokio::time::timeout(UPLOAD_IDLE, chunks.next()).await;
                    let next = next.map_err(|_elapsed| CatalogError::Silent(UPLOAD_IDLE))?;
                    let Some(message) = next.transpose().map_err(|_broken| EdgeError::Cancelled)? else {
                        break;
                    };
                    let Some(Payload::Chunk(chunk)) = message.payload else {
                        return Err(invalid("chunk", "after ask only chunks may come"));
                    };
                    file.push(chunk).await?;
                }
                let (file, _bytes, sha256) = file.finish().await?;
                let resolved = Resolved::from_file(file, SourceKey::from_sha256(&sha256));
                (source.clone(), resolved)
            }
            Subject::Session(_) => return Err(QaError::Internal("a session has no source to open")),
        };
        run.status.enter(Stage::Probing);
        let index = sources.index(&resolved).await?;
        Ok(Video {
            source,
            resolved,
            index,
        })
    }

    async fn prepare_session(
        &self,
        id: &str,
        accepted: &mut Accepted,
        run: &Run<'_>,
    ) -> Result<Fresh, QaError> {
        let stored = self.live_session(id).await?;
        let model = stored.record.model.clone();
        if !accepted.config.model.is_empty() && accepted.config.model != model {
            return Err(invalid(
                "generation.model",
                format!("the session was made with {model}: leave it empty"),
            ));
        }
        let engine = self.models().get(&model)?;
        forms::with_schema(engine, &accepted.config, &mut accepted.generation).await?;
        let report = SamplingReport {
            frames_decoded: 0,
            ..stored.record.sampling_report.clone().unwrap_or_default()
        };
        let (state, rebuilt) = if let Some(state) = self.kept_state(engine, id).await? {
            (state, false)
        } else {
            run.status.enter(Stage::Decoding);
            (self.rebuild(engine, &stored, run).await?, true)
        };
        let origin = Origin::Session {
            stored: Box::new(stored),
            rebuilt,
        };
        Ok(Fresh {
            origin,
            target: AskTarget::Session(state),
            report,
            model,
        })
    }
}
