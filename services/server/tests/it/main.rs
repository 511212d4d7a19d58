//! A real server on a real socket, with a model of random weights: the contract, not the answers.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod ask;
mod bad_input;
mod discovery;
mod limits;
mod operations;
mod sessions;
mod support;
mod uploads;
