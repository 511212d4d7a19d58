//! What a worker gives up before it sees the first byte of a file.

use std::{fs, io};

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use super::syscalls;

/// Descriptors a worker needs: three standard ones, the socket, a source and a few in passing.
const MAX_FILES: u64 = 32;

/// What came of it.
pub(super) struct Sandbox {
    /// Address space in use so far.
    pub(super) base_bytes: u64,
    /// What this system does not allow to be enforced, in words.
    pub(super) missing: Vec<String>,
}

/// Locks the process in, after [`close_inherited`]. What cannot be enforced is told, not fatal: the parent decides.
pub(super) fn enter(inherited: io::Result<()>) -> Sandbox {
    let mut missing = Vec::new();
    let mut note = |what: &str, outcome: io::Result<()>| {
        if let Err(error) = outcome {
            missing.push(format!("{what}: {error}"));
        }
    };
    note("inherits no descriptors", inherited);
    // The socket's end says the same, but only to those who listen.
    note(
        "ends with its parent",
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into),
    );
    for (what, resource, most) in [
        ("leaves no core dump", Resource::Core, 0),
        ("writes no file", Resource::Fsize, 0),
        ("opens few files", Resource::Nofile, MAX_FILES),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        note(what, setrlimit(resource, limit).map_err(Into::into));
    }
    let base_bytes = address_space().unwrap_or(0);
    note(
        "gains no privileges",
        rustix::thread::set_no_new_privs(true).map_err(Into::into),
    );
    note("filters system calls", syscalls::restrict());
    Sandbox { base_bytes, missing }
}

/// Closes everything but the standard descriptors. Before anything else.
#[expect(
    unsafe_code,
    reason = "the standard library cannot close descriptors that it does not own"
)]
pub(super) fn close_inherited() -> io::Result<()> {
    // SAFETY: this runs first in the process; nothing in it owns a descriptor above the standard ones yet, but for the
    // runtime's own, which are never opened at this point.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if closed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Bytes of address space in use.
fn address_space() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let kib: u64 = size.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}
