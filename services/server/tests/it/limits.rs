//! Overload, shutdown, and a server without a model.

use reelsight_proto::v1::{qa_service_client::QaServiceClient, video_source::Source};
use reelsight_server::{Server, ServerConfig};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{
    Harness, MAX_ACTIVE, MAX_QUEUED, SilentWeb, about, about_clip, collect, connect, reason, trust_loopback,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_surplus_of_two_hundred_asks_is_told_when_to_come_back() {
    let harness = Harness::start().await;
    let mut asks = JoinSet::new();
    for _ in 0..200 {
        let mut qa = harness.qa();
        asks.spawn(async move { collect(qa.ask(about_clip("what?")).await?.into_inner()).await });
    }
    let (mut answered, mut refused) = (0, 0);
    while let Some(outcome) = asks.join_next().await {
        match outcome.unwrap() {
            Ok(_answer) => answered += 1,
            Err(status) => {
                assert_eq!(
                    (status.code(), reason(&status).as_str()),
                    (Code::ResourceExhausted, "QUEUE_FULL")
                );
                assert!(
                    status
                        .get_details_retry_info()
                        .is_some_and(|info| info.retry_delay.is_some())
                );
                assert!(status.get_details_quota_failure().is_some());
                refused += 1;
            }
        }
    }
    assert!(
        answered >= MAX_ACTIVE + MAX_QUEUED && refused > 0,
        "{answered} answered, {refused} refused"
    );
    harness.idle().await;
    harness.ask(about_clip("still there?")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_open_streams_with_a_reason() {
    let (harness, web) = (Harness::with(trust_loopback).await, SilentWeb::start().await);
    let request = about(Source::Uri(web.uri.clone()), "what?");
    let mut stream = harness.qa().ask(request).await.unwrap().into_inner();
    web.until_open(1).await;
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_event)) => {}
                Ok(None) => panic!("ended well"),
                Err(status) => return status,
            }
        }
    };
    let (status, ()) = tokio::join!(ended, harness.server.shutdown());
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "DRAINING")
    );
    web.until_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_the_server_runs_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: data.path().into(),
        workers: crate::support::workers(),
        ..ServerConfig::default()
    };
    let server = Server::start(config, Vec::new()).await.unwrap();
    let channel = connect(server.local_addr()).await;
    let status = QaServiceClient::new(channel.clone())
        .ask(about_clip("what?"))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "MODEL_NOT_LOADED")
    );
    let health = crate::discovery::health(channel, "reelsight.v1.QaService").await;
    assert_eq!(health, "NOT_SERVING");
    server.shutdown().await;
}
