//! Sources and kept media over a real file.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{fs, process::Command, time::Duration};

use reelsight_catalog::{Decoders, MediaRoots, SourceLimits, Sources, UploadLimits, Uploads};
use reelsight_fetch::{FetchLimits, Fetcher, UrlPolicy};
use reelsight_proto::{
    status::ServiceError as _,
    v1::{VideoSource, video_source::Source},
};
use reelsight_store::{DataDir, Store};
use reelsight_worker::{WorkerOptions, WorkerPool};
use tempfile::TempDir;

struct Parts {
    folder: TempDir,
    sources: Sources,
    uploads: Uploads,
}

/// Set in decode workers only.
const AS_WORKER: &str = "REELSIGHT_TEST_WORKER";

/// No test: what this program does when a pool starts it as its worker.
#[test]
fn decode_worker() {
    if std::env::var_os(AS_WORKER).is_some() {
        assert_eq!(reelsight_worker::run_worker(), std::process::ExitCode::SUCCESS);
    }
}

/// This program as its own decode worker.
fn pool() -> WorkerPool {
    let arguments = ["decode_worker", "--exact", "--nocapture", "--test-threads=1"];
    WorkerPool::start(WorkerOptions {
        arguments: arguments.map(Into::into).to_vec(),
        environment: vec![(AS_WORKER.into(), "1".into())],
        ..WorkerOptions::default()
    })
    .unwrap()
}

fn parts(limits: SourceLimits, uploads: UploadLimits) -> Parts {
    parts_with(limits, uploads, None)
}

fn parts_with(limits: SourceLimits, uploads: UploadLimits, refusal: Option<&str>) -> Parts {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    let source = "testsrc2=size=64x48:rate=10:duration=1";
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        .args(["-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"])
        .arg(clip);
    assert!(ffmpeg.status().unwrap().success());
    let dir = DataDir::open(&folder.path().join("data")).unwrap();
    let store = Store::open(&dir).unwrap();
    let roots = MediaRoots::new(&[folder.path().into()]).unwrap();
    let fetcher = Fetcher::new(UrlPolicy::default(), FetchLimits::default());
    let decoders = Decoders {
        pool: pool(),
        refusal: refusal.map(str::to_owned),
    };
    let sources = Sources::new(dir.clone(), store.clone(), fetcher, roots, limits, decoders);
    let uploads = Uploads::new(dir, store, sources.clone(), uploads);
    Parts {
        folder,
        sources,
        uploads,
    }
}

fn source(source: Source) -> VideoSource {
    VideoSource {
        source: Some(source),
        ..VideoSource::default()
    }
}

#[tokio::test]
async fn the_same_bytes_have_one_index_and_one_identity() {
    let Parts { folder, sources, .. } = parts(SourceLimits::default(), UploadLimits::default());
    let by_path = sources
        .open(&source(Source::ServerPath("clip.mp4".into())))
        .await
        .unwrap();
    let first = sources.index(&by_path).await.unwrap();
    assert_eq!((first.info.frame_count, first.info.width), (10, 64));
    let again = sources
        .open(&source(Source::ServerPath("./clip.mp4".into())))
        .await
        .unwrap();
    assert!(std::sync::Arc::ptr_eq(
        &first,
        &sources.index(&again).await.unwrap()
    ));
    let bytes = fs::read(folder.path().join("clip.mp4")).unwrap();
    let inline = sources
        .open(&source(Source::InlineContent(bytes.clone().into())))
        .await
        .unwrap();
    let other = sources
        .open(&source(Source::InlineContent(bytes.into())))
        .await
        .unwrap();
    assert!(inline.key.as_str().starts_with("sha256:") && inline.key == other.key);
    fs::write(folder.path().join("clip.mp4"), "changed").unwrap();
    let changed = sources
        .open(&source(Source::ServerPath("clip.mp4".into())))
        .await
        .unwrap();
    assert_ne!(changed.key, by_path.key);
}

#[tokio::test]
async fn kept_bytes_count_against_the_quota_and_go_when_their_time_is_over() {
    let limits = UploadLimits {
        max_total_bytes: 30_000,
        ..UploadLimits::default()
    };
    let Parts {
        folder,
        sources,
        uploads,
    } = parts(SourceLimits::default(), limits);
    let bytes = fs::read(folder.path().join("clip.mp4")).unwrap();
    let opened = sources
        .open(&source(Source::InlineContent(bytes.clone().into())))
        .await
        .unwrap();
    let index = sources.index(&opened).await.unwrap();
    let files = || fs::read_dir(folder.path().join("data/media")).unwrap().count();
    let media = uploads
        .keep_source(&opened, &index, Duration::from_millis(50))
        .await
        .unwrap();
    assert_eq!(
        fs::read(folder.path().join("data/media").join(&media.id)).unwrap(),
        bytes
    );
    let mut refused = None;
    for _ in 0..=30_000 / bytes.len() {
        refused = uploads
            .keep_source(&opened, &index, Duration::from_millis(50))
            .await
            .err();
    }
    assert_eq!(refused.unwrap().reason(), "QUOTA_EXCEEDED");
    tokio::time::sleep(Duration::from_millis(80)).await;
    let name = format!("media/{}", media.id);
    let gone = sources.open(&source(Source::Media(name))).await.unwrap_err();
    assert_eq!(gone.reason(), "NOT_FOUND");
    assert!(files() > 0);
    uploads.sweep().await.unwrap();
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn without_a_sandbox_only_the_operators_own_files_are_decoded() {
    let refusal = Some("filters system calls: not permitted");
    let Parts {
        folder: _kept,
        sources,
        uploads,
    } = parts_with(SourceLimits::default(), UploadLimits::default(), refusal);
    for stranger in [
        Source::InlineContent(vec![0; 9].into()),
        Source::Uri("https://example.com/a.mp4".into()),
        Source::Media("media/1".into()),
    ] {
        let error = sources.check(&source(stranger)).unwrap_err();
        assert_eq!(error.reason(), "SANDBOX_UNAVAILABLE");
        assert!(error.to_string().contains("filters system calls"), "{error}");
    }
    assert_eq!(uploads.spool().await.unwrap_err().reason(), "SANDBOX_UNAVAILABLE");
    let own = sources
        .open(&source(Source::ServerPath("clip.mp4".into())))
        .await
        .unwrap();
    assert_eq!(sources.index(&own).await.unwrap().info.frame_count, 10);
}
