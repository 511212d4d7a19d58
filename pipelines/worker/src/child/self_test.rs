//! Tries what the sandbox forbids. Every attempt is harmless where it succeeds.

use std::{
    fs::File,
    io,
    os::fd::{FromRawFd as _, OwnedFd},
    ptr,
};

use crate::wire::Check;

/// One line for each promise of the sandbox; `memory_bytes` is more than may be allocated.
pub(super) fn run(memory_bytes: u64) -> Vec<Check> {
    vec![
        refused("network", "socket()", socket()),
        refused("files", "open()", File::open("/").map(drop)),
        refused("programs", "execve()", execute()),
        refused("processes", "fork()", fork()),
        refused("signals", "kill() of its parent", signal()),
        refused("code", "memory that is writable and executable", executable()),
        refused(
            "memory",
            &format!("an allocation of {memory_bytes} bytes"),
            allocate(memory_bytes),
        ),
        needed(
            "threads",
            "a thread",
            &std::thread::Builder::new().spawn(|| {}).map(drop),
        ),
    ]
}

fn refused(what: &str, attempt: &str, outcome: io::Result<()>) -> Check {
    let (holds, detail) = match outcome {
        Ok(()) => (false, format!("{attempt} succeeds")),
        Err(error) => {
            let allowed = [libc::EPERM, libc::EACCES, libc::ENOMEM].map(Some);
            (
                allowed.contains(&error.raw_os_error()),
                format!("{attempt} fails: {error}"),
            )
        }
    };
    Check {
        what: what.to_owned(),
        holds,
        detail,
    }
}

fn needed(what: &str, attempt: &str, outcome: &io::Result<()>) -> Check {
    let detail = match outcome {
        Ok(()) => format!("{attempt} can be started, as decoding needs"),
        Err(error) => format!("{attempt} cannot be started: {error}"),
    };
    Check {
        what: what.to_owned(),
        holds: outcome.is_ok(),
        detail,
    }
}

/// `Ok` for 0 and above.
fn outcome(returned: i32) -> io::Result<i32> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

#[expect(unsafe_code, reason = "system calls as an attacker would make them")]
fn socket() -> io::Result<()> {
    // SAFETY: no pointers.
    let fd = outcome(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

/// A program that does not exist: a system that would run it says so.
#[expect(unsafe_code, reason = "system calls as an attacker would make them")]
fn execute() -> io::Result<()> {
    let arguments = [ptr::null()];
    // SAFETY: the path is terminated, the lists are empty and end with null.
    outcome(unsafe { libc::execve(c"/nonexistent".as_ptr(), arguments.as_ptr(), arguments.as_ptr()) })
        .map(drop)
}

#[expect(unsafe_code, reason = "system calls as an attacker would make them")]
fn fork() -> io::Result<()> {
    // SAFETY: a child, where there is one, ends at once.
    let child = outcome(unsafe { libc::fork() })?;
    if child == 0 {
        // SAFETY: does not return.
        unsafe { libc::_exit(0) }
    }
    // SAFETY: the child is ours, and nobody wants its status.
    outcome(unsafe { libc::waitpid(child, ptr::null_mut(), 0) }).map(drop)
}

#[expect(unsafe_code, reason = "system calls as an attacker would make them")]
fn signal() -> io::Result<()> {
    // SAFETY: no pointers; signal 0 only asks whether a signal could be sent.
    outcome(unsafe { libc::kill(libc::getppid(), 0) }).map(drop)
}

fn executable() -> io::Result<()> {
    map(4096, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)
}

fn allocate(bytes: u64) -> io::Result<()> {
    map(
        usize::try_from(bytes).unwrap_or(usize::MAX),
        libc::PROT_READ | libc::PROT_WRITE,
    )
}

#[expect(unsafe_code, reason = "system calls as an attacker would make them")]
fn map(bytes: usize, access: i32) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping, which nothing points to.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is the one from above.
    unsafe { libc::munmap(start, bytes) };
    Ok(())
}
