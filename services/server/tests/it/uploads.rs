//! Uploads that break off and go on.

use bytes::Bytes;
use reelsight_proto::v1::{
    DeleteMediaRequest, GetMediaRequest, GetUploadRequest, ListMediaRequest, Media, ProbeSourceRequest,
    Sampling, UploadChunk, UploadMediaRequest, UploadStart, VideoSource, upload_media_request::Payload,
    video_source::Source,
};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::support::{Harness, about, clip, reason};

fn start(request_id: &str) -> UploadStart {
    UploadStart {
        request_id: request_id.to_owned(),
        display_name: "clip.mp4".into(),
        total_bytes: clip().len() as u64,
        sha256: hex::encode(Sha256::digest(clip())),
        ttl: None,
    }
}

fn chunks(data: &[u8], from: usize) -> Vec<UploadMediaRequest> {
    let message = |(at, piece): (usize, &[u8])| {
        let data = Bytes::copy_from_slice(piece);
        let chunk = UploadChunk {
            offset: (from + at * 4096) as u64,
            crc32c: crc32c::crc32c(piece),
            data,
        };
        UploadMediaRequest {
            payload: Some(Payload::Chunk(chunk)),
        }
    };
    data[from..].chunks(4096).enumerate().map(message).collect()
}

async fn upload(
    harness: &Harness,
    start: UploadStart,
    chunks: Vec<UploadMediaRequest>,
) -> Result<Media, Status> {
    let mut messages = vec![UploadMediaRequest {
        payload: Some(Payload::Start(start)),
    }];
    messages.extend(chunks);
    let response = harness.media().upload_media(tokio_stream::iter(messages)).await?;
    Ok(response.into_inner().media.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_restart_and_is_then_media_like_any_other() {
    let harness = Harness::start().await;
    let half = chunks(&clip(), 0).into_iter().take(3).collect();
    let status = upload(&harness, start("u"), half).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "UPLOAD_INCOMPLETE")
    );
    let harness = harness.restart(|_config| {}).await;
    let get = GetUploadRequest {
        request_id: "u".into(),
    };
    let stands = harness
        .media()
        .get_upload(get.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((stands.committed_bytes, stands.media), (3 * 4096, None));
    let status = upload(&harness, start("u"), chunks(&clip(), 0))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "UPLOAD_OFFSET_MISMATCH")
    );
    let media = upload(&harness, start("u"), chunks(&clip(), 3 * 4096))
        .await
        .unwrap();
    let info = media.info.clone().unwrap();
    assert_eq!(
        (media.size_bytes, info.width, info.height, info.frame_count),
        (clip().len() as u64, 160, 120, 100)
    );
    assert_eq!(
        upload(&harness, start("u"), Vec::new()).await.unwrap(),
        media,
        "idempotent"
    );
    assert_eq!(
        harness.media().get_upload(get).await.unwrap().into_inner().media,
        Some(media.clone())
    );
    let other = UploadStart {
        display_name: "other".into(),
        ..start("u")
    };
    assert_eq!(
        upload(&harness, other, Vec::new()).await.unwrap_err().code(),
        Code::AlreadyExists
    );
    is_media_like_any_other(&harness, media).await;
}

async fn is_media_like_any_other(harness: &Harness, media: Media) {
    harness
        .ask(about(Source::Media(media.name.clone()), "what?"))
        .await
        .unwrap();
    let request = GetMediaRequest {
        name: media.name.clone(),
    };
    assert_eq!(
        harness
            .media()
            .get_media(request.clone())
            .await
            .unwrap()
            .into_inner()
            .media,
        Some(media.clone())
    );
    let listed = harness
        .media()
        .list_media(ListMediaRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (listed.media, listed.next_page_token),
        (vec![media.clone()], String::new())
    );
    let delete = DeleteMediaRequest {
        name: media.name.clone(),
    };
    harness.media().delete_media(delete.clone()).await.unwrap();
    assert_eq!(
        std::fs::read_dir(harness.data.path().join("media"))
            .unwrap()
            .count(),
        0
    );
    for status in [
        harness.media().delete_media(delete).await.unwrap_err(),
        harness.media().get_media(request).await.unwrap_err(),
        harness
            .ask(about(Source::Media(media.name), "what?"))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::NotFound, "NOT_FOUND")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_uploads_are_refused_by_name() {
    let harness = Harness::with(|config| config.uploads.max_bytes = 1 << 20).await;
    let refused = async |start: UploadStart, chunks| {
        let status = upload(&harness, start, chunks).await.unwrap_err();
        format!("{:?} {}", status.code(), reason(&status))
    };
    let wrong = UploadStart {
        sha256: "0".repeat(64),
        ..start("a")
    };
    assert_eq!(
        refused(wrong, chunks(&clip(), 0)).await,
        "InvalidArgument DIGEST_MISMATCH"
    );
    let mut torn = chunks(&clip(), 0);
    if let Some(Payload::Chunk(chunk)) = &mut torn[1].payload {
        chunk.crc32c ^= 1;
    }
    assert_eq!(refused(start("b"), torn).await, "InvalidArgument DIGEST_MISMATCH");
    let huge = UploadStart {
        total_bytes: 2 << 20,
        ..start("c")
    };
    assert_eq!(
        refused(huge, Vec::new()).await,
        "InvalidArgument SOURCE_TOO_LARGE"
    );
    assert_eq!(
        refused(start(""), Vec::new()).await,
        "InvalidArgument INVALID_REQUEST"
    );
    let text = b"this is no video".to_vec();
    let start_text = |id: &str| UploadStart {
        total_bytes: text.len() as u64,
        sha256: String::new(),
        ..start(id)
    };
    let found = refused(start_text("d"), chunks(&text, 0)).await;
    assert!(
        found.starts_with("InvalidArgument") && !found.ends_with("INVALID_REQUEST"),
        "{found}"
    );
    assert_eq!(
        std::fs::read_dir(harness.data.path().join("media"))
            .unwrap()
            .count(),
        0
    );
    // What was refused for good can be sent anew under the same id.
    upload(
        &harness,
        UploadStart {
            sha256: String::new(),
            ..start("d")
        },
        chunks(&clip(), 0),
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_plans_what_an_ask_would_do() {
    let harness = Harness::start().await;
    let request = ProbeSourceRequest {
        source: Some(VideoSource {
            source: Some(Source::ServerPath("clip.mp4".into())),
            ..VideoSource::default()
        }),
        sampling: Some(Sampling {
            max_frames: 2,
            ..Sampling::default()
        }),
        model: String::new(),
    };
    let probe = harness
        .media()
        .probe_source(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (probe.info.unwrap().video_codec.as_str(), probe.estimated_time),
        ("h264", None)
    );
    let plan = probe.plan.unwrap();
    assert!(plan.frames_used <= 2 && plan.frames_decoded == 0 && probe.estimated_device_bytes > 0);
    harness
        .ask(about(Source::ServerPath("clip.mp4".into()), "what?"))
        .await
        .unwrap();
    let probe = harness.media().probe_source(request).await.unwrap().into_inner();
    assert!(probe.estimated_time.is_some(), "learned from the ask");
}
