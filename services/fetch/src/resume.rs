//! Large files that arrive in several attempts.

use std::path::Path;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::{
    fs::{File, OpenOptions},
    io::AsyncWriteExt as _,
};
use url::Url;

use crate::{
    FetchError, Fetcher, SourceHeaders,
    client::{Ask, Exchange, check_status},
    fetcher::parse,
};

/// Attempts in a row that bring nothing new before the fetch is given up.
const ATTEMPTS: usize = 3;

impl Fetcher {
    /// Adds to the file `part` what it lacks of `uri`, whose content must not change between attempts: name a version
    /// in it. A server that knows no ranges sends everything again. `seen` is told how many bytes are there. Gives
    /// their number.
    ///
    /// # Errors
    /// [`FetchError`]; what has arrived stays in `part` for the next attempt.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection and keeps `part`.
    pub async fn resume(
        &self,
        uri: &str,
        headers: &SourceHeaders,
        part: &Path,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<u64, FetchError> {
        let source = parse(uri)?;
        let options = OpenOptions::new().create(true).append(true).clone();
        let mut file = options.open(part).await.map_err(disk)?;
        let mut have = file.metadata().await.map_err(disk)?.len();
        let mut attempts = 0;
        loop {
            let before = have;
            match self.attempt(&source, headers, &mut file, &mut have, seen).await {
                Err(error) if error.may_pass() => {
                    attempts = if have > before { 1 } else { attempts + 1 };
                    if attempts >= ATTEMPTS {
                        return Err(error);
                    }
                }
                other => {
                    file.sync_all().await.map_err(disk)?;
                    return other.map(|()| have);
                }
            }
        }
    }

    async fn attempt(
        &self,
        source: &Url,
        headers: &SourceHeaders,
        file: &mut File,
        have: &mut u64,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<(), FetchError> {
        let mut extra = HeaderMap::new();
        if *have > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={have}-"))
        {
            extra.insert(header::RANGE, range);
        }
        let ask = Ask {
            source,
            headers,
            extra: &extra,
        };
        let exchange = self.client().follow(source, ask, None).await?;
        match exchange.response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&exchange) == Some(*have) => {}
            // Nothing comes after what is there.
            StatusCode::RANGE_NOT_SATISFIABLE if total(&exchange) == Some(*have) => return Ok(()),
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                file.set_len(0).await.map_err(disk)?;
                *have = 0;
                return Err(FetchError::Unreachable {
                    what: "it answers with another range than was asked for".into(),
                });
            }
            status => {
                check_status(status)?;
                file.set_len(0).await.map_err(disk)?;
                *have = 0;
            }
        }
        // The connection must live as long as its body.
        let (mut body, _connection) = (exchange.response.into_body(), exchange.connection);
        seen(*have);
        while let Some(chunk) = self.client().chunk(&mut body).await? {
            file.write_all(&chunk).await.map_err(disk)?;
            *have += chunk.len() as u64;
            seen(*have);
        }
        file.flush().await.map_err(disk)
    }
}

fn content_range(exchange: &Exchange) -> Option<&str> {
    let range = exchange.response.headers().get(header::CONTENT_RANGE)?;
    range.to_str().ok()?.strip_prefix("bytes ")
}

fn begins_at(exchange: &Exchange) -> Option<u64> {
    content_range(exchange)?.split_once('-')?.0.trim().parse().ok()
}

fn total(exchange: &Exchange) -> Option<u64> {
    content_range(exchange)?.split_once('/')?.1.trim().parse().ok()
}

#[expect(clippy::needless_pass_by_value, reason = "used by map_err")]
fn disk(error: std::io::Error) -> FetchError {
    FetchError::Disk {
        what: error.to_string(),
    }
}
