//! One GET, with redirects, into a file.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{task::JoinSet, time::timeout};
use url::Url;

use crate::{
    FetchError, Fetched, Resolver, SourceHeaders, SystemResolver, UrlPolicy,
    connect::{check_url, connect, host_text, tls_config},
    sink::Sink,
};

/// What one fetch may cost.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    /// Bytes of the body. Default 4 GiB.
    pub max_bytes: u64,
    /// Name, TCP and TLS together. Default 10 s.
    pub connect: Duration,
    /// Silence of the source. Default 20 s.
    pub idle: Duration,
    /// Everything. Default 10 minutes.
    pub total: Duration,
    /// Redirects. Default 5.
    pub max_redirects: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_bytes: 4 << 30,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            total: Duration::from_mins(10),
            max_redirects: 5,
        }
    }
}

/// Fetches URLs into temporary files. Cloning is cheap.
#[derive(Clone)]
pub struct Fetcher {
    policy: Arc<UrlPolicy>,
    resolver: Arc<dyn Resolver>,
    limits: FetchLimits,
    tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher")
            .field("policy", &self.policy)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    /// With the system's resolver.
    #[must_use]
    pub fn new(policy: UrlPolicy, limits: FetchLimits) -> Self {
        Self::with_resolver(policy, limits, Arc::new(SystemResolver))
    }

    /// With another resolver.
    #[must_use]
    pub fn with_resolver(policy: UrlPolicy, limits: FetchLimits, resolver: Arc<dyn Resolver>) -> Self {
        Self {
            policy: Arc::new(policy),
            resolver,
            limits,
            tls: tls_config(),
        }
    }

    /// Checks a URL without touching the network.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] or [`FetchError::Blocked`].
    pub fn check(&self, uri: &str) -> Result<(), FetchError> {
        parse(uri).map(drop)
    }

    /// Fetches `uri` into a new file in `folder`. `headers` go to the origin of `uri` only.
    ///
    /// # Errors
    /// [`FetchError`].
    ///
    /// # Cancellation
    /// Dropping the future closes the connection and deletes the file.
    pub async fn fetch(
        &self,
        uri: &str,
        headers: &SourceHeaders,
        folder: &Path,
    ) -> Result<Fetched, FetchError> {
        let origin = parse(uri)?;
        let limit = self.limits.total;
        timeout(limit, self.follow(origin, headers, folder))
            .await
            .unwrap_or(Err(FetchError::Timeout {
                what: "fetching",
                limit,
            }))
    }

    async fn follow(
        &self,
        origin: Url,
        headers: &SourceHeaders,
        folder: &Path,
    ) -> Result<Fetched, FetchError> {
        let mut url = origin.clone();
        for _ in 0..=self.limits.max_redirects {
            // The connection's task lives in this set, and so dies with this future.
            let mut tasks = JoinSet::new();
            let response = self.get(&url, &origin, headers, &mut tasks).await?;
            match redirect(&url, &response)? {
                Some(next) => url = next,
                None => return self.store(response, folder).await,
            }
        }
        Err(FetchError::Unreachable {
            what: format!("more than {} redirects", self.limits.max_redirects),
        })
    }

    async fn get(
        &self,
        url: &Url,
        origin: &Url,
        headers: &SourceHeaders,
        tasks: &mut JoinSet<()>,
    ) -> Result<Response<Incoming>, FetchError> {
        check_url(url)?;
        let stream = connect(url, &self.policy, &*self.resolver, &self.tls, self.limits.connect).await?;
        let broken = |error: hyper::Error| FetchError::Unreachable {
            what: format!("HTTP failed ({error})"),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tasks.spawn(async move {
            // An error shows up in the response or its body as well, where it is handled.
            connection.await.ok();
        });
        let request = request(url, (url.origin() == origin.origin()).then_some(headers))?;
        let idle = self.limits.idle;
        timeout(idle, sender.send_request(request))
            .await
            .map_err(|_elapsed| FetchError::Timeout {
                what: "waiting for the response",
                limit: idle,
            })?
            .map_err(broken)
    }

    async fn store(&self, response: Response<Incoming>, folder: &Path) -> Result<Fetched, FetchError> {
        check_status(response.status())?;
        let FetchLimits { max_bytes, idle, .. } = self.limits;
        let too_large = FetchError::TooLarge { limit: max_bytes };
        let announced = response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > max_bytes) {
            return Err(too_large);
        }
        let sink = Sink::start(folder)?;
        let (mut body, mut received) = (response.into_body(), 0_u64);
        loop {
            let next = timeout(idle, body.frame())
                .await
                .map_err(|_elapsed| FetchError::Timeout {
                    what: "waiting for more bytes",
                    limit: idle,
                })?;
            let Some(frame) = next else { break };
            let frame = frame.map_err(|error| FetchError::Unreachable {
                what: format!("the body ended early, after {received} bytes ({error})"),
            })?;
            let Ok(chunk) = frame.into_data() else { continue };
            received += chunk.len() as u64;
            if received > max_bytes {
                return Err(too_large);
            }
            if !sink.push(chunk).await {
                break;
            }
        }
        sink.finish().await
    }
}

fn parse(uri: &str) -> Result<Url, FetchError> {
    let invalid = |message: String| FetchError::Invalid {
        field: "source.uri",
        message,
    };
    if uri.len() > 4096 {
        return Err(invalid("the URL is longer than 4096 bytes".into()));
    }
    let url = Url::parse(uri).map_err(|error| invalid(format!("the URL is malformed ({error})")))?;
    check_url(&url)?;
    Ok(url)
}

fn request(url: &Url, headers: Option<&SourceHeaders>) -> Result<Request<Empty<Bytes>>, FetchError> {
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let mut request = Request::get(path)
        .header(header::HOST, authority)
        .header(
            header::USER_AGENT,
            concat!("reelsight/", env!("CARGO_PKG_VERSION")),
        )
        .header(header::ACCEPT, "*/*")
        .body(Empty::new())
        .map_err(|error| FetchError::Invalid {
            field: "source.uri",
            message: error.to_string(),
        })?;
    if let Some(headers) = headers {
        for (name, value) in headers.map() {
            request.headers_mut().insert(name, value.clone());
        }
    }
    Ok(request)
}

/// Where a redirect leads; its scheme and form are checked before it is followed.
fn redirect(url: &Url, response: &Response<Incoming>) -> Result<Option<Url>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let lost = || FetchError::Unreachable {
        what: format!("{} redirects to nowhere", host_text(url)),
    };
    let target = response
        .headers()
        .get(header::LOCATION)
        .and_then(|v| v.to_str().ok())
        .ok_or_else(lost)?;
    let next = url.join(target).map_err(|_malformed| lost())?;
    check_url(&next)?;
    Ok(Some(next))
}

fn check_status(status: StatusCode) -> Result<(), FetchError> {
    match status.as_u16() {
        200 => Ok(()),
        401 | 403 => Err(FetchError::Auth {
            status: status.as_u16(),
        }),
        404 | 410 => Err(FetchError::NotThere {
            status: status.as_u16(),
        }),
        other => Err(FetchError::Unreachable {
            what: format!("it answers HTTP {other}"),
        }),
    }
}
