//! What the edge knows about a request.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::EdgeError;

const REQUEST_ID: &str = "x-request-id";
const LONGEST_ID: usize = 128;

/// Id and deadline of a request; found in its extensions.
#[derive(Debug, Clone)]
pub struct RequestContext {
    request_id: String,
    deadline: Option<Instant>,
}

impl Default for RequestContext {
    /// A new id and no deadline.
    fn default() -> Self {
        Self {
            request_id: uuid::Uuid::new_v4().to_string(),
            deadline: None,
        }
    }
}

impl RequestContext {
    /// From the headers of a call: the caller's `x-request-id` when it is printable and short, a new id otherwise.
    pub(crate) fn from_headers(headers: &HeaderMap) -> (Self, Result<(), EdgeError>) {
        let mut context = Self::default();
        let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        if let Some(id) = sent.filter(|id| is_valid_id(id)) {
            id.clone_into(&mut context.request_id);
        }
        let Some(value) = headers.get("grpc-timeout") else {
            return (context, Ok(()));
        };
        match value.to_str().ok().and_then(parse_grpc_timeout) {
            Some(timeout) => {
                // A little early, so that the status is ours: the HTTP stack below would say CANCELLED.
                let margin = (timeout / 10).min(Duration::from_millis(5));
                context.deadline = Instant::now().checked_add(timeout.saturating_sub(margin));
                (context, Ok(()))
            }
            None => (context, Err(EdgeError::BadTimeout)),
        }
    }

    /// The context that the edge left in `request`; a fresh one when there was no edge.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// The same deadline under the id that the caller gave in the request's body.
    #[must_use]
    pub fn with_request_id(mut self, id: &str) -> Self {
        if !id.is_empty() {
            id.clone_into(&mut self.request_id);
        }
        self
    }

    /// The same id with a deadline `timeout` from now.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Instant::now().checked_add(timeout);
        self
    }

    /// For logs and `RequestInfo`.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// When the answer is no longer wanted.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the answer is no longer wanted.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Sleeps until the deadline; for ever when there is none.
    pub async fn late(&self) {
        match self.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}

fn is_valid_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Parses the value of `grpc-timeout`: at most eight digits and a unit.
#[must_use]
pub fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_follow_the_grpc_specification() {
        assert_eq!(parse_grpc_timeout("1H"), Some(Duration::from_hours(1)));
        assert_eq!(
            parse_grpc_timeout("99999999n"),
            Some(Duration::from_nanos(99_999_999))
        );
        assert_eq!(parse_grpc_timeout("0u"), Some(Duration::ZERO));
        for bad in ["", "S", "1", "-1S", "123456789S", "1s", "1 S", "1é", "+1S"] {
            assert_eq!(parse_grpc_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn strange_request_ids_are_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, "abc-1".parse().unwrap());
        assert_eq!(RequestContext::from_headers(&headers).0.request_id(), "abc-1");
        headers.insert(REQUEST_ID, "a b".parse().unwrap());
        assert_ne!(RequestContext::from_headers(&headers).0.request_id(), "a b");
        headers.insert("grpc-timeout", "1x".parse().unwrap());
        assert_eq!(
            RequestContext::from_headers(&headers).1,
            Err(EdgeError::BadTimeout)
        );
    }
}
