//! One GET into a file, or the first of many for ranges of it.

use std::{path::Path, sync::Arc, time::Duration};

use http::{HeaderMap, header};
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;
use url::Url;

use crate::{
    FetchError, Fetched, Resolver, SourceHeaders, SystemResolver, UrlPolicy,
    client::{Ask, Client, Exchange, check_status},
    connect::{check_url, tls_config},
    http_ranges::{self, Ranged},
    sink::Sink,
};

/// What one fetch may cost.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    /// Bytes taken from one source. Default 4 GiB.
    pub max_bytes: u64,
    /// Name, TCP and TLS together. Default 10 s.
    pub connect: Duration,
    /// Silence of the source. Default 20 s.
    pub idle: Duration,
    /// A whole download, or one run of ranges. Default 10 minutes.
    pub total: Duration,
    /// Redirects. Default 5.
    pub max_redirects: usize,
    /// Room on disk for the parts of a source that is read by ranges. Default 1 GiB.
    pub cache_bytes: u64,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_bytes: 4 << 30,
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            total: Duration::from_mins(10),
            max_redirects: 5,
            cache_bytes: 1 << 30,
        }
    }
}

/// What S3 URIs begin with.
#[cfg(feature = "s3")]
const S3: &str = "s3://";

/// A source that answers.
#[derive(Debug)]
pub enum Remote {
    /// All of it is here: it is small, or its server knows no ranges.
    Whole(Fetched),
    /// It is read as needed.
    Ranged(Ranged),
}

/// Fetches URLs. Cloning is cheap.
#[derive(Clone)]
pub struct Fetcher(Arc<Client>);

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher")
            .field("policy", &self.0.policy)
            .field("limits", &self.0.limits)
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    /// With the system's resolver and the web's certificate authorities.
    #[must_use]
    pub fn new(policy: UrlPolicy, limits: FetchLimits) -> Self {
        Self::with(policy, limits, Arc::new(SystemResolver), &[])
    }

    /// With another resolver, and with `authorities` that are trusted beside the web's.
    #[must_use]
    pub fn with(
        policy: UrlPolicy,
        limits: FetchLimits,
        resolver: Arc<dyn Resolver>,
        authorities: &[CertificateDer<'static>],
    ) -> Self {
        Self(Arc::new(Client {
            policy,
            resolver,
            limits,
            tls: tls_config(authorities),
            #[cfg(feature = "s3")]
            stores: crate::S3Stores::default(),
        }))
    }

    /// Also opens `s3://BUCKET/KEY` for the buckets of `stores`.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn with_s3(self, stores: crate::S3Stores) -> Self {
        let client = Client::clone(&self.0);
        Self(Arc::new(Client { stores, ..client }))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0
    }

    /// Checks a URL without touching the network.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] or [`FetchError::Blocked`].
    pub fn check(&self, uri: &str) -> Result<(), FetchError> {
        #[cfg(feature = "s3")]
        if uri.starts_with(S3) {
            return self.0.stores.check(uri);
        }
        parse(uri).map(drop)
    }

    /// Fetches all of `uri` into a new file in `folder`. `headers` go to the origin of `uri` only.
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
        let source = parse(uri)?;
        self.in_time(self.download(&source, headers, folder)).await
    }

    /// Opens `uri` for reading by ranges, with the parts that were read kept in a nameless file in `folder`; where the
    /// server knows no ranges, or the source is small, fetches all of it.
    ///
    /// # Errors
    /// [`FetchError`].
    ///
    /// # Cancellation
    /// Dropping the future closes the connection.
    pub async fn open(
        &self,
        uri: &str,
        headers: &SourceHeaders,
        folder: &Path,
    ) -> Result<Remote, FetchError> {
        #[cfg(feature = "s3")]
        if uri.starts_with(S3) {
            if !headers.is_empty() {
                return Err(FetchError::Invalid {
                    field: "source.request_headers",
                    message: "headers are for http and https URLs only".to_owned(),
                });
            }
            let opening = crate::s3::open(&self.0, &self.0.stores, uri, folder);
            return self.in_time(opening).await.map(Remote::Ranged);
        }
        let source = parse(uri)?;
        self.in_time(async {
            let extra = http_ranges::first_range();
            let ask = Ask {
                source: &source,
                headers,
                extra: &extra,
            };
            let exchange = self.0.follow(&source, ask, None).await?;
            match http_ranges::Answer::of(&exchange.response) {
                http_ranges::Answer::All => self.store(exchange, folder).await.map(Remote::Whole),
                http_ranges::Answer::Part(part) => {
                    let client = Arc::clone(&self.0);
                    Ranged::begin(client, source, headers.clone(), exchange, part, folder)
                        .await
                        .map(Remote::Ranged)
                }
                // Such as 416 for a file without bytes, or a part of unknown length.
                http_ranges::Answer::Other => {
                    drop(exchange);
                    self.download(&source, headers, folder).await.map(Remote::Whole)
                }
            }
        })
        .await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, FetchError>>) -> Result<T, FetchError> {
        let limit = self.0.limits.total;
        let what = "fetching";
        timeout(limit, work)
            .await
            .unwrap_or(Err(FetchError::Timeout { what, limit }))
    }

    async fn download(
        &self,
        source: &Url,
        headers: &SourceHeaders,
        folder: &Path,
    ) -> Result<Fetched, FetchError> {
        let extra = &HeaderMap::new();
        let ask = Ask {
            source,
            headers,
            extra,
        };
        let exchange = self.0.follow(source, ask, None).await?;
        check_status(exchange.response.status())?;
        self.store(exchange, folder).await
    }

    async fn store(&self, exchange: Exchange, folder: &Path) -> Result<Fetched, FetchError> {
        let limit = self.0.limits.max_bytes;
        let too_large = FetchError::TooLarge { limit };
        let announced = exchange
            .response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > limit) {
            return Err(too_large);
        }
        let sink = Sink::start(folder)?;
        // The connection must live as long as its body.
        let (mut body, _connection) = (exchange.response.into_body(), exchange.connection);
        let mut received = 0;
        while let Some(chunk) = self.0.chunk(&mut body).await? {
            received += chunk.len() as u64;
            if received > limit {
                return Err(too_large);
            }
            if !sink.push(chunk).await {
                break;
            }
        }
        sink.finish().await
    }
}

pub(crate) fn parse(uri: &str) -> Result<Url, FetchError> {
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
