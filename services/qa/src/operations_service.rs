//! `google.longrunning.Operations`.

use std::time::Duration;

use reelsight_edge::{RequestContext, report};
use reelsight_proto::{
    google::longrunning::{
        CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
        ListOperationsResponse, Operation, WaitOperationRequest, operations_server::Operations,
    },
    time::std_from_duration,
};
use reelsight_store::{Cursor, page_size};
use tonic::{Request, Response, Status};

use crate::{Qa, QaError, operations::operation_id, validate::invalid};

const SCOPE: &str = "operations";
/// Longest wait of one call; the client waits again.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// The service.
#[derive(Debug, Clone)]
pub struct OperationsService(Qa);

impl OperationsService {
    /// Over the operations of `qa`.
    #[must_use]
    pub fn new(qa: Qa) -> Self {
        Self(qa)
    }

    async fn list(&self, request: ListOperationsRequest) -> Result<ListOperationsResponse, QaError> {
        if !request.filter.is_empty() {
            return Err(invalid("filter", "filters are not offered: leave it empty"));
        }
        if !matches!(request.name.as_str(), "" | "operations") {
            return Err(invalid("name", "the collection is called operations"));
        }
        let parts = &self.0.0.parts;
        let (size, cursor) = (
            page_size(request.page_size)?,
            parts.pages.verify(SCOPE, &request.page_token)?,
        );
        let mut rows = parts
            .store
            .run(move |db| db.list_operations(cursor.as_ref(), size + 1))
            .await?;
        let more = rows.len() > size;
        rows.truncate(size);
        let next_page_token = rows.last().filter(|_row| more).map_or_else(String::new, |row| {
            parts.pages.sign(
                SCOPE,
                &Cursor {
                    created_ms: row.created_ms,
                    id: row.id.clone(),
                },
            )
        });
        let operations = rows
            .into_iter()
            .map(|row| self.0.operation_message(row))
            .collect();
        Ok(ListOperationsResponse {
            operations,
            next_page_token,
            ..ListOperationsResponse::default()
        })
    }

    async fn delete(&self, name: &str) -> Result<(), QaError> {
        let row = self.0.operation_row(name).await?;
        if self.0.0.running.lock().contains_key(&row.id) {
            return Err(QaError::OperationRunning(name.to_owned()));
        }
        self.0
            .0
            .parts
            .store
            .run(move |db| db.delete_operation(&row.id))
            .await?;
        Ok(())
    }

    async fn cancel(&self, name: &str) -> Result<(), QaError> {
        let row = self.0.operation_row(name).await?;
        if let Some(live) = self.0.0.running.lock().get(&row.id) {
            live.cancel.cancel();
        }
        Ok(())
    }

    async fn wait(&self, request: &WaitOperationRequest) -> Result<Operation, QaError> {
        let limit = request
            .timeout
            .as_ref()
            .map_or(Some(LONGEST_WAIT), std_from_duration);
        let limit = limit
            .ok_or_else(|| invalid("timeout", "timeout must not be negative"))?
            .min(LONGEST_WAIT);
        let id = operation_id(&request.name)?;
        let live = self.0.0.running.lock().get(id).cloned();
        if let Some(mut live) = live {
            let over = async { while live.progress.changed().await.is_ok() {} };
            // Running out of time is an answer too: the operation as it stands.
            tokio::time::timeout(limit, over).await.ok();
        }
        self.0.operation(&request.name).await
    }
}

#[tonic::async_trait]
impl Operations for OperationsService {
    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let context = RequestContext::of(&request);
        self.list(request.into_inner())
            .await
            .map(Response::new)
            .map_err(|error| report(&error, &context))
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let context = RequestContext::of(&request);
        let found = self.0.operation(&request.get_ref().name).await;
        found.map(Response::new).map_err(|error| report(&error, &context))
    }

    async fn delete_operation(
        &self,
        request: Request<DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let context = RequestContext::of(&request);
        self.delete(&request.get_ref().name)
            .await
            .map(Response::new)
            .map_err(|error| report(&error, &context))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        let context = RequestContext::of(&request);
        self.cancel(&request.get_ref().name)
            .await
            .map(Response::new)
            .map_err(|error| report(&error, &context))
    }

    async fn wait_operation(
        &self,
        request: Request<WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let context = RequestContext::of(&request);
        self.wait(request.get_ref())
            .await
            .map(Response::new)
            .map_err(|error| report(&error, &context))
    }
}
