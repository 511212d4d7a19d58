//! A server to test against, clips from a real encoder, and what tests say to both.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use reelsight_engine::{Engine, EngineConfig};
use reelsight_proto::{
    google::longrunning::operations_client::OperationsClient,
    v1::{
        AskRequest, AskResponse, AskResult, GenerationConfig, VideoSource, ask_request::Target,
        ask_response::Event, media_service_client::MediaServiceClient, qa_service_client::QaServiceClient,
        video_source::Source,
    },
};
use reelsight_registry::ModelFolder;
use reelsight_server::{RunningServer, Server, ServerConfig};
use reelsight_worker::WorkerOptions;
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet};
use tonic::{Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// A model folder in the published layout with weights from a seed.
pub(crate) fn twin() -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("twin-{}", std::process::id()));
    if !out.join("SHA256SUMS").is_file() {
        let mut python = Command::new(repository().join(".venv/bin/python"));
        python
            .env("PYTHONPATH", repository().join("models/training"))
            .current_dir(repository());
        python
            .args([
                "-m",
                "reelsight_training.export",
                "--random",
                "--seed",
                "0",
                "--out",
            ])
            .arg(&out);
        let output = python
            .output()
            .expect("run .venv/bin/python (make setup makes it)");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    out
}

/// Runs the ffmpeg command line.
pub(crate) fn ffmpeg(args: &[&str], out: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(args)
        .arg(out)
        .status()
        .expect("run ffmpeg");
    assert!(status.success());
}

/// Four seconds of H.264 with B-frames, made once.
pub(crate) fn clip() -> Vec<u8> {
    static CLIP: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        let source = "testsrc2=size=160x120:rate=25:duration=4";
        ffmpeg(
            &[
                "-f", "lavfi", "-i", source, "-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p",
            ],
            &path,
        );
        fs::read(path).unwrap()
    };
    CLIP.get_or_init(make).clone()
}

pub(crate) const MAX_ACTIVE: usize = 2;
pub(crate) const MAX_QUEUED: usize = 6;

/// Set in decode workers only.
pub(crate) const AS_WORKER: &str = "REELSIGHT_TEST_WORKER";

/// This program as its own decode worker.
pub(crate) fn workers() -> WorkerOptions {
    let arguments = ["decode_worker", "--exact", "--nocapture", "--test-threads=1"];
    WorkerOptions {
        arguments: arguments.map(Into::into).to_vec(),
        environment: vec![(AS_WORKER.into(), "1".into())],
        ..WorkerOptions::default()
    }
}

/// A running server with `clip.mp4` in its media root.
pub(crate) struct Harness {
    pub(crate) server: RunningServer,
    pub(crate) channel: Channel,
    pub(crate) root: TempDir,
    pub(crate) data: TempDir,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::with(|_config| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("clip.mp4"), clip()).unwrap();
        Self::over(root, tempfile::tempdir().unwrap(), vec![twin()], change).await
    }

    /// With these models; the first is the default.
    pub(crate) async fn with_models(models: Vec<PathBuf>) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("clip.mp4"), clip()).unwrap();
        Self::over(root, tempfile::tempdir().unwrap(), models, |_config| {}).await
    }

    async fn over(
        root: TempDir,
        data: TempDir,
        models: Vec<PathBuf>,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let mut config = ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            data_dir: data.path().into(),
            media_roots: vec![root.path().into()],
            drain: Duration::from_millis(200),
            workers: workers(),
            ..ServerConfig::default()
        };
        (config.qa.max_active, config.qa.max_queued) = (MAX_ACTIVE, MAX_QUEUED);
        change(&mut config);
        let kv_cache_bytes = config.qa.session_bytes;
        let engines = tokio::task::spawn_blocking(move || {
            let config = EngineConfig {
                kv_cache_bytes,
                intra_threads: 1,
                max_active: MAX_ACTIVE,
                max_queued: MAX_QUEUED,
                prefill_chunk: 128,
                vision_batch: 4,
                no_overlap: false,
                ..EngineConfig::default()
            };
            let load =
                |folder: &PathBuf| Engine::load(&ModelFolder::open(folder).unwrap(), config.clone()).unwrap();
            models.iter().map(load).collect()
        });
        let server = Server::start(config, engines.await.unwrap()).await.unwrap();
        let channel = connect(server.local_addr()).await;
        Self {
            server,
            channel,
            root,
            data,
        }
    }

    /// Ends the server and starts another one over the same folders.
    pub(crate) async fn restart(self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let Self {
            server,
            channel,
            root,
            data,
        } = self;
        drop(channel);
        server.shutdown().await;
        Self::over(root, data, vec![twin()], change).await
    }

    pub(crate) fn qa(&self) -> QaServiceClient<Channel> {
        QaServiceClient::new(self.channel.clone())
    }

    pub(crate) fn media(&self) -> MediaServiceClient<Channel> {
        MediaServiceClient::new(self.channel.clone())
    }

    pub(crate) fn operations(&self) -> OperationsClient<Channel> {
        OperationsClient::new(self.channel.clone())
    }

    pub(crate) async fn ask(&self, request: AskRequest) -> Result<Answer, Status> {
        collect(self.qa().ask(request).await?.into_inner()).await
    }

    /// Waits until the engine has nothing to do.
    pub(crate) async fn idle(&self) {
        for _ in 0..500 {
            if self
                .server
                .qa()
                .models()
                .all()
                .all(|engine| engine.active() + engine.queued() == 0)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the engine is still busy after 5 s");
    }
}

