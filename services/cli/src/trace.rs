//! `--trace`: what the scheduler did for one ask, in the format of Chrome's trace viewer.

use std::path::Path;

use reelsight_engine::TraceSpan;
use serde_json::{Value, json};

use crate::exit::Failure;

/// Writes `spans` to `path`.
pub(crate) fn write(path: &Path, spans: &[TraceSpan]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::input(
            "TRACE_UNWRITABLE",
            format!("cannot write {}: {error}", path.display()),
        )
    };
    std::fs::write(path, document(spans).to_string()).map_err(failed)
}

/// Complete events (`ph` X), times in microseconds from the submission of the ask.
fn document(spans: &[TraceSpan]) -> Value {
    let micros = |duration: std::time::Duration| duration.as_secs_f64() * 1e6;
    let event = |span: &TraceSpan| {
        json!({
            "name": span.name, "cat": "engine", "ph": "X", "pid": 1, "tid": 1,
            "ts": micros(span.start), "dur": micros(span.duration),
            "args": { "tokens": span.tokens, "batch": span.batch },
        })
    };
    json!({ "displayTimeUnit": "ms", "traceEvents": spans.iter().map(event).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_span_is_a_complete_event() {
        let span = TraceSpan {
            name: "decode",
            start: Duration::from_millis(3),
            duration: Duration::from_micros(250),
            tokens: 1,
            batch: 4,
        };
        let event = &document(&[span])["traceEvents"][0];
        assert_eq!(
            (event["ph"].as_str(), event["name"].as_str()),
            (Some("X"), Some("decode"))
        );
        assert_eq!(
            (event["ts"].as_f64(), event["dur"].as_f64()),
            (Some(3000.0), Some(250.0))
        );
        assert_eq!(event["args"]["batch"], 4);
    }
}
