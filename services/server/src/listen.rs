//! From services to a listener.

use std::{net::SocketAddr, time::Duration};

use reelsight_edge::{EdgeConfig, EdgeLayer};
use reelsight_proto::FILE_DESCRIPTOR_SET;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{self, server::TcpIncoming},
};
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTORS;
use tonic_reflection::server::Builder;

use crate::{ServerConfig, ServerError};

/// An address that is taken, and the address that it became.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Adds reflection of exactly the services that this listener has.
pub(crate) fn with_reflection(routes: Routes, services: &[&str]) -> Result<Routes, ServerError> {
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(HEALTH_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health")
            .with_service_name("grpc.reflection.v1.ServerReflection")
            .with_service_name("grpc.reflection.v1alpha.ServerReflection");
        services
            .iter()
            .fold(builder, |builder, name| builder.with_service_name(*name))
    };
    Ok(routes
        .add_service(builder().build_v1()?)
        .add_service(builder().build_v1alpha()?))
}

/// Serves `routes` until `stop`; connections then end when their streams do.
pub(crate) async fn serve(
    config: &ServerConfig,
    listener: TcpListener,
    routes: Routes,
    draining: CancellationToken,
    stop: CancellationToken,
) -> Result<(), transport::Error> {
    let edge = EdgeLayer::new(EdgeConfig {
        max_requests: config.max_requests,
        draining,
    });
    // Without it small events wait 40 ms for the client's delayed acknowledgement. (The builder's own `tcp_nodelay` does
    // not reach sockets of a listener that it did not open.)
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    transport::Server::builder()
        .http2_keepalive_interval(Some(config.keepalive))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .max_concurrent_streams(config.max_streams_per_connection)
        .layer(edge)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
}
