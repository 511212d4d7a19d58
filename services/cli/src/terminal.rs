//! Progress for people: bars on a terminal, nothing in a pipe.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reelsight_media::CancelFlag;

use crate::exit::Failure;

/// A bar on standard error; hidden when that is not a terminal or when the output is for machines.
pub(crate) fn progress(len: u64, json: bool) -> ProgressBar {
    let target = if json || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let bar = ProgressBar::with_draw_target(Some(len), target);
    if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:32} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// Prints one JSON document on standard output. Nobody is told when nobody reads it.
pub(crate) fn print_json(value: &serde_json::Value) {
    print_line(&format!("{value:#}")).ok();
}

/// Prints one line on standard output.
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(Failure::from_stdout)
}

/// A flag that Ctrl-C raises, so that work stops in order and leaves no half-written files. Without the signal handler,
/// Ctrl-C ends the process at once.
pub(crate) fn cancel_on_interrupt() -> CancelFlag {
    let cancel = CancelFlag::new();
    let raised = cancel.clone();
    let wait = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            raised.cancel();
        }
    };
    // A thread that cannot be started leaves the signal as it was.
    std::thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(wait)
        .ok();
    cancel
}
