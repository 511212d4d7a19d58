//! HTTP exchanges under the policy: address, connection, redirects.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{task::JoinSet, time::timeout};
use url::{Origin, Url};

use crate::{
    FetchError, FetchLimits, Resolver, SourceHeaders, UrlPolicy,
    connect::{check_url, connect, host_text},
};

/// What every exchange needs.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) policy: UrlPolicy,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) limits: FetchLimits,
    pub(crate) tls: Arc<ClientConfig>,
    /// Where buckets are.
    #[cfg(feature = "s3")]
    pub(crate) stores: crate::S3Stores,
}

/// A connection that can carry another request once the last response was read.
pub(crate) struct Connection {
    origin: Origin,
    sender: SendRequest<Empty<Bytes>>,
    /// Owns the task that drives the connection, so that both go together.
    _driver: JoinSet<()>,
}

/// A request besides its address. `headers` go to the origin of `source` only.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) source: &'a Url,
    pub(crate) headers: &'a SourceHeaders,
    pub(crate) extra: &'a HeaderMap,
}

/// A response, where it came from, and the connection that carries its body.
pub(crate) struct Exchange {
    pub(crate) url: Url,
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Connection,
}

impl Client {
    /// GETs `start` and follows redirects, each checked like the first address. `idle` is tried first.
    pub(crate) async fn follow(
        &self,
        start: &Url,
        ask: Ask<'_>,
        mut idle: Option<Connection>,
    ) -> Result<Exchange, FetchError> {
        let mut url = start.clone();
        for _ in 0..=self.limits.max_redirects {
            let (connection, response) = self.get(&url, ask, idle.take()).await?;
            match redirect(&url, &response)? {
                Some(next) => url = next,
                None => {
                    return Ok(Exchange {
                        url,
                        response,
                        connection,
                    });
                }
            }
        }
        Err(FetchError::Unreachable {
            what: format!("more than {} redirects", self.limits.max_redirects),
        })
    }

    async fn get(
        &self,
        url: &Url,
        ask: Ask<'_>,
        idle: Option<Connection>,
    ) -> Result<(Connection, Response<Incoming>), FetchError> {
        check_url(url)?;
        if let Some(mut kept) = idle.filter(|kept| kept.origin == url.origin()) {
            // The source may close a connection that waits at any time: then a fresh one is made.
            if kept.sender.ready().await.is_ok()
                && let Ok(response) = self.send(&mut kept, request(url, ask)?).await
            {
                return Ok((kept, response));
            }
        }
        let mut connection = self.connect(url).await?;
        let response = self.send(&mut connection, request(url, ask)?).await?;
        Ok((connection, response))
    }

    /// Sends a GET or HEAD that was made and signed elsewhere, to where it says and nowhere else.
    #[cfg(feature = "s3")]
    pub(crate) async fn send_as_is(
        &self,
        mut parts: http::request::Parts,
    ) -> Result<(Connection, Response<Incoming>), FetchError> {
        let invalid = |message: &str| FetchError::Invalid {
            field: "source.uri",
            message: message.to_owned(),
        };
        if !matches!(parts.method, http::Method::GET | http::Method::HEAD) {
            return Err(invalid("objects are only read"));
        }
        let url =
            Url::parse(&parts.uri.to_string()).map_err(|_malformed| invalid("the endpoint is malformed"))?;
        check_url(&url)?;
        if let Some(path) = parts.uri.path_and_query().cloned() {
            parts.uri = path.into();
        }
        if !parts.headers.contains_key(header::HOST) {
            let host = http::HeaderValue::try_from(authority(&url));
            parts.headers.insert(
                header::HOST,
                host.map_err(|_malformed| invalid("the endpoint is malformed"))?,
            );
        }
        let mut connection = self.connect(&url).await?;
        let request = Request::from_parts(parts, Empty::new());
        let response = self.send(&mut connection, request).await?;
        Ok((connection, response))
    }

    async fn connect(&self, url: &Url) -> Result<Connection, FetchError> {
        let Self {
            policy,
            resolver,
            limits,
            tls,
            ..
        } = self;
        let stream = connect(url, policy, &**resolver, tls, limits.connect).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // An error shows up in the response or its body as well, where it is handled.
            connection.await.ok();
        });
        Ok(Connection {
            origin: url.origin(),
            sender,
            _driver: driver,
        })
    }

    async fn send(
        &self,
        connection: &mut Connection,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, FetchError> {
        let answer = connection.sender.send_request(request);
        let answer = patient(self.limits.idle, "waiting for the response", answer).await?;
        answer.map_err(broken)
    }

    /// The next piece of a body; `None` at its end.
    pub(crate) async fn chunk(&self, body: &mut Incoming) -> Result<Option<Bytes>, FetchError> {
        loop {
            let next = patient(self.limits.idle, "waiting for more bytes", body.frame()).await?;
            let Some(frame) = next else { return Ok(None) };
            let frame = frame.map_err(|error| FetchError::Unreachable {
                what: format!("the body ended early ({error})"),
            })?;
            if let Ok(chunk) = frame.into_data() {
                return Ok(Some(chunk));
            }
        }
    }
}

async fn patient<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = T>,
) -> Result<T, FetchError> {
    let late = |_elapsed| FetchError::Timeout { what, limit };
    timeout(limit, work).await.map_err(late)
}

#[expect(clippy::needless_pass_by_value, reason = "used by map_err")]
fn broken(error: hyper::Error) -> FetchError {
    FetchError::Unreachable {
        what: format!("HTTP failed ({error})"),
    }
}

/// What a `Host` header says.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn request(url: &Url, ask: Ask<'_>) -> Result<Request<Empty<Bytes>>, FetchError> {
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = Request::get(path)
        .header(header::HOST, authority(url))
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
    let to_origin = url.origin() == ask.source.origin();
    let own = to_origin.then(|| ask.headers.map()).into_iter().flatten();
    for (name, value) in own.chain(ask.extra) {
        request.headers_mut().insert(name, value.clone());
    }
    Ok(request)
}

/// Where a response sends us, if it does.
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

/// Whether a response to a request for everything has it.
pub(crate) fn check_status(status: StatusCode) -> Result<(), FetchError> {
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
