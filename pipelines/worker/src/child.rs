//! The worker's side.

mod requests;
mod sandbox;
mod self_test;
mod syscalls;

use std::{
    io,
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::ExitCode,
};

use crate::{
    link::{Forever, link},
    wire::{FromWorker, Ready, Reply},
};

/// What `reelsight decode-worker` does: locks itself into the sandbox, then serves requests that come over standard
/// input, a socket, until the other side closes it.
///
/// Meant for a process of its own, as its first act: descriptors that were open before are closed, and the sandbox
/// cannot be left.
#[must_use]
pub fn run_worker() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        // The parent sees the socket's end; nobody else is there to be told.
        Err(_gone) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    let inherited = sandbox::close_inherited();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (sender, receiver) = link(socket)?;
    let sandbox = sandbox::enter(inherited);
    let ready = Ready {
        base_bytes: sandbox.base_bytes,
        missing: sandbox.missing,
    };
    let message = FromWorker {
        reply: Some(Reply::Ready(ready)),
    };
    sender.send(&message, &[], &mut Forever)?;
    requests::serve(&sender, receiver)
}
