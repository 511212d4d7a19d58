//! A URL that is read by ranges.

use std::{ops::Range, path::Path, sync::Arc};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Response, header};
use hyper::body::{Body as _, Incoming};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::{
    BlockSource, FetchError, SourceHeaders,
    blocks::{Arrivals, BlockSetup, RangeReader},
    client::{Ask, Client, Connection, Exchange, check_status},
};

/// Bytes that the first request asks for.
const FIRST_BYTES: u64 = 1 << 20;
/// Connections that wait for the next range.
const MAX_IDLE: usize = 4;

/// An open URL that is read by ranges.
#[derive(Debug, Clone)]
pub struct Ranged {
    /// Its bytes.
    pub bytes: Arc<BlockSource>,
    /// The same for the same version of the same URL.
    pub identity: String,
    /// The server tells versions apart. Without it, a change that keeps length and beginning goes unnoticed.
    pub versioned: bool,
}

/// What a response to the first request is.
pub(crate) enum Answer {
    /// The server sends everything.
    All,
    /// The server sends the range that was asked for.
    Part(Part),
    /// Anything else.
    Other,
}

/// A part of a known whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    start: u64,
    total: u64,
    version: Version,
}

/// How a server names a version of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Version {
    etag: Option<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Version {
    fn of(headers: &HeaderMap) -> Self {
        Self {
            etag: headers.get(header::ETAG).cloned(),
            modified: headers.get(header::LAST_MODIFIED).cloned(),
        }
    }

    fn is_known(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }

    /// What makes the server send a range of this version only. A weak tag may not be used for that.
    ///
    /// # Source
    /// RFC 9110, section 13.1.5.
    fn condition(&self) -> Option<HeaderValue> {
        let strong = self
            .etag
            .as_ref()
            .filter(|etag| !etag.as_bytes().starts_with(b"W/"));
        let date = self.modified.as_ref().filter(|_| self.etag.is_none());
        strong.or(date).cloned()
    }
}

impl Answer {
    pub(crate) fn of(response: &Response<Incoming>) -> Self {
        match response.status().as_u16() {
            206 => Part::of(response)
                .filter(|part| part.start == 0 && part.total > 0)
                .map_or(Self::Other, Self::Part),
            200 => Self::All,
            _ => Self::Other,
        }
    }
}

impl Part {
    fn of(response: &Response<Incoming>) -> Option<Self> {
        let headers = response.headers();
        let (start, total) = content_range(headers.get(header::CONTENT_RANGE)?.to_str().ok()?)?;
        Some(Self {
            start,
            total,
            version: Version::of(headers),
        })
    }
}

/// Start and total of `bytes 0-99/1234`; `None` when the total is not known.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last, total): (u64, u64, u64) = (
        start.trim().parse().ok()?,
        last.trim().parse().ok()?,
        total.trim().parse().ok()?,
    );
    (start <= last && last < total).then_some((start, total))
}

/// The headers of the first request.
pub(crate) fn first_range() -> HeaderMap {
    range_headers(&(0..FIRST_BYTES), None)
}

fn range_headers(range: &Range<u64>, condition: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let text = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(header::RANGE, value);
    }
    if let Some(condition) = condition {
        headers.insert(header::IF_RANGE, condition);
    }
    headers
}

impl Ranged {
    /// Goes on from the first response, whose body is kept.
    pub(crate) async fn begin(
        client: Arc<Client>,
        source: Url,
        headers: SourceHeaders,
        exchange: Exchange,
        part: Part,
        folder: &Path,
    ) -> Result<Self, FetchError> {
        let Part { total, version, .. } = part;
        let versioned = version.is_known();
        let mut identity = Sha256::new();
        identity.update(source.as_str());
        for name in [&version.etag, &version.modified].into_iter().flatten() {
            identity.update(b"\n");
            identity.update(name);
        }
        identity.update(total.to_le_bytes());
        let setup = BlockSetup {
            total,
            max_bytes: client.limits.max_bytes,
            cache_bytes: client.limits.cache_bytes,
            run_time: client.limits.total,
        };
        let idle = Arc::new(Idle::default());
        let reader = HttpRanges {
            client: Arc::clone(&client),
            source,
            headers,
            place: Mutex::new(exchange.url),
            version,
            total,
            idle: Arc::clone(&idle),
        };
        let (mut body, connection) = (exchange.response.into_body(), exchange.connection);
        let bytes = BlockSource::new(Box::new(reader), &setup, folder)?;
        let mut first = bytes.arrivals(0..FIRST_BYTES.min(total));
        while let Some(chunk) = client.chunk(&mut body).await? {
            if !versioned {
                identity.update(&chunk);
            }
            if !first.push(chunk).await? {
                break;
            }
        }
        drop(first);
        idle.put(connection, &body);
        Ok(Self {
            bytes: Arc::new(bytes),
            identity: hex::encode(identity.finalize()),
            versioned,
        })
    }
}

