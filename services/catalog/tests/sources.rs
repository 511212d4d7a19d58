//! Sources and kept media over a real file.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

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
    let policy = UrlPolicy::new(vec!["127.0.0.1".parse().unwrap()]);
    let fetcher = Fetcher::new(policy, FetchLimits::default());
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
    assert!(inline.key().as_str().starts_with("sha256:") && inline.key() == other.key());
    fs::write(folder.path().join("clip.mp4"), "changed").unwrap();
    let changed = sources
        .open(&source(Source::ServerPath("clip.mp4".into())))
        .await
        .unwrap();
    assert_ne!(changed.key(), by_path.key());
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

/// Serves one file with ranges and counts the bytes that it sends. Its threads end with the test.
fn serve(file: &Path) -> (SocketAddr, Arc<AtomicUsize>) {
    let body = Arc::new(fs::read(file).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&sent);
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let (body, counter) = (Arc::clone(&body), Arc::clone(&counter));
            thread::spawn(move || answer(stream, &body, &counter));
        }
    });
    (address, sent)
}

fn answer(mut stream: TcpStream, body: &[u8], sent: &AtomicUsize) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    loop {
        let mut range = None;
        loop {
            let line = lines.next()?.ok()?;
            if line.is_empty() {
                break;
            }
            range = range.or_else(|| line.strip_prefix("range: bytes=").map(str::to_owned));
        }
        let range = range?;
        let (start, last) = range.split_once('-')?;
        let start: usize = start.parse().ok()?;
        let part = &body[start..=last.parse::<usize>().ok()?.min(body.len() - 1)];
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\netag: \"1\"\r\ncontent-range: bytes {start}-{}/{}\r\ncontent-length: {}\r\n\r\n",
            start + part.len() - 1,
            body.len(),
            part.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(part).ok()?;
        sent.fetch_add(part.len(), Ordering::Relaxed);
    }
}

/// An index and a few frames of a remote MP4 take a small part of it; the index is kept and is not made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remote_files_are_read_in_parts() {
    use reelsight_decode::DecodeOptions;
    use reelsight_media::FrameSource as _;

    let Parts { folder, sources, .. } = parts(SourceLimits::default(), UploadLimits::default());
    let clip = folder.path().join("long.mp4");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=60"]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "ultrafast", "-qp", "8", "-g", "50"]);
    assert!(ffmpeg.arg(&clip).status().unwrap().success());
    let size = usize::try_from(fs::metadata(&clip).unwrap().len()).unwrap();
    let (address, sent) = serve(&clip);
    let url = source(Source::Uri(format!("http://{address}/long.mp4")));
    let opened = sources.open(&url).await.unwrap();
    let index = sources.index(&opened).await.unwrap();
    let for_index = sent.swap(0, Ordering::Relaxed);
    assert_eq!(index.info.frame_count, 1500);
    let (input, pool) = (opened.input().unwrap(), sources.pool().clone());
    let kept = Arc::clone(&index);
    let frames = tokio::task::spawn_blocking(move || {
        let options = DecodeOptions::default();
        let mut reader = pool.read_frames(&input, kept, vec![751, 1400], &options).unwrap();
        std::iter::from_fn(|| reader.next_frame().unwrap()).count()
    });
    assert_eq!(frames.await.unwrap(), 2);
    let for_frames = sent.swap(0, Ordering::Relaxed);
    println!("{size} bytes; {for_index} for the index, {for_frames} for two frames");
    assert!(
        for_index < size / 4 && for_frames < size / 3,
        "{for_index}, {for_frames} of {size}"
    );
    let again = sources.open(&url).await.unwrap();
    assert_eq!(again.key(), opened.key());
    assert!(Arc::ptr_eq(&index, &sources.index(&again).await.unwrap()));
    assert!(
        sent.load(Ordering::Relaxed) <= 1 << 20,
        "only its version was asked for"
    );
    let stored = fs::read_dir(folder.path().join("data/index")).unwrap().count();
    assert_eq!(stored, 1);
}

/// What another process indexed is not indexed again, and what is damaged is.
#[tokio::test]
async fn indices_are_kept_on_disk() {
    let Parts {
        folder,
        sources,
        uploads,
    } = parts(SourceLimits::default(), UploadLimits::default());
    let clip = || source(Source::ServerPath("clip.mp4".into()));
    let index = sources
        .index(&sources.open(&clip()).await.unwrap())
        .await
        .unwrap();
    drop((sources, uploads));
    let entry = fs::read_dir(folder.path().join("data/index"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    for damage in [false, true] {
        let written = entry.metadata().unwrap().len();
        if damage {
            fs::write(entry.path(), "RSIX and nonsense").unwrap();
        }
        let dir = DataDir::open(&folder.path().join("data")).unwrap();
        let store = Store::open(&dir).unwrap();
        let roots = MediaRoots::new(&[folder.path().into()]).unwrap();
        let fetcher = Fetcher::new(UrlPolicy::default(), FetchLimits::default());
        let pool = pool();
        if !damage {
            // Nothing can be indexed here.
            pool.close();
        }
        let decoders = Decoders { pool, refusal: None };
        let sources = Sources::new(dir, store, fetcher, roots, SourceLimits::default(), decoders);
        let again = sources
            .index(&sources.open(&clip()).await.unwrap())
            .await
            .unwrap();
        assert_eq!(*again, *index);
        assert_eq!(entry.metadata().unwrap().len(), written);
    }
}
