//! Asks that nobody waits for.

use prost::Message as _;
use reelsight_proto::{
    google::longrunning::{
        CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest,
        Operation, WaitOperationRequest, operation::Result as Outcome,
    },
    v1::{AskMetadata, AskRequest, AskResult, SubmitAskRequest, video_source::Source},
};
use tonic::Code;

use crate::support::{Harness, SilentWeb, about, about_clip, reason, trust_loopback};

async fn submit(harness: &Harness, ask: AskRequest) -> Operation {
    let request = SubmitAskRequest { ask: Some(ask) };
    harness
        .qa()
        .submit_ask(request)
        .await
        .unwrap()
        .into_inner()
        .operation
        .unwrap()
}

async fn wait(harness: &Harness, name: &str) -> Operation {
    let timeout = Some(prost_types::Duration {
        seconds: 60,
        nanos: 0,
    });
    let request = WaitOperationRequest {
        name: name.to_owned(),
        timeout,
    };
    harness
        .operations()
        .wait_operation(request)
        .await
        .unwrap()
        .into_inner()
}

fn code(operation: &Operation) -> i32 {
    let Some(Outcome::Error(status)) = &operation.result else {
        panic!("{operation:?}")
    };
    assert!(!status.details.is_empty(), "typed like the error of a call");
    status.code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_ask_is_answered_once_and_kept() {
    let harness = Harness::start().await;
    let expected = harness.ask(about_clip("what?")).await.unwrap().result.answer;
    let ask = AskRequest {
        request_id: "job".into(),
        ..about_clip("what?")
    };
    let submitted = submit(&harness, ask.clone()).await;
    let done = wait(&harness, &submitted.name).await;
    let Some(Outcome::Response(any)) = &done.result else {
        panic!("{done:?}")
    };
    assert_eq!(any.type_url, "type.googleapis.com/reelsight.v1.AskResult");
    assert_eq!(AskResult::decode(any.value.as_slice()).unwrap().answer, expected);
    let metadata = AskMetadata::decode(done.metadata.as_ref().unwrap().value.as_slice()).unwrap();
    assert!(metadata.create_time.is_some() && metadata.start_time.is_some());
    assert_eq!(submit(&harness, ask).await.name, submitted.name);

    let harness = harness.restart(|_config| {}).await;
    let get = GetOperationRequest {
        name: submitted.name.clone(),
    };
    assert!(
        harness
            .operations()
            .get_operation(get.clone())
            .await
            .unwrap()
            .into_inner()
            .done
    );
    let list = ListOperationsRequest {
        name: "operations".into(),
        ..ListOperationsRequest::default()
    };
    let listed = harness
        .operations()
        .list_operations(list)
        .await
        .unwrap()
        .into_inner()
        .operations;
    assert_eq!(listed.len(), 1);
    let delete = DeleteOperationRequest { name: submitted.name };
    harness.operations().delete_operation(delete).await.unwrap();
    let status = harness.operations().get_operation(get).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "NOT_FOUND")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_fail_typed_are_cancelled_and_end_with_their_server() {
    let (harness, web) = (Harness::with(trust_loopback).await, SilentWeb::start().await);
    let missing = submit(&harness, about(Source::ServerPath("none.mp4".into()), "what?")).await;
    assert_eq!(
        code(&wait(&harness, &missing.name).await),
        i32::from(Code::NotFound)
    );

    let slow = submit(&harness, about(Source::Uri(web.uri.clone()), "what?")).await;
    web.until_open(1).await;
    let delete = DeleteOperationRequest {
        name: slow.name.clone(),
    };
    let status = harness.operations().delete_operation(delete).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "OPERATION_RUNNING")
    );
    let cancel = CancelOperationRequest {
        name: slow.name.clone(),
    };
    harness.operations().cancel_operation(cancel).await.unwrap();
    assert_eq!(
        code(&wait(&harness, &slow.name).await),
        i32::from(Code::Cancelled)
    );
    web.until_open(0).await;

    let slow = submit(&harness, about(Source::Uri(web.uri.clone()), "what?")).await;
    web.until_open(1).await;
    let harness = harness.restart(|_config| {}).await;
    web.until_open(0).await;
    assert_eq!(code(&wait(&harness, &slow.name).await), i32::from(Code::Aborted));
}
