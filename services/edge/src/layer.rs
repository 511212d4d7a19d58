//! The layer in front of all services of a listener.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{EdgeError, RequestContext, report};

/// What the edge enforces.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// Requests that run at the same time, response streams included.
    pub max_requests: usize,
    /// Raised when the server shuts down: new requests are refused.
    pub draining: CancellationToken,
}

/// Request ids, deadlines, admission and panics.
#[derive(Debug, Clone)]
pub struct EdgeLayer {
    config: EdgeConfig,
    permits: Arc<Semaphore>,
}

impl EdgeLayer {
    /// A layer with its own permits; its clones share them.
    #[must_use]
    pub fn new(config: EdgeConfig) -> Self {
        let permits = Arc::new(Semaphore::new(config.max_requests.min(Semaphore::MAX_PERMITS)));
        Self { config, permits }
    }
}

impl<S> Layer<S> for EdgeLayer {
    type Service = EdgeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        EdgeService {
            inner,
            edge: self.clone(),
        }
    }
}

/// A service behind an [`EdgeLayer`].
#[derive(Debug, Clone)]
pub struct EdgeService<S> {
    inner: S,
    edge: EdgeLayer,
}

impl<S> Service<Request<Body>> for EdgeService<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The clone takes the place of the service that was polled ready.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let edge = self.edge.clone();
        Box::pin(async move {
            let (context, timeout) = RequestContext::from_headers(request.headers());
            let refused = |error: EdgeError| Ok(stamped(report(&error, &context).into_http(), &context));
            if let Err(error) = timeout {
                return refused(error);
            }
            // Whoever asks whether the server is well must get an answer when it is not.
            let is_probe = request.uri().path().starts_with("/grpc.");
            if edge.config.draining.is_cancelled() && !is_probe {
                return refused(EdgeError::Draining);
            }
            let permit = match Arc::clone(&edge.permits).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_full) if is_probe => None,
                Err(_full) => {
                    return refused(EdgeError::Overloaded {
                        limit: edge.config.max_requests,
                    });
                }
            };
            request.extensions_mut().insert(context.clone());
            let work = AssertUnwindSafe(inner.call(request)).catch_unwind();
            let response = tokio::select! {
                biased;
                result = work => match result {
                    Ok(response) => response?,
                    Err(_panic) => return refused(EdgeError::Panicked),
                },
                () = context.late() => return refused(EdgeError::DeadlineExceeded { started: true }),
            };
            if let Some(error) = stack_error(&response) {
                return refused(error);
            }
            // The permit lives as long as the body, which for a stream is the whole work.
            let response = response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _held = &permit;
                    frame
                }))
            });
            Ok(stamped(response, &context))
        })
    }
}

/// What the gRPC stack itself refused before a service saw it, which therefore has no details yet.
fn stack_error(response: &Response<Body>) -> Option<EdgeError> {
    let status = Status::from_header_map(response.headers())?;
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::OutOfRange => Some(EdgeError::MessageTooLarge),
        Code::Internal => Some(EdgeError::MessageMalformed),
        Code::Unimplemented => Some(EdgeError::UnknownMethod),
        _ => None,
    }
}

/// With the request's id in the headers.
fn stamped(mut response: Response<Body>, context: &RequestContext) -> Response<Body> {
    if let Ok(id) = HeaderValue::from_str(context.request_id()) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use tonic_types::StatusExt as _;
    use tower::service_fn;

    use super::*;

    fn config(max_requests: usize) -> EdgeConfig {
        EdgeConfig {
            max_requests,
            draining: CancellationToken::new(),
        }
    }

    fn request(timeout: Option<&str>) -> Request<Body> {
        let mut request = Request::new(Body::default());
        if let Some(timeout) = timeout {
            request
                .headers_mut()
                .insert("grpc-timeout", timeout.parse().unwrap());
        }
        request
    }

    fn status(response: &Response<Body>) -> Status {
        Status::from_header_map(response.headers()).expect("a status in the headers")
    }

    async fn slow(_request: Request<Body>) -> Result<Response<Body>, Infallible> {
        tokio::time::sleep(Duration::from_mins(1)).await;
        Ok(Response::new(Body::default()))
    }

    #[tokio::test]
    async fn the_deadline_is_ours() {
        let mut service = EdgeLayer::new(config(1)).layer(service_fn(slow));
        let late = status(&service.call(request(Some("50m"))).await.unwrap());
        assert_eq!(late.code(), Code::DeadlineExceeded);
        assert_eq!(late.get_details_error_info().unwrap().reason, "DEADLINE_EXCEEDED");
        let bad = status(&service.call(request(Some("soon"))).await.unwrap());
        assert_eq!(bad.code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn permits_are_held_by_the_body_and_surplus_is_told_when_to_return() {
        let answer = service_fn(|_request| async {
            Ok::<_, Infallible>(Response::new(Body::new("not read yet".to_owned())))
        });
        let mut service = EdgeLayer::new(config(1)).layer(answer);
        let first = service.call(request(None)).await.unwrap();
        assert!(first.headers().contains_key("x-request-id"));
        let refused = status(&service.call(request(None)).await.unwrap());
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.get_details_retry_info().is_some() && refused.get_details_quota_failure().is_some());
        drop(first);
        assert!(Status::from_header_map(service.call(request(None)).await.unwrap().headers()).is_none());
    }

    async fn broken(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        assert!(request.headers().contains_key("never sent"), "a bug");
        Ok(Response::new(Body::default()))
    }

    #[tokio::test]
    async fn panics_become_internal_and_draining_becomes_unavailable() {
        let edge = config(4);
        let mut service = EdgeLayer::new(edge.clone()).layer(service_fn(broken));
        let status_of_panic = status(&service.call(request(None)).await.unwrap());
        assert_eq!(status_of_panic.code(), Code::Internal);
        edge.draining.cancel();
        assert_eq!(
            status(&service.call(request(None)).await.unwrap()).code(),
            Code::Unavailable
        );
    }
}
