//! Start, run, drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use reelsight_engine::Engine;
use reelsight_proto::{
    google::longrunning::operations_server::OperationsServer,
    v1::{
        admin_service_server::AdminServiceServer, media_service_server::MediaServiceServer,
        qa_service_server::QaServiceServer,
    },
};
use reelsight_qa::{OperationsService, Qa};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    ServerConfig, ServerError, Services,
    admin::Admin,
    health::{QA, report},
    listen::{bind, serve, with_reflection},
};

/// How often what has expired is deleted.
const SWEEP: Duration = Duration::from_mins(1);
const MEDIA: &str = "reelsight.v1.MediaService";
const OPERATIONS: &str = "google.longrunning.Operations";
const ADMIN: &str = "reelsight.v1.AdminService";

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A server that listens. Dropping it without [`RunningServer::shutdown`] stops it at once.
#[derive(Debug)]
pub struct RunningServer {
    local_addr: SocketAddr,
    admin_addr: Option<SocketAddr>,
    services: Services,
    health: HealthReporter,
    draining: CancellationToken,
    stop: CancellationToken,
    drain: Duration,
    tasks: JoinSet<()>,
}

impl Server {
    /// Opens the data folder, takes the addresses and serves. The first engine is the default model; without any,
    /// questions are refused and their health is `NOT_SERVING`.
    ///
    /// # Errors
    /// [`ServerError`]; nothing stays behind then.
    pub async fn start(config: ServerConfig, engines: Vec<Engine>) -> Result<RunningServer, ServerError> {
        config.validate()?;
        let (listener, local_addr) = bind(config.listen).await?;
        let admin = match config.admin_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let services = Services::open(&config, engines).await?;
        let (health, routes) = public_routes(&config, &services).await?;
        let mut server = RunningServer {
            local_addr,
            admin_addr: admin.as_ref().map(|(_, address)| *address),
            services,
            health,
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            drain: config.drain,
            tasks: JoinSet::new(),
        };
        let config = Arc::new(config);
        server.listen(&config, listener, routes);
        if let Some((listener, _)) = admin {
            let routes = server.admin_routes(&config).await?;
            server.listen(&config, listener, routes);
        }
        server.sweep();
        server.watch_models();
        Ok(server)
    }
}

async fn public_routes(
    config: &ServerConfig,
    services: &Services,
) -> Result<(HealthReporter, Routes), ServerError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, &services.qa.models().health().borrow().clone()).await;
    health
        .set_serving::<MediaServiceServer<reelsight_catalog::Media>>()
        .await;
    health.set_serving::<OperationsServer<OperationsService>>().await;
    let (limit, qa) = (config.max_message_bytes, services.qa.clone());
    let routes = Routes::new(health_service)
        .add_service(QaServiceServer::new(qa.clone()).max_decoding_message_size(limit))
        .add_service(MediaServiceServer::new(services.media.clone()).max_decoding_message_size(limit))
        .add_service(OperationsServer::new(OperationsService::new(qa)).max_decoding_message_size(limit));
    Ok((health, with_reflection(routes, &[QA, MEDIA, OPERATIONS])?))
}

impl RunningServer {
    /// Where the API listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where the admin API listens.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// The same questions without a socket.
    #[must_use]
    pub fn qa(&self) -> &Qa {
        &self.services.qa
    }

    async fn admin_routes(&self, config: &Arc<ServerConfig>) -> Result<Routes, ServerError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<AdminServiceServer<Admin>>().await;
        let admin = Admin {
            config: Arc::clone(config),
            qa: self.services.qa.clone(),
            draining: self.draining.clone(),
        };
        with_reflection(
            Routes::new(health_service).add_service(AdminServiceServer::new(admin)),
            &[ADMIN],
        )
    }

    fn listen(&mut self, config: &Arc<ServerConfig>, listener: TcpListener, routes: Routes) {
        let (config, draining, stop) = (Arc::clone(config), self.draining.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = serve(&config, listener, routes, draining, stop).await {
                tracing::error!(%error, "a listener failed");
            }
        });
    }

    fn sweep(&mut self) {
        let (services, stop) = (self.services.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let mut ticks = interval(SWEEP);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                services.sweep().await;
            }
        });
    }

    /// Keeps the models' health up to date.
    fn watch_models(&mut self) {
        let mut models = self.services.qa.models().health();
        let (health, draining) = (self.health.clone(), self.draining.clone());
        self.tasks.spawn(async move {
            while let Some(Ok(())) = draining.run_until_cancelled(models.changed()).await {
                let now = models.borrow_and_update().clone();
                report(&health, &now).await;
            }
        });
    }

    /// Refuses new requests, lets running ones end within the drain time, cancels the rest, and joins everything.
    pub async fn shutdown(mut self) {
        self.draining.cancel();
        let models = self.services.qa.models().health().borrow().clone();
        report(
            &self.health,
            &models.into_keys().map(|model| (model, false)).collect(),
        )
        .await;
        for service in [MEDIA, OPERATIONS] {
            self.health
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
        self.services.tracker.close();
        if timeout(self.drain, self.services.tracker.wait()).await.is_err() {
            tracing::warn!(drain = ?self.drain, "requests were still running at the end of the drain time");
        }
        self.services.close().await;
        self.stop.cancel();
        // Connections end by themselves now; one that does not (a health watch) is cut.
        let joined = timeout(Duration::from_secs(2), async {
            while self.tasks.join_next().await.is_some() {}
        });
        if joined.await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}
