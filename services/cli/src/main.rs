//! `reelsight`: the one binary. Each command is a thin shell over a library crate; see `reelsight help`.
//!
//! Exit codes: 0 success, 1 internal failure, 2 wrong usage, 3 the input cannot be used (file, question, model name),
//! 4 busy or unreachable (trying again may help), 5 something is not installed, 130 interrupted.

mod args;
mod ask;
mod client;
mod doctor;
mod exit;
mod frames;
mod models;
mod probe;
mod serve;
mod source;
mod terminal;
mod trace;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return misused(&error),
    };
    if let Command::DecodeWorker = args.command {
        return reelsight_worker::run_worker();
    }
    init_tracing(&args.log);
    let json = args.command.wants_json();
    let result = match args.command {
        Command::Serve(serve) => serve::run(serve),
        Command::Ask(ask) => ask::run(&ask),
        Command::Frames(frames) => frames::run(&frames),
        Command::Probe(probe) => probe::run(&probe),
        Command::Models(models) => models::run(&models),
        Command::Doctor(doctor) => doctor::run(&doctor),
        Command::DecodeWorker => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// Help and versions are answers; anything else is wrong usage, told as JSON too when that was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    // Nobody can be told when standard error is closed.
    error.print().ok();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|arg| arg == "--json" || arg == "--jsonl") {
        let text = error.to_string();
        let message = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let document = serde_json::json!({"error": {"reason": "INVALID_USAGE", "message": message}});
        terminal::print_line(&document.to_string()).ok();
    }
    ExitCode::from(2)
}

/// Logs go to standard error, so that standard output holds the answer alone.
fn init_tracing(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_invalid| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}
