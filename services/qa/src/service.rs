//! `reelsight.v1.QaService`.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _};
use reelsight_edge::{EventStream, RequestContext, event_stream, report};
use reelsight_proto::{
    google::longrunning::Operation,
    time::{now_millis, std_from_duration},
    v1::{
        AskRequest, AskResponse, AskUploadRequest, AskUploadResponse, CreateSessionRequest,
        CreateSessionResponse, DeleteSessionRequest, DeleteSessionResponse, GetSessionRequest,
        GetSessionResponse, ListSessionsRequest, ListSessionsResponse, Session, SubmitAskRequest,
        SubmitAskResponse, UpdateSessionRequest, UpdateSessionResponse, VideoSource,
        ask_upload_request::Payload, qa_service_server::QaService, session::Expiration,
    },
};
use reelsight_store::{Cursor, Reply, SessionRow, page_size};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Qa, QaError,
    accept::{Accepted, Subject, Upload, fingerprint},
    progress::Audience,
    sessions::{Stored, session_id},
    validate::{self, invalid},
};

const SESSIONS: &str = "sessions";
/// How long the first message of an upload may take.
const FIRST_MESSAGE: Duration = Duration::from_secs(30);

impl Qa {
    /// Asks a question, in process or on behalf of an RPC. Dropping the stream cancels the work.
    ///
    /// # Errors
    /// The status of what is known to be wrong before anything is opened; later failures are the stream's last item.
    pub fn ask(
        &self,
        request: AskRequest,
        context: RequestContext,
    ) -> Result<EventStream<AskResponse>, Status> {
        let context = context.with_request_id(&request.request_id);
        let accepted = self.accept(request).map_err(|error| report(&error, &context))?;
        self.stream(accepted, context)
    }

    fn stream(
        &self,
        accepted: Accepted,
        context: RequestContext,
    ) -> Result<EventStream<AskResponse>, Status> {
        let permit = self.admit().map_err(|error| report(&error, &context))?;
        let (qa, shared) = (self.clone(), context.clone());
        Ok(event_stream(
            &self.0.parts.tracker,
            context,
            move |sink| async move {
                let _place = permit;
                let result = qa.run(accepted, &shared, &Audience::Stream(sink)).await;
                result.map(drop).map_err(|error| report(&error, &shared))
            },
        ))
    }

    async fn accept_upload(&self, mut messages: Streaming<AskUploadRequest>) -> Result<Accepted, QaError> {
        let first = tokio::time::timeout(FIRST_MESSAGE, messages.next()).await;
        let first = first.map_err(|_elapsed| invalid("ask", "the first message did not come"))?;
        let Some(Ok(AskUploadRequest {
            payload: Some(Payload::Ask(request)),
        })) = first
        else {
            return Err(invalid("ask", "the first message must be ask"));
        };
        validate::question(&request.question)?;
        let source = match &request.target {
            None => VideoSource::default(),
            // A source without bytes may still say which part of them to look at.
            Some(reelsight_proto::v1::ask_request::Target::Source(source)) if source.source.is_none() => {
                source.clone()
            }
            Some(_) => {
                return Err(invalid(
                    "ask.source",
                    "the bytes come in chunks: leave the target out",
                ));
            }
        };
        let file = self.0.parts.uploads.spool().await?;
        let mark = fingerprint(&request);
        self.accept_about(
            request,
            mark,
            Subject::Upload(Box::new(Upload {
                source,
                chunks: messages,
                file,
            })),
        )
    }

