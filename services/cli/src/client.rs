//! Where an ask goes: to a running server, or to the same service inside this process.

use std::{path::Path, pin::Pin};

use futures::{Stream, StreamExt as _, stream};
use reelsight_edge::RequestContext;
use reelsight_engine::TraceSpan;
use reelsight_proto::v1::{
    AskRequest, AskResponse, AskUploadRequest, UploadChunk, VideoSource, ask_request::Target,
    ask_upload_request::Payload, qa_service_client::QaServiceClient, video_source::Source,
};
use tokio::io::AsyncReadExt as _;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    args::AskArgs,
    exit::{Failure, FailureKind},
    serve::LocalService,
    source::is_url,
};

/// The contract's limit for one chunk of an upload.
const CHUNK_BYTES: usize = 1 << 20;

pub(crate) type AskStream = Pin<Box<dyn Stream<Item = Result<AskResponse, Status>> + Send>>;

/// Who answers.
pub(crate) enum Connection {
    Remote(Channel),
    Local(Box<LocalService>),
}

/// Connects to `--server`, or opens the service in this process.
pub(crate) async fn connect(args: &AskArgs) -> Result<Connection, Failure> {
    let Some(server) = &args.server else {
        return Ok(Connection::Local(Box::new(LocalService::open(args).await?)));
    };
    let uri = if server.contains("://") {
        server.clone()
    } else {
        format!("http://{server}")
    };
    let endpoint = Endpoint::from_shared(uri)
        .map_err(|error| Failure::input("INVALID_SERVER", format!("--server {server}: {error}")))?;
    let channel = endpoint.connect().await.map_err(|error| {
        let message = format!(
            "cannot reach {server}: {}; is `reelsight serve` running there?",
            root_cause(&error)
        );
        Failure::new(FailureKind::Unavailable, "SERVER_UNREACHABLE", message)
    })?;
    Ok(Connection::Remote(channel))
}

impl Connection {
    /// Sends the question. A file is named to the service in this process and uploaded to one elsewhere.
    pub(crate) async fn ask(&self, mut ask: AskRequest, args: &AskArgs) -> Result<AskStream, Failure> {
        let video = args.video.as_str();
        let source = match self {
            _ if is_url(video) => Source::Uri(video.to_owned()),
            Self::Local(_) => Source::ServerPath(file_name(video)),
            Self::Remote(channel) => {
                let request = timed(upload(ask, Path::new(video)).await?, args);
                let responses = QaServiceClient::new(channel.clone())
                    .ask_upload(request)
                    .await?
                    .into_inner();
                return Ok(responses
                    .map(|r| r.map(|r| r.response.unwrap_or_default()))
                    .boxed());
            }
        };
        ask.target = Some(Target::Source(VideoSource {
            source: Some(source),
            ..VideoSource::default()
        }));
        match self {
            Self::Remote(channel) => {
                let request = timed(ask, args);
                Ok(QaServiceClient::new(channel.clone())
                    .ask(request)
                    .await?
                    .into_inner()
                    .boxed())
            }
            Self::Local(local) => {
                let context = RequestContext::of(&Request::new(()));
                let context = match args.timeout {
                    Some(timeout) => context.with_timeout(timeout),
                    None => context,
                };
                Ok(local.services.qa.ask(ask, context)?.boxed())
            }
        }
    }

    /// What the engine in this process did when; nothing of one elsewhere.
    pub(crate) fn trace(&self) -> Vec<TraceSpan> {
        match self {
            Self::Local(local) => local.engine.last_trace(),
            Self::Remote(_) => Vec::new(),
        }
    }

    /// Ends the service in this process, if there is one.
    pub(crate) async fn close(self) {
        if let Self::Local(local) = self {
            local.services.close().await;
        }
    }
}

/// The path below the one media root of an in-process ask.
fn file_name(video: &str) -> String {
    Path::new(video)
        .file_name()
        .map_or_else(|| video.to_owned(), |name| name.to_string_lossy().into_owned())
}

fn timed<T>(message: T, args: &AskArgs) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(timeout) = args.timeout {
        request.set_timeout(timeout);
    }
    request
}

/// The question, then the file in chunks with their offsets and checksums.
async fn upload(
    ask: AskRequest,
    path: &Path,
) -> Result<impl Stream<Item = AskUploadRequest> + Send + use<>, Failure> {
    let unreadable = |error: &std::io::Error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "SOURCE_NOT_FOUND",
            _ => "SOURCE_UNREADABLE",
        };
        Failure::input(reason, format!("cannot read {}: {error}", path.display()))
    };
    let file = tokio::fs::File::open(path).await.map_err(|e| unreadable(&e))?;
    if file.metadata().await.map_err(|e| unreadable(&e))?.is_dir() {
        return Err(Failure::input(
            "SOURCE_IS_DIRECTORY",
            format!("{} is a folder; name a video file", path.display()),
        ));
    }
    let head = AskUploadRequest {
        payload: Some(Payload::Ask(ask)),
    };
    // A read error ends the upload early; the server then answers with a typed error about the media.
    let chunks = stream::unfold((file, 0_u64), |(mut file, offset)| async move {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut file)
            .take(CHUNK_BYTES as u64)
            .read_to_end(&mut data)
            .await
            .ok()?;
        if read == 0 {
            return None;
        }
        let chunk = UploadChunk {
            offset,
            crc32c: crc32c::crc32c(&data),
            data: data.into(),
        };
        Some((
            AskUploadRequest {
                payload: Some(Payload::Chunk(chunk)),
            },
            (file, offset + read as u64),
        ))
    });
    Ok(stream::once(std::future::ready(head)).chain(chunks))
}

/// The innermost message: `connection refused` rather than `transport error`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