/// Ranges of one version of one URL.
struct HttpRanges {
    client: Arc<Client>,
    source: Url,
    headers: SourceHeaders,
    /// Where redirects led last.
    place: Mutex<Url>,
    version: Version,
    total: u64,
    idle: Arc<Idle>,
}

/// Connections that wait for the next range.
#[derive(Default)]
struct Idle(Mutex<Vec<Connection>>);

impl Idle {
    fn take(&self) -> Option<Connection> {
        self.0.lock().pop()
    }

    /// Keeps a connection whose last body was read to its end.
    fn put(&self, connection: Connection, body: &Incoming) {
        let mut waiting = self.0.lock();
        if body.is_end_stream() && waiting.len() < MAX_IDLE {
            waiting.push(connection);
        }
    }
}

impl RangeReader for HttpRanges {
    fn read<'a>(
        &'a self,
        range: Range<u64>,
        arrivals: &'a mut Arrivals,
    ) -> BoxFuture<'a, Result<(), FetchError>> {
        Box::pin(async move {
            let exchange = self.ask(&range).await?;
            self.check(&exchange, &range)?;
            let (mut body, connection) = (exchange.response.into_body(), exchange.connection);
            while let Some(chunk) = self.client.chunk(&mut body).await? {
                if !arrivals.push(chunk).await? {
                    break;
                }
            }
            self.idle.put(connection, &body);
            Ok(())
        })
    }
}

impl HttpRanges {
    async fn ask(&self, range: &Range<u64>) -> Result<Exchange, FetchError> {
        let extra = range_headers(range, self.version.condition());
        let ask = Ask {
            source: &self.source,
            headers: &self.headers,
            extra: &extra,
        };
        let (place, idle) = (self.place.lock().clone(), self.idle.take());
        let mut exchange = self.client.follow(&place, ask, idle).await?;
        // What redirects lead to may be short-lived.
        if place != self.source && !exchange.response.status().is_success() {
            exchange = self.client.follow(&self.source, ask, None).await?;
        }
        self.place.lock().clone_from(&exchange.url);
        Ok(exchange)
    }

    fn check(&self, exchange: &Exchange, range: &Range<u64>) -> Result<(), FetchError> {
        let status = exchange.response.status();
        let changed = |what: &str| {
            Err(FetchError::Changed {
                what: what.to_owned(),
            })
        };
        match status.as_u16() {
            206 => {}
            200 | 412 | 416 => return changed("it no longer has the range that it had"),
            _ => return check_status(status).and(changed("it no longer answers with ranges")),
        }
        let part = Part::of(&exchange.response);
        match part {
            Some(part) if part.total != self.total => changed("its length is another"),
            Some(part) if part.version != self.version => changed("its version is another"),
            Some(part) if part.start == range.start => Ok(()),
            _ => Err(FetchError::Unreachable {
                what: "it answers with another range than asked for".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_with_care() {
        assert_eq!(content_range("bytes 0-99/1234"), Some((0, 1234)));
        assert_eq!(content_range("bytes 5-5/6"), Some((5, 6)));
        for wrong in [
            "",
            "bytes",
            "bytes */100",
            "bytes 0-99/*",
            "bytes 9-5/10",
            "bytes 0-10/10",
            "items 0-1/5",
            "bytes -1-3/9",
            "bytes 0-99999999999999999999/1",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn weak_tags_are_compared_and_not_sent() {
        let version = |etag: &'static str| Version {
            etag: Some(HeaderValue::from_static(etag)),
            modified: Some(HeaderValue::from_static("Sat, 21 Nov 2026 10:00:00 GMT")),
        };
        assert_eq!(version("\"a\"").condition().unwrap(), "\"a\"");
        assert_eq!(version("W/\"a\"").condition(), None);
        assert_eq!(Version::default().condition(), None);
        assert!(!Version::default().is_known() && version("W/\"a\"").is_known());
    }
}