    async fn create_session(
        &self,
        request: CreateSessionRequest,
        context: &RequestContext,
    ) -> Result<Session, QaError> {
        const SCOPE: &str = "create-session";
        validate::request_id(&request.request_id)?;
        let mark = fingerprint(&request);
        let wanted = request.session.unwrap_or_default();
        let id = request.request_id;
        let _lock = self.0.locks.lock_unless_empty(SCOPE, &id).await;
        if !id.is_empty() {
            let (key, mark) = (id.clone(), mark.clone());
            match self
                .0
                .parts
                .store
                .run(move |db| db.reply(SCOPE, &key, &mark, 0))
                .await?
            {
                None => {}
                Some(Reply::Different) => return Err(QaError::RequestIdReused(id)),
                Some(Reply::Same(session)) => {
                    let stored = self.stored_session(&String::from_utf8_lossy(&session)).await?;
                    return Ok(self.session_message(stored));
                }
            }
        }
        let session = Box::pin(self.prepare_new_session(wanted, context)).await?;
        if !id.is_empty() {
            let name = session.clone();
            let write = self
                .0
                .parts
                .store
                .run(move |db| db.put_reply(SCOPE, &id, &mark, name.as_bytes(), now_millis()));
            write.await?;
        }
        Ok(self.session_message(self.stored_session(&session).await?))
    }

    /// Decodes, encodes and prefills; returns the new session's id.
    async fn prepare_new_session(
        &self,
        wanted: Session,
        context: &RequestContext,
    ) -> Result<String, QaError> {
        let source = wanted
            .source
            .ok_or_else(|| invalid("session.source", "name a source"))?;
        self.0.parts.sources.check(&source)?;
        let ttl = match wanted.expiration {
            None => self.0.parts.limits.session_ttl,
            Some(Expiration::Ttl(ttl)) => self.session_ttl(&ttl)?,
            Some(Expiration::ExpireTime(_)) => {
                return Err(invalid("session.expire_time", "send ttl instead"));
            }
        };
        let request = AskRequest {
            sampling: wanted.sampling,
            generation: Some(reelsight_proto::v1::GenerationConfig {
                model: wanted.model,
                ..Default::default()
            }),
            keep_session: true,
            ..AskRequest::default()
        };
        let mut accepted = self.accept_about(request, Vec::new(), Subject::Source(source))?;
        accepted.session_ttl = ttl;
        let id = accepted
            .session
            .clone()
            .ok_or(QaError::Internal("a new session has no id"))?;
        let _place = self.admit()?;
        self.run(accepted, context, &Audience::Quiet).await?;
        Ok(id)
    }

    fn session_ttl(&self, ttl: &prost_types::Duration) -> Result<Duration, QaError> {
        let most = self.0.parts.limits.max_session_ttl;
        std_from_duration(ttl)
            .filter(|ttl| !ttl.is_zero() && *ttl <= most)
            .ok_or_else(|| invalid("ttl", format!("ttl is above 0 and at most {most:?}")))
    }

    async fn list_sessions(&self, request: ListSessionsRequest) -> Result<ListSessionsResponse, QaError> {
        let parts = &self.0.parts;
        let (size, cursor) = (
            page_size(request.page_size)?,
            parts.pages.verify(SESSIONS, &request.page_token)?,
        );
        let mut rows = parts
            .store
            .run(move |db| db.list_sessions(cursor.as_ref(), size + 1))
            .await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let next_page_token = rows
            .last()
            .filter(|_row| more)
            .map_or_else(String::new, |(row, _)| {
                parts.pages.sign(
                    SESSIONS,
                    &Cursor {
                        created_ms: row.created_ms,
                        id: row.id.clone(),
                    },
                )
            });
        let message = |(row, turns): (SessionRow, u32)| {
            let record = prost::Message::decode(row.record.as_slice()).unwrap_or_default();
            self.session_message(Stored { row, turns, record })
        };
        Ok(ListSessionsResponse {
            sessions: rows.into_iter().map(message).collect(),
            next_page_token,
        })
    }

    async fn update_session(&self, request: &UpdateSessionRequest) -> Result<Session, QaError> {
        let id = session_id(&request.name)?;
        let ttl = self.session_ttl(&request.ttl.unwrap_or_default())?;
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let _lock = self.0.locks.lock(&format!("session/{id}")).await;
        let stored = self.live_session(id).await?;
        let renewed = self.renew_session(stored, ttl_ms, None).await?;
        let missing = || QaError::NotFound {
            kind: "reelsight.v1.Session",
            name: request.name.clone(),
        };
        Ok(self.session_message(renewed.ok_or_else(missing)?))
    }

