//! Real workers, real files, real faults.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

#[path = "worker/faults.rs"]
mod faults;
#[path = "worker/same.rs"]
mod same;
#[path = "worker/sandbox.rs"]
mod sandbox;
#[path = "worker/support.rs"]
mod support;

/// No test: what this program does when a pool starts it as its worker.
#[test]
fn decode_worker() {
    if std::env::var_os(support::AS_WORKER).is_some() {
        let code = reelsight_worker::run_worker();
        assert_eq!(code, std::process::ExitCode::SUCCESS);
    }
}
