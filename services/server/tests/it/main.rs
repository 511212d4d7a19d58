//! A real server on a real socket, with a model of random weights: the contract, not the answers.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod ask;
mod bad_input;
mod decoders;
mod discovery;
mod forms;
mod limits;
mod operations;
mod sessions;
mod support;
mod uploads;

/// No test: what this program does when a server starts it as its decode worker.
#[test]
fn decode_worker() {
    if std::env::var_os(support::AS_WORKER).is_some() {
        assert_eq!(reelsight_worker::run_worker(), std::process::ExitCode::SUCCESS);
    }
}
