//! `reelsight.v1.MediaService`.

use std::{sync::Arc, time::Duration};

use reelsight_decode::PacketIndex;
use reelsight_edge::{RequestContext, report};
use reelsight_proto::{
    status::ServiceError,
    time::{duration_from_std, now_millis},
    v1::{
        self, DeleteMediaRequest, DeleteMediaResponse, GetMediaRequest, GetMediaResponse, GetUploadRequest,
        GetUploadResponse, ListMediaRequest, ListMediaResponse, ProbeSourceRequest, ProbeSourceResponse,
        Sampling, SamplingReport, TimeRange, UploadMediaRequest, UploadMediaResponse, Warning,
        media_service_server::MediaService, upload_media_request::Payload,
    },
};
use reelsight_store::{Cursor, PageTokens, Store, page_size};
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    CatalogError, Sources, Uploads,
    info::{media_from_row, media_info_from_index},
    sources::media_id,
    uploads::Begun,
};

const SCOPE: &str = "media";

/// What an ask would do with a video.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Which frames, and why not more.
    pub report: SamplingReport,
    /// A guess from earlier asks.
    pub estimated_time: Option<Duration>,
    /// KV cache of the visual tokens.
    pub device_bytes: u64,
}

/// Plans an ask without running it; what `ProbeSource` shows.
pub trait Planner: Send + Sync {
    /// The plan for an indexed video.
    ///
    /// # Errors
    /// What the ask itself would say.
    fn plan(
        &self,
        model: &str,
        index: &PacketIndex,
        sampling: &Sampling,
        range: Option<&TimeRange>,
    ) -> Result<Plan, Box<dyn ServiceError + Send + Sync>>;
}

/// The service.
#[derive(Clone)]
pub struct Media {
    sources: Sources,
    uploads: Uploads,
    store: Store,
    pages: PageTokens,
    planner: Arc<dyn Planner>,
}

impl Media {
    /// Over the given parts.
    #[must_use]
    pub fn new(
        sources: Sources,
        uploads: Uploads,
        store: Store,
        pages: PageTokens,
        planner: Arc<dyn Planner>,
    ) -> Self {
        Self {
            sources,
            uploads,
            store,
            pages,
            planner,
        }
    }

    async fn receive(&self, mut messages: Streaming<UploadMediaRequest>) -> Result<v1::Media, Stop> {
        let first = self
            .next(&mut messages)
            .await?
            .and_then(|message| message.payload);
        let Some(Payload::Start(start)) = first else {
            let message = "the first message must be start".to_owned();
            return Err(CatalogError::Invalid {
                field: "start",
                message,
            }
            .into());
        };
        let mut upload = match self.uploads.begin(start).await? {
            Begun::Finished(media) => return Ok(media_from_row(media)),
            Begun::Open(upload) => upload,
        };
        while let Some(message) = self.next(&mut messages).await? {
            let Some(Payload::Chunk(chunk)) = message.payload else {
                let message = "after start only chunks may come".to_owned();
                return Err(CatalogError::Invalid {
                    field: "chunk",
                    message,
                }
                .into());
            };
            upload.push(chunk).await?;
        }
        Ok(media_from_row(self.uploads.finish(*upload).await?))
    }

    async fn next(
        &self,
        messages: &mut Streaming<UploadMediaRequest>,
    ) -> Result<Option<UploadMediaRequest>, Stop> {
        let idle = self.uploads.limits().idle;
        let next = tokio::time::timeout(idle, messages.next()).await;
        Ok(next.map_err(|_elapsed| CatalogError::Silent(idle))?.transpose()?)
    }

    async fn probe(&self, request: &ProbeSourceRequest) -> Result<ProbeSourceResponse, CatalogError> {
        let nothing = || CatalogError::Invalid {
            field: "source",
            message: "name a source".into(),
        };
        let source = request.source.as_ref().ok_or_else(nothing)?;
        let opened = self.sources.open(source).await?;
        let index = self.sources.index(&opened).await?;
        let sampling = request.sampling.unwrap_or_default();
        let plan = self
            .planner
            .plan(&request.model, &index, &sampling, source.range.as_ref())
            .map_err(CatalogError::Plan)?;
        let warning = |w: &reelsight_decode::MediaWarning| Warning {
            reason: w.reason.to_string(),
            message: w.message.clone(),
        };
        Ok(ProbeSourceResponse {
            info: Some(media_info_from_index(&index)),
            plan: Some(plan.report),
            estimated_time: plan.estimated_time.map(duration_from_std),
            estimated_device_bytes: plan.device_bytes,
            warnings: index.warnings.iter().map(warning).collect(),
        })
    }

