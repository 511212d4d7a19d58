//! `reelsight.v1.AdminService`, on its own listener.

use std::sync::Arc;

use reelsight_proto::{
    time::{now_millis, timestamp_from_millis},
    v1::{
        EngineStats, GetServerInfoRequest, GetServerInfoResponse, ListModelsRequest, ListModelsResponse,
        ListWorkersRequest, ListWorkersResponse, Model, Worker, WorkerState,
        admin_service_server::AdminService,
    },
};
use reelsight_qa::Qa;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::ServerConfig;

/// Says what runs here; changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) qa: Qa,
    pub(crate) draining: CancellationToken,
}

fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        _request: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(GetServerInfoResponse {
            version,
            limits: self.config.limits(),
        }))
    }

    async fn list_models(
        &self,
        _request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let models = self.qa.models().all().map(|engine| {
            let info = engine.info();
            Model {
                name: info.name.clone(),
                task: "video-question-answering".to_owned(),
                loaded: true,
                precision: info.precision.clone(),
                context_tokens: count(info.context_tokens),
                device_bytes: info.weight_bytes,
                license: info.license.clone(),
                sha256: info.sha256.clone(),
            }
        });
        Ok(Response::new(ListModelsResponse {
            models: models.collect(),
        }))
    }

    async fn list_workers(
        &self,
        _request: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let state = if self.draining.is_cancelled() {
            WorkerState::Draining
        } else {
            WorkerState::Ready
        };
        let worker = Worker {
            name: "local".to_owned(),
            device: "cpu".to_owned(),
            state: state.into(),
            sessions: count(self.qa.cached_sessions()),
            queue_depth: count(self.qa.models().all().map(reelsight_engine::Engine::queued).sum()),
            active: count(self.qa.models().all().map(reelsight_engine::Engine::active).sum()),
            last_heartbeat: Some(timestamp_from_millis(now_millis())),
            engines: self.qa.models().all().map(stats).collect(),
        };
        Ok(Response::new(ListWorkersResponse {
            workers: vec![worker],
        }))
    }
}

fn stats(engine: &reelsight_engine::Engine) -> EngineStats {
    let metrics = engine.metrics();
    EngineStats {
        model: engine.info().name.clone(),
        first_token_p50: metrics.first_token.p50,
        first_token_p95: metrics.first_token.p95,
        token_p50: metrics.token.p50,
        token_p95: metrics.token.p95,
        mean_batch: metrics.batch.mean,
        decode_steps: metrics.decode_steps,
        decoded_tokens: metrics.decoded_tokens,
        prefilled_tokens: metrics.prefilled_tokens,
        kv_running_bytes: metrics.kv_running_bytes as u64,
        kv_reserved_bytes: metrics.kv_reserved_bytes as u64,
        kv_host_bytes: metrics.kv_host_bytes as u64,
        kv_disk_bytes: metrics.kv_disk_bytes,
        prefix_lookups: metrics.prefix_lookups,
        prefix_hits: metrics.prefix_hits,
        preemptions: metrics.preemptions,
        overhead: metrics.overhead(),
    }
}
