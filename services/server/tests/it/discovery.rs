//! What a client can learn without knowing anything: reflection, health, admin.

use reelsight_proto::v1::{
    GetServerInfoRequest, ListModelsRequest, ListWorkersRequest, admin_service_client::AdminServiceClient,
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{Harness, connect};

pub(crate) async fn health(channel: Channel, service: impl Into<String>) -> String {
    let request = HealthCheckRequest {
        service: service.into(),
    };
    let response = HealthClient::new(channel).check(request).await.unwrap();
    response.into_inner().status().as_str_name().to_owned()
}

macro_rules! reflected_services {
    ($version:ident, $channel:expr) => {{
        use $version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let list = MessageRequest::ListServices(String::new());
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(list),
        };
        let stream = tokio_stream::iter([request]);
        let mut client = ServerReflectionClient::new($channel);
        let mut responses = client.server_reflection_info(stream).await.unwrap().into_inner();
        let response = responses
            .message()
            .await
            .unwrap()
            .unwrap()
            .message_response
            .unwrap();
        let MessageResponse::ListServicesResponse(listed) = response else {
            panic!("{response:?}")
        };
        let mut names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
        names.sort();
        names
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_reflection_name_what_is_served_and_health_knows_it() {
    let harness = Harness::with(|config| config.admin_listen = Some("127.0.0.1:0".parse().unwrap())).await;
    let expected = [
        "google.longrunning.Operations",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "reelsight.v1.MediaService",
        "reelsight.v1.QaService",
    ];
    assert_eq!(reflected_services!(v1, harness.channel.clone()), expected);
    assert_eq!(reflected_services!(v1alpha, harness.channel.clone()), expected);
    for service in [
        "",
        "reelsight.v1.QaService",
        "reelsight.v1.MediaService",
        "google.longrunning.Operations",
    ] {
        assert_eq!(
            health(harness.channel.clone(), service).await,
            "SERVING",
            "{service}"
        );
    }
    let mut misplaced = AdminServiceClient::new(harness.channel.clone());
    let status = misplaced.list_models(ListModelsRequest {}).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::Unimplemented,
        "the admin API is not on the public listener"
    );

    let channel = connect(harness.server.admin_addr().unwrap()).await;
    assert!(reflected_services!(v1, channel.clone()).contains(&"reelsight.v1.AdminService".to_owned()));
    let mut admin = AdminServiceClient::new(channel);
    let models = admin
        .list_models(ListModelsRequest {})
        .await
        .unwrap()
        .into_inner()
        .models;
    assert!(
        models.len() == 1 && models[0].loaded && models[0].context_tokens > 0,
        "{models:?}"
    );
    let info = admin
        .get_server_info(GetServerInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(info.limits["max_queued_asks"], "6");
    let workers = admin
        .list_workers(ListWorkersRequest {})
        .await
        .unwrap()
        .into_inner()
        .workers;
    assert_eq!(workers.len(), 1);
    let engines = &workers[0].engines;
    assert_eq!(
        (engines.len(), engines[0].preemptions, engines[0].kv_running_bytes),
        (1, 0, 0)
    );
}