    async fn delete_session(&self, name: &str) -> Result<(), QaError> {
        let id = session_id(name)?.to_owned();
        let key = id.clone();
        let found = self.0.parts.store.run(move |db| db.delete_session(&key)).await?;
        self.forget_state(&id);
        let missing = || QaError::NotFound {
            kind: "reelsight.v1.Session",
            name: name.to_owned(),
        };
        found.then_some(()).ok_or_else(missing)
    }

    async fn submit_ask(&self, request: SubmitAskRequest) -> Result<Operation, QaError> {
        self.submit(request.ask.ok_or_else(|| invalid("ask", "say what to ask"))?)
            .await
    }
}

#[tonic::async_trait]
impl QaService for Qa {
    type AskStream = EventStream<AskResponse>;
    type AskUploadStream = Pin<Box<dyn Stream<Item = Result<AskUploadResponse, Status>> + Send>>;

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<Self::AskStream>, Status> {
        let context = RequestContext::of(&request);
        Qa::ask(self, request.into_inner(), context).map(Response::new)
    }

    async fn ask_upload(
        &self,
        request: Request<Streaming<AskUploadRequest>>,
    ) -> Result<Response<Self::AskUploadStream>, Status> {
        let context = RequestContext::of(&request);
        let accepted = self
            .accept_upload(request.into_inner())
            .await
            .map_err(|error| report(&error, &context))?;
        let context = context.with_request_id(&accepted.request_id);
        let stream = self.stream(accepted, context)?;
        let wrapped = stream.map(|response| {
            response.map(|response| AskUploadResponse {
                response: Some(response),
            })
        });
        Ok(Response::new(Box::pin(wrapped)))
    }

    async fn submit_ask(
        &self,
        request: Request<SubmitAskRequest>,
    ) -> Result<Response<SubmitAskResponse>, Status> {
        let context = RequestContext::of(&request);
        let submitted = Qa::submit_ask(self, request.into_inner()).await;
        let operation = submitted.map_err(|error| report(&error, &context))?;
        Ok(Response::new(SubmitAskResponse {
            operation: Some(operation),
        }))
    }

    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        let context = RequestContext::of(&request);
        let created = Box::pin(Qa::create_session(self, request.into_inner(), &context)).await;
        let session = created.map_err(|error| report(&error, &context))?;
        Ok(Response::new(CreateSessionResponse {
            session: Some(session),
        }))
    }

    async fn get_session(
        &self,
        request: Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        let context = RequestContext::of(&request);
        let stored = match session_id(&request.get_ref().name) {
            Ok(id) => self.stored_session(id).await,
            Err(error) => Err(error),
        };
        let stored = stored.map_err(|error| report(&error, &context))?;
        Ok(Response::new(GetSessionResponse {
            session: Some(self.session_message(stored)),
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let context = RequestContext::of(&request);
        let listed = Qa::list_sessions(self, request.into_inner()).await;
        listed
            .map(Response::new)
            .map_err(|error| report(&error, &context))
    }

    async fn update_session(
        &self,
        request: Request<UpdateSessionRequest>,
    ) -> Result<Response<UpdateSessionResponse>, Status> {
        let context = RequestContext::of(&request);
        let session = Qa::update_session(self, request.get_ref())
            .await
            .map_err(|error| report(&error, &context))?;
        Ok(Response::new(UpdateSessionResponse {
            session: Some(session),
        }))
    }

    async fn delete_session(
        &self,
        request: Request<DeleteSessionRequest>,
    ) -> Result<Response<DeleteSessionResponse>, Status> {
        let context = RequestContext::of(&request);
        let deleted = Qa::delete_session(self, &request.get_ref().name).await;
        deleted.map_err(|error| report(&error, &context))?;
        Ok(Response::new(DeleteSessionResponse {}))
    }
}
