//! Objects of S3 buckets, read by ranges through `object_store` over our own client, so that the URL policy, the checked
//! address and the trusted authorities are the same as for URLs.

mod config;

use std::{
    error::Error as StdError,
    fmt,
    ops::Range,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use object_store::{
    ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
        HttpService,
    },
    path::Path as Key,
};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::{
    BlockSource, FetchError, Ranged,
    blocks::{Arrivals, BlockSetup, RangeReader},
    client::{Client, Connection},
};

pub use config::S3Stores;
use config::Store;

impl Store {
    fn connect(&self, bucket: &str, client: &Arc<Client>) -> object_store::Result<AmazonS3> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&self.region)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .with_virtual_hosted_style_request(false)
            // Runs are tried again by whoever reads them.
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            })
            .with_http_connector(Connector(Arc::clone(client)));
        if let Some(token) = &self.session_token {
            builder = builder.with_token(token);
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_allow_http(self.allow_http).with_endpoint(endpoint);
        }
        builder.build()
    }
}

/// Opens `uri` for reading by ranges.
pub(crate) async fn open(
    client: &Arc<Client>,
    stores: &S3Stores,
    uri: &str,
    folder: &Path,
) -> Result<Ranged, FetchError> {
    let (store, bucket, key) = stores.find(uri)?;
    let store = store
        .connect(&bucket, client)
        .map_err(|error| error_from_store(&error))?;
    let facts = store.head(&key).await.map_err(|error| error_from_store(&error))?;
    let setup = BlockSetup {
        total: facts.size,
        max_bytes: client.limits.max_bytes,
        cache_bytes: client.limits.cache_bytes,
        run_time: client.limits.total,
    };
    let versioned = facts.e_tag.is_some();
    let mut identity = Sha256::new();
    for part in [
        "s3",
        &bucket,
        key.as_ref(),
        facts.e_tag.as_deref().unwrap_or_default(),
    ] {
        identity.update(part);
        identity.update([0]);
    }
    identity.update(facts.size.to_le_bytes());
    let reader = ObjectRanges {
        store,
        key,
        total: facts.size,
        version: facts.e_tag,
        idle: client.limits.idle,
    };
    Ok(Ranged {
        bytes: Arc::new(BlockSource::new(Box::new(reader), &setup, folder)?),
        identity: hex::encode(identity.finalize()),
        versioned,
    })
}

/// Ranges of one version of one object.
struct ObjectRanges {
    store: AmazonS3,
    key: Key,
    total: u64,
    version: Option<String>,
    idle: Duration,
}

impl RangeReader for ObjectRanges {
    fn read<'a>(
        &'a self,
        range: Range<u64>,
        arrivals: &'a mut Arrivals,
    ) -> BoxFuture<'a, Result<(), FetchError>> {
        Box::pin(async move {
            let options = GetOptions {
                range: Some(GetRange::Bounded(range)),
                if_match: self.version.clone(),
                ..GetOptions::default()
            };
            let found = self.store.get_opts(&self.key, options).await;
            let found = found.map_err(|error| error_from_store(&error))?;
            if found.meta.size != self.total || found.meta.e_tag != self.version {
                let what = "its version is another".to_owned();
                return Err(FetchError::Changed { what });
            }
            let mut chunks = found.into_stream();
            loop {
                let (limit, what) = (self.idle, "waiting for more bytes");
                let next = timeout(limit, chunks.next()).await;
                let Some(chunk) = next.map_err(|_elapsed| FetchError::Timeout { what, limit })? else {
                    return Ok(());
                };
                if !arrivals
                    .push(chunk.map_err(|error| error_from_store(&error))?)
                    .await?
                {
                    return Ok(());
                }
            }
        })
    }
}

fn error_from_store(error: &object_store::Error) -> FetchError {
    // What our own client refused comes back as it was.
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(ours) = inner.downcast_ref::<FetchError>() {
            return ours.clone();
        }
        cause = inner.source();
    }
    match error {
        object_store::Error::NotFound { .. } => FetchError::NotThere { status: 404 },
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            FetchError::Auth { status: 403 }
        }
        object_store::Error::Precondition { .. } => FetchError::Changed {
            what: "its version is another".to_owned(),
        },
        _ => FetchError::Unreachable {
            what: "the object store failed".to_owned(),
        },
    }
}

/// Our client for `object_store`.
#[derive(Clone)]
struct Connector(Arc<Client>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Connector {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let (parts, _empty) = request.into_parts();
            let sent = self.0.send_as_is(parts).await;
            let (connection, response) = sent.map_err(refused)?;
            let (parts, body) = response.into_parts();
            let body = Held {
                body,
                _connection: connection,
            };
            Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
        })
    }
}

/// The policy's word is final; anything else may be tried again.
fn refused(error: FetchError) -> HttpError {
    let kind = if error.may_pass() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Unknown
    };
    HttpError::new(kind, error)
}

/// A body and the connection that carries it.
struct Held {
    body: Incoming,
    _connection: Connection,
}

impl Body for Held {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        frame.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