    async fn get(&self, name: &str) -> Result<v1::Media, CatalogError> {
        let id = media_id(name)?.to_owned();
        let row = self
            .store
            .run(move |db| db.media(&id))
            .await?
            .filter(|row| row.expires_ms > now_millis());
        row.map(media_from_row).ok_or_else(|| missing(name))
    }

    async fn list(&self, request: ListMediaRequest) -> Result<ListMediaResponse, CatalogError> {
        let (size, cursor) = (
            page_size(request.page_size)?,
            self.pages.verify(SCOPE, &request.page_token)?,
        );
        let mut rows = self
            .store
            .run(move |db| db.list_media(cursor.as_ref(), size + 1, now_millis()))
            .await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let last = rows.last().filter(|_row| more);
        let next_page_token = last.map_or_else(String::new, |row| {
            self.pages.sign(
                SCOPE,
                &Cursor {
                    created_ms: row.created_ms,
                    id: row.id.clone(),
                },
            )
        });
        Ok(ListMediaResponse {
            media: rows.into_iter().map(media_from_row).collect(),
            next_page_token,
        })
    }
}

fn missing(name: &str) -> CatalogError {
    CatalogError::NotFound {
        kind: "reelsight.v1.Media",
        name: name.to_owned(),
    }
}

/// An upload ends by our error or by the transport's.
enum Stop {
    Ours(CatalogError),
    Transport(Status),
}

impl From<CatalogError> for Stop {
    fn from(error: CatalogError) -> Self {
        Self::Ours(error)
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Transport(status)
    }
}

#[tonic::async_trait]
impl MediaService for Media {
    async fn upload_media(
        &self,
        request: Request<Streaming<UploadMediaRequest>>,
    ) -> Result<Response<UploadMediaResponse>, Status> {
        let context = RequestContext::of(&request);
        match self.receive(request.into_inner()).await {
            Ok(media) => Ok(Response::new(UploadMediaResponse { media: Some(media) })),
            Err(Stop::Ours(error)) => Err(report(&error, &context)),
            Err(Stop::Transport(status)) => Err(status),
        }
    }

    async fn get_upload(
        &self,
        request: Request<GetUploadRequest>,
    ) -> Result<Response<GetUploadResponse>, Status> {
        let context = RequestContext::of(&request);
        let found = self.uploads.progress(&request.get_ref().request_id).await;
        let (committed_bytes, media) = found.map_err(|error| report(&error, &context))?;
        Ok(Response::new(GetUploadResponse {
            committed_bytes,
            media: media.map(media_from_row),
        }))
    }

    async fn probe_source(
        &self,
        request: Request<ProbeSourceRequest>,
    ) -> Result<Response<ProbeSourceResponse>, Status> {
        let context = RequestContext::of(&request);
        self.probe(request.get_ref())
            .await
            .map(Response::new)
            .map_err(|error| report(&error, &context))
    }

    async fn get_media(
        &self,
        request: Request<GetMediaRequest>,
    ) -> Result<Response<GetMediaResponse>, Status> {
        let context = RequestContext::of(&request);
        let media = self
            .get(&request.get_ref().name)
            .await
            .map_err(|error| report(&error, &context))?;
        Ok(Response::new(GetMediaResponse { media: Some(media) }))
    }

    async fn list_media(
        &self,
        request: Request<ListMediaRequest>,
    ) -> Result<Response<ListMediaResponse>, Status> {
        let context = RequestContext::of(&request);
        self.list(request.into_inner())
            .await
            .map(Response::new)
            .map_err(|error| report(&error, &context))
    }

    async fn delete_media(
        &self,
        request: Request<DeleteMediaRequest>,
    ) -> Result<Response<DeleteMediaResponse>, Status> {
        let context = RequestContext::of(&request);
        let name = &request.get_ref().name;
        let deleted = match media_id(name) {
            Ok(id) => self
                .uploads
                .delete(id)
                .await
                .and_then(|found| found.then_some(()).ok_or_else(|| missing(name))),
            Err(error) => Err(error),
        };
        deleted.map_err(|error| report(&error, &context))?;
        Ok(Response::new(DeleteMediaResponse {}))
    }
}
