//! Everything that people send by mistake or on purpose: typed, told what to do, and the server goes on.

use std::{fs, path::Path};

use bytes::Bytes;
use reelsight_proto::v1::{
    AskRequest, GenerationConfig, ListModelsRequest, ProbeSourceRequest, Sampling, VideoSource,
    admin_service_client::AdminServiceClient, ask_request::Target, video_source::Source,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{Harness, about, about_clip, clip, ffmpeg, follow_up, reason};

fn write_bad_files(root: &Path) {
    fs::write(root.join("empty.mp4"), "").unwrap();
    fs::write(root.join("noise.mp4"), vec![0x5a; 20_000]).unwrap();
    fs::write(root.join("text.mp4"), "just some words\n".repeat(100)).unwrap();
    fs::write(root.join("cut.mp4"), &clip()[..clip().len() / 3]).unwrap();
    fs::write(
        root.join("list.m3u8"),
        "#EXTM3U\n#EXTINF:4,\nhttp://127.0.0.1:9/clip.ts\n#EXT-X-ENDLIST\n",
    )
    .unwrap();
    fs::create_dir(root.join("folder.mp4")).unwrap();
    ffmpeg(
        &[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=64x64",
            "-frames:v",
            "1",
            "-f",
            "mjpeg",
        ],
        &root.join("photo.mp4"),
    );
    ffmpeg(
        &["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac"],
        &root.join("sound.mp4"),
    );
    std::os::unix::fs::symlink("/etc/hostname", root.join("escape.mp4")).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(root.join("pipe.mp4"))
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_sources_have_their_own_reasons() {
    let harness = Harness::start().await;
    write_bad_files(harness.root.path());
    let path = |name: &str| Source::ServerPath(name.to_owned());
    let cases = [
        (path("empty.mp4"), Code::InvalidArgument, "MEDIA_EMPTY"),
        (path("text.mp4"), Code::InvalidArgument, "NOT_A_VIDEO"),
        (path("list.m3u8"), Code::InvalidArgument, "NOT_A_VIDEO"),
        (path("photo.mp4"), Code::InvalidArgument, "NOT_A_VIDEO"),
        (path("pipe.mp4"), Code::InvalidArgument, "NOT_A_VIDEO"),
        (path("sound.mp4"), Code::InvalidArgument, "NO_VIDEO_TRACK"),
        (path("folder.mp4"), Code::InvalidArgument, "SOURCE_IS_DIRECTORY"),
        (path("none.mp4"), Code::NotFound, "SOURCE_NOT_FOUND"),
        (
            path("escape.mp4"),
            Code::PermissionDenied,
            "SOURCE_BLOCKED_BY_POLICY",
        ),
        (
            path("../clip.mp4"),
            Code::PermissionDenied,
            "SOURCE_BLOCKED_BY_POLICY",
        ),
        (
            path("/etc/passwd"),
            Code::PermissionDenied,
            "SOURCE_BLOCKED_BY_POLICY",
        ),
        (path(""), Code::InvalidArgument, "INVALID_REQUEST"),
        (
            Source::Uri("http://127.0.0.1:1/x".into()),
            Code::PermissionDenied,
            "SOURCE_BLOCKED_BY_POLICY",
        ),
        (
            Source::Uri("file:///etc/passwd".into()),
            Code::PermissionDenied,
            "SOURCE_BLOCKED_BY_POLICY",
        ),
        (
            Source::Uri("http://a:b@example.org/".into()),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
        (Source::Media("media/none".into()), Code::NotFound, "NOT_FOUND"),
        (
            Source::Media("clip".into()),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
        (
            Source::InlineContent(Bytes::new()),
            Code::InvalidArgument,
            "MEDIA_EMPTY",
        ),
        (
            Source::InlineContent(vec![0; (4 << 20) + 1].into()),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
    ];
    for (source, code, expected) in cases {
        let shown = format!("{source:?}").chars().take(80).collect::<String>();
        let status = harness.ask(about(source.clone(), "what?")).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (code, expected),
            "{shown}: {status:?}"
        );
        let probe = ProbeSourceRequest {
            source: Some(VideoSource {
                source: Some(source),
                ..VideoSource::default()
            }),
            ..ProbeSourceRequest::default()
        };
        let probed = harness.media().probe_source(probe).await.unwrap_err();
        assert_eq!(
            (probed.code(), reason(&probed).as_str()),
            (code, expected),
            "{shown}"
        );
    }
    for damaged in ["noise.mp4", "cut.mp4"] {
        let status = harness.ask(about(path(damaged), "what?")).await.unwrap_err();
        assert!(
            matches!(reason(&status).as_str(), "NOT_A_VIDEO" | "MEDIA_CORRUPT"),
            "{damaged}: {status:?}"
        );
    }
    harness.ask(about_clip("still there?")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_fields_are_named_before_anything_is_opened() {
    let harness = Harness::start().await;
    let generation = |change: fn(&mut GenerationConfig)| {
        let mut request = about_clip("what?");
        change(request.generation.as_mut().unwrap());
        request
    };
    let sampling = |sampling| AskRequest {
        sampling: Some(sampling),
        ..about_clip("what?")
    };
    let mut headers = about_clip("what?");
    if let Some(Target::Source(source)) = &mut headers.target {
        source.request_headers.insert("a".into(), "b".into());
    }
    let cases = [
        (about_clip(""), "question"),
        (about_clip(" \n"), "question"),
        (about_clip(&"x".repeat(9000)), "question"),
        (
            AskRequest {
                target: None,
                ..about_clip("what?")
            },
            "source",
        ),
        (
            AskRequest {
                request_id: "a b".into(),
                ..about_clip("what?")
            },
            "request_id",
        ),
        (follow_up("nonsense", "what?"), "session"),
        (headers, "source.request_headers"),
        (
            sampling(Sampling {
                fps: -1.0,
                ..Sampling::default()
            }),
            "sampling.fps",
        ),
        (
            sampling(Sampling {
                fps: f64::NAN,
                ..Sampling::default()
            }),
            "sampling.fps",
        ),
        (
            sampling(Sampling {
                strategy: 99,
                ..Sampling::default()
            }),
            "sampling.strategy",
        ),
        (
            generation(|g| g.temperature = Some(-1.0)),
            "generation.temperature",
        ),
        (generation(|g| g.top_p = Some(0.0)), "generation.top_p"),
        (generation(|g| g.stop = vec![String::new()]), "generation.stop"),
    ];
    for (request, field) in cases {
        let status = harness.ask(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_REQUEST"),
            "{field}"
        );
        assert_eq!(
            status.get_details_bad_request().unwrap().field_violations[0].field,
            field
        );
    }
    let status = harness
        .ask(generation(|g| g.model = "gpt".into()))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "MODEL_NOT_LOADED")
    );
    let status = harness
        .ask(follow_up("sessions/none", "what?"))
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "NOT_FOUND")
    );
    assert!(status.get_details_resource_info().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_grpc_stack_refuses_is_typed_too() {
    let harness = Harness::start().await;
    let huge = about(Source::InlineContent(vec![0; 9 << 20].into()), "what?");
    let status = harness.ask(huge).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "MESSAGE_TOO_LARGE")
    );
    let mut admin = AdminServiceClient::new(harness.channel.clone());
    let status = admin.list_models(ListModelsRequest {}).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unimplemented, "UNKNOWN_METHOD")
    );
}
