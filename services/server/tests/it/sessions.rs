//! Follow-ups.

use std::time::Duration;

use bytes::Bytes;
use reelsight_proto::v1::{
    CacheTier, CreateSessionRequest, DeleteSessionRequest, GetSessionRequest, ListSessionsRequest, Session,
    SessionState, UpdateSessionRequest, VideoSource, session::Expiration, video_source::Source,
};
use tonic::Code;

use crate::support::{Harness, about, about_clip, clip, follow_up, reason};

async fn session(harness: &Harness, name: &str) -> Session {
    let request = GetSessionRequest {
        name: name.to_owned(),
    };
    harness
        .qa()
        .get_session(request)
        .await
        .unwrap()
        .into_inner()
        .session
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_up_starts_from_the_cache_and_survives_its_loss() {
    let harness = Harness::start().await;
    let first = harness.ask(keep(about_clip("what happens?"))).await.unwrap();
    let name = first.result.session.clone();
    assert!(name.starts_with("sessions/") && first.cached_tokens() == 0);
    let found = session(&harness, &name).await;
    assert_eq!(
        (found.state(), found.cache_tier(), found.turn_count),
        (SessionState::Ready, CacheTier::HostKv, 1)
    );
    let second = harness.ask(follow_up(&name, "and then?")).await.unwrap();
    assert!(second.cached_tokens() > 0);
    assert_eq!(second.result.sampling_report.as_ref().unwrap().frames_decoded, 0);
    let third = harness.ask(follow_up(&name, "and after that?")).await.unwrap();
    assert_eq!(session(&harness, &name).await.turn_count, 3);

    // The same conversation on a server that cannot keep any state must go the same way.
    let forgetful = harness.restart(|config| config.qa.session_bytes = 0).await;
    assert_eq!(session(&forgetful, &name).await.cache_tier(), CacheTier::Source);
    let other = forgetful
        .ask(keep(about_clip("what happens?")))
        .await
        .unwrap()
        .result
        .session;
    let again = forgetful.ask(follow_up(&other, "and then?")).await.unwrap();
    assert_eq!(again.result.answer, second.result.answer);
    assert_eq!(
        again.cached_tokens(),
        0,
        "what was made for this turn was not saved"
    );
    assert!(again.warnings().contains(&"SESSION_REBUILT"));
    let again = forgetful.ask(follow_up(&other, "and after that?")).await.unwrap();
    assert_eq!(again.result.answer, third.result.answer);
    // And the session of the first server goes on where it was.
    forgetful.ask(follow_up(&name, "and now?")).await.unwrap();
    assert_eq!(session(&forgetful, &name).await.turn_count, 4);
}

fn keep(request: reelsight_proto::v1::AskRequest) -> reelsight_proto::v1::AskRequest {
    reelsight_proto::v1::AskRequest {
        keep_session: true,
        ..request
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_about_inline_bytes_can_be_rebuilt() {
    let harness = Harness::with(|config| config.qa.session_bytes = 0).await;
    let request = keep(about(Source::InlineContent(Bytes::from(clip())), "what?"));
    let name = harness.ask(request).await.unwrap().result.session;
    let source = session(&harness, &name).await.source.unwrap().source.unwrap();
    assert!(matches!(source, Source::Media(_)), "{source:?}");
    harness.ask(follow_up(&name, "and then?")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_not_taken_for_the_old_one() {
    let harness = Harness::with(|config| config.qa.session_bytes = 0).await;
    let name = harness
        .ask(keep(about_clip("what?")))
        .await
        .unwrap()
        .result
        .session;
    let path = harness.root.path().join("clip.mp4");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([0; 64]);
    std::fs::write(path, bytes).unwrap();
    let status = harness.ask(follow_up(&name, "and then?")).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "SOURCE_CHANGED")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_made_listed_renewed_expired_and_deleted() {
    let harness = Harness::start().await;
    let request = |request_id: &str, seconds| CreateSessionRequest {
        request_id: request_id.to_owned(),
        session: Some(Session {
            source: Some(VideoSource {
                source: Some(Source::ServerPath("clip.mp4".into())),
                ..VideoSource::default()
            }),
            expiration: Some(Expiration::Ttl(prost_types::Duration { seconds, nanos: 0 })),
            ..Session::default()
        }),
    };
    let create = async |request| {
        harness
            .qa()
            .create_session(request)
            .await
            .unwrap()
            .into_inner()
            .session
            .unwrap()
    };
    let made = create(request("a", 60)).await;
    assert_eq!((made.turn_count, made.cache_tier()), (0, CacheTier::HostKv));
    assert!(made.sampling_report.as_ref().unwrap().frames_used > 0);
    assert_eq!(create(request("a", 60)).await.name, made.name, "idempotent");
    let first = harness.ask(follow_up(&made.name, "what?")).await.unwrap();
    assert!(first.cached_tokens() > 0, "the video was prepared already");
    let short = create(request("b", 1)).await;

    let page = |token: String| ListSessionsRequest {
        page_size: 1,
        page_token: token,
    };
    let one = harness
        .qa()
        .list_sessions(page(String::new()))
        .await
        .unwrap()
        .into_inner();
    let two = harness
        .qa()
        .list_sessions(page(one.next_page_token.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (one.sessions[0].name.as_str(), two.sessions[0].name.as_str()),
        (&*short.name, &*made.name)
    );
    assert!(two.next_page_token.is_empty());
    let forged = harness
        .qa()
        .list_sessions(page("forged".into()))
        .await
        .unwrap_err();
    assert_eq!(forged.code(), Code::InvalidArgument);

    let ttl = Some(prost_types::Duration {
        seconds: 3600,
        nanos: 0,
    });
    let renew = UpdateSessionRequest {
        name: made.name.clone(),
        ttl,
    };
    let renewed = harness
        .qa()
        .update_session(renew)
        .await
        .unwrap()
        .into_inner()
        .session
        .unwrap();
    assert_ne!(renewed.expiration, made.expiration);

    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(
        session(&harness, &short.name).await.state(),
        SessionState::Expired
    );
    let status = harness.ask(follow_up(&short.name, "what?")).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "SESSION_EXPIRED")
    );

    let delete = DeleteSessionRequest {
        name: made.name.clone(),
    };
    harness.qa().delete_session(delete.clone()).await.unwrap();
    let status = harness.qa().delete_session(delete).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "NOT_FOUND")
    );
    let status = harness.ask(follow_up(&made.name, "what?")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}
