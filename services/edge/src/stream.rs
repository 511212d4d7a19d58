//! Response streams whose drop cancels the work behind them.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, Stream};
use tokio::sync::mpsc;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::Status;

use crate::{EdgeError, RequestContext, report};

/// Events that wait for a slow reader.
const DEPTH: usize = 32;
/// How long a reader may take nothing before its work is given up.
const STALL: Duration = Duration::from_secs(30);

/// What a server-streaming RPC returns.
#[derive(Debug)]
pub struct EventStream<T> {
    events: mpsc::Receiver<Result<T, Status>>,
    _cancel: DropGuard,
}

impl<T> Stream for EventStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(cx)
    }
}

/// Where the work puts its events. Cloning is cheap.
#[derive(Debug)]
pub struct EventSink<T> {
    events: mpsc::Sender<Result<T, Status>>,
    cancelled: CancellationToken,
}

impl<T> Clone for EventSink<T> {
    fn clone(&self) -> Self {
        Self {
            events: self.events.clone(),
            cancelled: self.cancelled.clone(),
        }
    }
}

/// Nobody reads the stream, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkClosed {
    /// The reader is gone.
    Gone,
    /// The reader is there and does not read.
    Stalled,
}

impl From<SinkClosed> for EdgeError {
    fn from(closed: SinkClosed) -> Self {
        match closed {
            SinkClosed::Gone => Self::Cancelled,
            SinkClosed::Stalled => Self::ClientTooSlow(STALL),
        }
    }
}

impl<T> EventSink<T> {
    /// Hands over an event; waits while the reader is behind.
    ///
    /// # Errors
    /// [`SinkClosed`].
    pub async fn send(&self, event: T) -> Result<(), SinkClosed> {
        self.send_result(Ok(event)).await
    }

    async fn send_result(&self, event: Result<T, Status>) -> Result<(), SinkClosed> {
        match self.events.send_timeout(event, STALL).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(SinkClosed::Gone),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(SinkClosed::Stalled),
        }
    }

    /// Ends when the reader is gone.
    pub async fn gone(&self) {
        self.cancelled.cancelled().await;
    }
}

/// Runs `work` on a task of `tracker`; what it sends is the stream, and its error is the stream's last item.
/// Dropping the stream drops the work at its next await.
pub fn event_stream<T, F>(
    tracker: &TaskTracker,
    context: RequestContext,
    work: impl FnOnce(EventSink<T>) -> F,
) -> EventStream<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, events) = mpsc::channel(DEPTH);
    let cancelled = CancellationToken::new();
    let sink = EventSink {
        events: sender,
        cancelled: cancelled.clone(),
    };
    let work = AssertUnwindSafe(work(sink.clone())).catch_unwind();
    tracker.spawn(async move {
        let result = tokio::select! {
            result = work => result,
            () = sink.gone() => return,
        };
        let status = match result {
            Ok(Ok(())) => return,
            Ok(Err(status)) => status,
            Err(_panic) => report(&EdgeError::Panicked, &context),
        };
        // A reader that is gone needs no status.
        sink.send_result(Err(status)).await.ok();
    });
    EventStream {
        events,
        _cancel: cancelled.drop_guard(),
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn errors_and_panics_are_the_last_item() {
        let tracker = TaskTracker::new();
        let mut stream = event_stream(&tracker, RequestContext::default(), |sink| async move {
            sink.send(1).await.ok();
            Err(Status::not_found("gone"))
        });
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::NotFound);
        assert!(stream.next().await.is_none());
        let mut stream = event_stream::<i32, _>(&tracker, RequestContext::default(), |_sink| async {
            panic!("a bug")
        });
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Internal);
    }

    #[tokio::test]
    async fn dropping_the_stream_drops_the_work() {
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        let guard = token.clone().drop_guard();
        let stream = event_stream::<i32, _>(&tracker, RequestContext::default(), |_sink| async move {
            let _held = guard;
            std::future::pending().await
        });
        drop(stream);
        tokio::time::timeout(Duration::from_secs(5), token.cancelled())
            .await
            .unwrap();
        tracker.close();
        tracker.wait().await;
    }
}
