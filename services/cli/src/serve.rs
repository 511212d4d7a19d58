//! `reelsight serve`, and the same service inside the process for `reelsight ask`.

use std::{num::NonZero, path::Path};

use reelsight_engine::{Engine, EngineConfig, KvDisk};
use reelsight_fetch::{CertificateDer, S3Stores};
use reelsight_ort::{Device, OrtError, runtime};
use reelsight_registry::ModelFolder;
use reelsight_server::{Server, ServerConfig, ServerError, Services};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{AskArgs, ModelArgs, ServeArgs},
    exit::{Failure, FailureKind},
    models,
};

/// Tokens per run of the decoder while the prompt is read: long enough for efficient matrix products, short enough
/// that a cancelled ask ends soon.
const PREFILL_CHUNK: usize = 256;
/// Frames per run of the vision graph.
const VISION_BATCH: usize = 8;

pub(crate) fn run(args: ServeArgs) -> Result<(), Failure> {
    let mut config = ServerConfig {
        listen: args.listen,
        admin_listen: args.admin_listen,
        insecure_listen: args.insecure_listen,
        data_dir: args.data_dir,
        media_roots: args.media_root,
        url_allow: url_allow(&args.url_allow)?,
        url_authorities: url_authorities(args.url_ca.as_deref())?,
        s3_stores: s3_stores(args.s3_config.as_deref())?,
        allow_unsandboxed: args.allow_unsandboxed,
        ..ServerConfig::default()
    };
    config.qa.max_active = args.max_active.into();
    config.qa.max_queued = args.max_queued.into();
    config.qa.session_bytes = args.kv_cache_bytes;
    config.validate().map_err(|error| unstartable(&error))?;
    let kv = EngineConfig {
        kv_bytes: args.kv_bytes,
        kv_disk: (args.kv_disk_bytes > 0).then(|| KvDisk {
            dir: config.data_dir.join("kv"),
            bytes: args.kv_disk_bytes,
        }),
        ..engine_defaults()
    };
    let engine = engine(&args.model, &config, kv)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(config, engine))
}

/// Serves until the first SIGINT or SIGTERM, then lets running asks end.
#[expect(
    clippy::print_stdout,
    reason = "scripts wait for this line, and need the port that was taken"
)]
async fn serve(config: ServerConfig, engine: Engine) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::start(config, vec![engine])
        .await
        .map_err(|error| unstartable(&error))?;
    if let Some(admin) = server.admin_addr() {
        println!("admin listening on {admin}");
    }
    println!("listening on {}", server.local_addr());
    tokio::select! {
        _interrupt = tokio::signal::ctrl_c() => {}
        _terminate = terminate.recv() => {}
    }
    tracing::info!("draining");
    server.shutdown().await;
    Ok(())
}

/// The service of an in-process ask: it may open the folder of that one file, and forgets everything afterwards.
pub(crate) struct LocalService {
    pub(crate) services: Services,
    pub(crate) engine: Engine,
    /// Deleted when the ask ends.
    _data: tempfile::TempDir,
}

impl LocalService {
    pub(crate) async fn open(args: &AskArgs) -> Result<Self, Failure> {
        let data = tempfile::tempdir()?;
        let mut config = ServerConfig {
            data_dir: data.path().to_path_buf(),
            url_allow: url_allow(&args.url_allow)?,
            url_authorities: url_authorities(args.url_ca.as_deref())?,
            s3_stores: s3_stores(args.s3_config.as_deref())?,
            media_roots: Path::new(&args.video)
                .parent()
                .map(parent_or_here)
                .filter(|p| p.is_dir())
                .into_iter()
                .collect(),
            ..ServerConfig::default()
        };
        config.qa.max_active = 1;
        let defaults = EngineConfig {
            trace: args.trace.is_some(),
            ..engine_defaults()
        };
        let engine = engine(&args.model, &config, defaults)?;
        let services = Services::open(&config, vec![engine.clone()])
            .await
            .map_err(|error| unstartable(&error))?;
        Ok(Self {
            services,
            engine,
            _data: data,
        })
    }
}

/// `clip.mp4` has the parent `""`, which means the current folder.
fn parent_or_here(parent: &Path) -> std::path::PathBuf {
    if parent.as_os_str().is_empty() {
        ".".into()
    } else {
        parent.into()
    }
}

fn engine(args: &ModelArgs, config: &ServerConfig, defaults: EngineConfig) -> Result<Engine, Failure> {
    let folder = models::open(&args.model, &models::roots(&args.model_root))?;
    select_device(&args.provider)?;
    load_engine(
        &folder,
        EngineConfig {
            intra_threads: args.intra_threads.map_or(defaults.intra_threads, usize::from),
            max_active: config.qa.max_active,
            max_queued: config.qa.max_queued,
            kv_cache_bytes: config.qa.session_bytes,
            no_overlap: args.no_overlap,
            ..defaults
        },
    )
}

fn select_device(provider: &str) -> Result<(), Failure> {
    let device = match provider {
        "cuda" => Device::Cuda,
        "auto" => Device::Auto,
        _ => Device::Cpu,
    };
    let failed = |error: OrtError| Failure::new(FailureKind::Setup, "PROVIDER_UNAVAILABLE", error);
    let found = runtime(None).map_err(failed)?.select(device).map_err(failed)?;
    tracing::debug!(device = ?found, "graphs run here");
    Ok(())
}

/// Half of the cores for each session, because decoding and preprocessing run beside it.
pub(crate) fn engine_defaults() -> EngineConfig {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    EngineConfig {
        intra_threads: cores.div_ceil(2),
        max_active: 1,
        max_queued: 0,
        prefill_chunk: PREFILL_CHUNK,
        vision_batch: VISION_BATCH,
        no_overlap: false,
        ..EngineConfig::default()
    }
}

pub(crate) fn load_engine(folder: &ModelFolder, config: EngineConfig) -> Result<Engine, Failure> {
    Ok(Engine::load(folder, config)?)
}

/// Trusted certificate authorities of a PEM file.
pub(crate) fn url_authorities(path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let Some(path) = path else { return Ok(Vec::new()) };
    reelsight_fetch::authorities_from_pem(path)
        .map_err(|error| Failure::input("INVALID_URL_CA", format!("--url-ca {}: {error}", path.display())))
}

/// The stores of a file, with their secrets; none without a file.
pub(crate) fn s3_stores(path: Option<&Path>) -> Result<S3Stores, Failure> {
    let Some(path) = path else {
        return Ok(S3Stores::default());
    };
    S3Stores::from_file(path).map_err(|error| {
        Failure::input(
            "INVALID_S3_CONFIG",
            format!("--s3-config {}: {error}", path.display()),
        )
    })
}

pub(crate) fn url_allow<T: std::str::FromStr<Err = String>>(texts: &[String]) -> Result<Vec<T>, Failure> {
    let parse = |text: &String| {
        text.parse()
            .map_err(|error| Failure::input("INVALID_URL_ALLOW", format!("--url-allow {text}: {error}")))
    };
    texts.iter().map(parse).collect()
}

fn unstartable(error: &ServerError) -> Failure {
    Failure::new(FailureKind::Setup, "SERVER_NOT_STARTED", error)
}
