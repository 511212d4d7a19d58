//! Progress for people: bars on a terminal, nothing in a pipe.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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

/// Prints one JSON document on standard output.
#[expect(clippy::print_stdout, reason = "the document is the command's result")]
pub(crate) fn print_json(value: &serde_json::Value) {
    println!("{value:#}");
}
