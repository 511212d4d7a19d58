//! Asks that nobody waits for: submitted, run when there is room, kept until they are looked at.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use prost::{Message as _, Name as _};
use reelsight_edge::{EdgeError, RequestContext, report};
use reelsight_proto::{
    google::longrunning::{Operation, operation},
    status::rpc_status_from_status,
    time::{now_millis, timestamp_from_millis},
    v1::{AskMetadata, AskRequest, AskResult, Progress},
};
use reelsight_store::{OperationRow, Reply};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Qa, QaError,
    accept::{Accepted, fingerprint},
    progress::Audience,
};

const SCOPE: &str = "submit";

/// An operation that is not done.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: watch::Receiver<Progress>,
    started_ms: Arc<Mutex<Option<i64>>>,
}

/// All of them, by id.
pub(crate) type Running = Mutex<HashMap<String, Live>>;

/// The id in `operations/{id}`.
pub(crate) fn operation_id(name: &str) -> Result<&str, QaError> {
    let id = name.strip_prefix("operations/").filter(|id| {
        !id.is_empty()
            && id.len() <= 64
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    id.ok_or_else(|| crate::validate::invalid("name", "operation names have the form operations/{id}"))
}

fn any<M: prost::Name>(message: &M) -> prost_types::Any {
    prost_types::Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

impl Qa {
    pub(crate) async fn end_interrupted_operations(&self) -> Result<(), QaError> {
        let status = report(&QaError::Restarted, &RequestContext::default());
        let error = rpc_status_from_status(&status).encode_to_vec();
        self.0
            .parts
            .store
            .run(move |db| db.fail_running_operations(&error))
            .await?;
        Ok(())
    }

    /// Takes an ask for later. The same `request_id` gives the same operation.
    pub(crate) async fn submit(&self, request: AskRequest) -> Result<Operation, QaError> {
        let mark = fingerprint(&request);
        let request_id = request.request_id.clone();
        let accepted = self.accept(request)?;
        let _lock = self.0.locks.lock_unless_empty(SCOPE, &request_id).await;
        if !request_id.is_empty() {
            let (id, mark) = (request_id.clone(), mark.clone());
            match self
                .0
                .parts
                .store
                .run(move |db| db.reply(SCOPE, &id, &mark, 0))
                .await?
            {
                None => {}
                Some(Reply::Different) => return Err(QaError::RequestIdReused(request_id)),
                Some(Reply::Same(name)) => return self.operation(&String::from_utf8_lossy(&name)).await,
            }
        }
        let permit = self.admit_operation()?;
        let id = uuid::Uuid::new_v4().to_string();
        let row = OperationRow {
            id: id.clone(),
            metadata: Vec::new(),
            response: None,
            error: None,
            created_ms: now_millis(),
        };
        let (stored, name) = (row.clone(), format!("operations/{id}"));
        let write = self.0.parts.store.run(move |db| {
            if !request_id.is_empty() {
                db.put_reply(SCOPE, &request_id, &mark, name.as_bytes(), now_millis())?;
            }
            db.put_operation(&stored)
        });
        write.await?;
        self.start(row.clone(), accepted, permit);
        Ok(self.operation_message(row))
    }

    fn start(&self, row: OperationRow, accepted: Accepted, permit: OwnedSemaphorePermit) {
        let cancel = CancellationToken::new();
        let (seen, progress) = watch::channel(Progress::default());
        let started_ms = Arc::new(Mutex::new(None));
        let live = Live {
            cancel: cancel.clone(),
            progress,
            started_ms: Arc::clone(&started_ms),
        };
        self.0.running.lock().insert(row.id.clone(), live);
        let qa = self.clone();
        // Waiters see this go when the result is written down.
        let unfinished = seen.clone();
        self.0.parts.tracker.spawn(async move {
            let _held = (permit, unfinished);
            let context = RequestContext::default().with_request_id(&accepted.request_id);
            let work = async {
                let _place = qa.admit_later().await?;
                *started_ms.lock() = Some(now_millis());
                qa.run(accepted, &context, &Audience::Operation(seen)).await
            };
            // In this order: the work itself sees the shutdown too, and would call it by the name that streams get.
            let result = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(EdgeError::Cancelled.into()),
                () = qa.0.parts.shutdown.cancelled() => Err(QaError::Restarted),
                result = work => result,
            };
            let started = *started_ms.lock();
            qa.end(row, result, &context, started).await;
        });
    }

    async fn end(
        &self,
        mut row: OperationRow,
        result: Result<AskResult, QaError>,
        context: &RequestContext,
        started_ms: Option<i64>,
    ) {
        let id = row.id.clone();
        row.metadata = metadata(row.created_ms, started_ms, None).encode_to_vec();
        match result {
            Ok(result) => row.response = Some(result.encode_to_vec()),
            Err(error) => row.error = Some(rpc_status_from_status(&report(&error, context)).encode_to_vec()),
        }
        let written = self.0.parts.store.run(move |db| db.put_operation(&row)).await;
        if let Err(error) = written {
            // Nobody waits for this; the row stays unfinished and the next start ends it.
            tracing::error!(operation = id, %error, "an operation's result was lost");
        }
        self.0.running.lock().remove(&id);
    }

    pub(crate) async fn operation_row(&self, name: &str) -> Result<OperationRow, QaError> {
        let id = operation_id(name)?.to_owned();
        let missing = || QaError::NotFound {
            kind: "google.longrunning.Operation",
            name: name.to_owned(),
        };
        self.0
            .parts
            .store
            .run(move |db| db.operation(&id))
            .await?
            .ok_or_else(missing)
    }

    pub(crate) async fn operation(&self, name: &str) -> Result<Operation, QaError> {
        Ok(self.operation_message(self.operation_row(name).await?))
    }

    pub(crate) fn operation_message(&self, row: OperationRow) -> Operation {
        let live = self.0.running.lock().get(&row.id).cloned();
        let metadata = match live {
            Some(live) => metadata(
                row.created_ms,
                *live.started_ms.lock(),
                Some(*live.progress.borrow()),
            ),
            None => AskMetadata::decode(row.metadata.as_slice()).unwrap_or_default(),
        };
        let result = match (row.response, row.error) {
            (Some(value), _) => Some(operation::Result::Response(prost_types::Any {
                type_url: AskResult::type_url(),
                value,
            })),
            (None, Some(error)) => reelsight_proto::google::rpc::Status::decode(error.as_slice())
                .ok()
                .map(operation::Result::Error),
            (None, None) => None,
        };
        Operation {
            name: format!("operations/{}", row.id),
            metadata: Some(any(&metadata)),
            done: result.is_some(),
            result,
        }
    }
}

fn metadata(created_ms: i64, started_ms: Option<i64>, progress: Option<Progress>) -> AskMetadata {
    AskMetadata {
        progress,
        attempt: 1,
        worker: "local".to_owned(),
        create_time: Some(timestamp_from_millis(created_ms)),
        start_time: started_ms.map(timestamp_from_millis),
    }
}
