//! When the scheduler did what for one ask, for a look in a trace viewer.

use std::time::{Duration, Instant};

/// Most spans of one ask; later ones are left out.
const MAX_SPANS: usize = 20_000;

/// One step of an ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSpan {
    /// `queue`, `prefill`, `decode`, `score`, `park` or `resume`.
    pub name: &'static str,
    /// From submission on.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
    /// Tokens of this ask in it.
    pub tokens: usize,
    /// Asks in the same step.
    pub batch: usize,
}

/// Collects the spans of one ask, if anybody wants them.
#[derive(Debug)]
pub(crate) struct Trace {
    since: Instant,
    spans: Option<Vec<TraceSpan>>,
}

impl Trace {
    pub(crate) fn new(wanted: bool, since: Instant) -> Self {
        Self {
            since,
            spans: wanted.then(Vec::new),
        }
    }

    /// A step that began at `begun` and ends now.
    pub(crate) fn span(&mut self, name: &'static str, begun: Instant, tokens: usize, batch: usize) {
        let since = self.since;
        if let Some(spans) = self.spans.as_mut().filter(|spans| spans.len() < MAX_SPANS) {
            spans.push(TraceSpan {
                name,
                start: begun.saturating_duration_since(since),
                duration: begun.elapsed(),
                tokens,
                batch,
            });
        }
    }

    pub(crate) fn take(&mut self) -> Vec<TraceSpan> {
        self.spans.take().unwrap_or_default()
    }
}