pub(crate) async fn connect(address: std::net::SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// All events of an ask that ended well.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) events: Vec<Event>,
    pub(crate) result: AskResult,
}

impl Answer {
    pub(crate) fn deltas(&self) -> String {
        let text = |event: &Event| {
            if let Event::Delta(delta) = event {
                delta.text.clone()
            } else {
                String::new()
            }
        };
        self.events.iter().map(text).collect()
    }

    pub(crate) fn warnings(&self) -> Vec<&str> {
        let mut reasons = Vec::new();
        for event in &self.events {
            if let Event::Warning(warning) = event {
                reasons.push(warning.reason.as_str());
            }
        }
        reasons
    }

    pub(crate) fn cached_tokens(&self) -> u32 {
        self.result.usage.as_ref().unwrap().cached_tokens
    }
}

pub(crate) async fn collect(mut stream: Streaming<AskResponse>) -> Result<Answer, Status> {
    let mut events = Vec::new();
    while let Some(response) = stream.message().await? {
        events.push(response.event.unwrap());
    }
    let Some(Event::Result(result)) = events.last().cloned() else {
        panic!("no result in {events:?}")
    };
    Ok(Answer { events, result })
}

pub(crate) fn about(source: Source, question: &str) -> AskRequest {
    AskRequest {
        target: Some(Target::Source(VideoSource {
            source: Some(source),
            ..VideoSource::default()
        })),
        question: question.to_owned(),
        generation: Some(GenerationConfig {
            max_tokens: 8,
            ..GenerationConfig::default()
        }),
        ..AskRequest::default()
    }
}

pub(crate) fn about_clip(question: &str) -> AskRequest {
    about(Source::ServerPath("clip.mp4".into()), question)
}

pub(crate) fn follow_up(session: &str, question: &str) -> AskRequest {
    AskRequest {
        target: Some(Target::Session(session.to_owned())),
        ..about_clip(question)
    }
}

/// The stable reason of an error; every error must have one, in our domain, with the id of the request.
pub(crate) fn reason(status: &Status) -> String {
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "reelsight.dev");
    assert!(
        status
            .get_details_request_info()
            .is_some_and(|info| !info.request_id.is_empty()),
        "{status:?}"
    );
    info.reason
}

/// A web server that takes requests and never answers; counts the connections that are open.
pub(crate) struct SilentWeb {
    pub(crate) uri: String,
    open: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl SilentWeb {
    pub(crate) async fn start() -> Self {
        use std::sync::atomic::Ordering::SeqCst;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/video.mp4", listener.local_addr().unwrap());
        let open = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&open);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let counter = std::sync::Arc::clone(&counter);
                counter.fetch_add(1, SeqCst);
                connections.spawn(async move {
                    let mut buffer = vec![0; 1024];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                    counter.fetch_sub(1, SeqCst);
                });
            }
        });
        Self {
            uri,
            open,
            _tasks: tasks,
        }
    }

    /// Waits until `wanted` connections are open.
    pub(crate) async fn until_open(&self, wanted: usize) {
        for _ in 0..500 {
            if self.open.load(std::sync::atomic::Ordering::SeqCst) == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {wanted} connections");
    }
}

pub(crate) fn trust_loopback(config: &mut ServerConfig) {
    config.url_allow = vec!["127.0.0.0/8".parse().unwrap()];
}
