//! One worker process, as its parent sees it.

use std::{
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _, process::ExitStatusExt as _},
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::Weak,
    thread,
    time::{Duration, Instant},
};

use reelsight_decode::{DecodeError, DecodeLimits, PacketIndex};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::{
    WorkerOptions,
    watch::{Halt, Watch},
};
use crate::{
    link::{Receiver, Sender, link},
    wire::{Ended, FromWorker, Order, Ready, Reply, ToWorker},
};

/// What the child needs of our environment: where its libraries are.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// How long a process whose socket has ended may take to be gone.
const LAST_MOMENTS: Duration = Duration::from_secs(1);
/// CPU time beyond wall time times threads, for what is rounded.
const CPU_SLACK_SECS: u64 = 2;

/// A running worker. Dropping it kills and reaps it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    sender: Sender,
    receiver: Receiver,
    ready: Option<Ready>,
    /// CPU time that it used, as it said.
    cpu: Duration,
    /// Requests so far; their numbers begin with 1.
    pub(super) requests: u64,
    /// The index that it still has.
    pub(super) last_index: Weak<PacketIndex>,
}

impl Process {
    /// Starts one. It dies with the calling thread.
    pub(super) fn start(options: &WorkerOptions) -> io::Result<Self> {
        let (here, there) = UnixStream::pair()?;
        let mut command = Command::new(&options.program);
        command
            .arg0("reelsight")
            .args(&options.arguments)
            .env_clear()
            .envs(std::env::var_os(LIBRARY_PATH).map(|path| (LIBRARY_PATH, path)))
            // Each arena reserves 64 MiB of the address space that is limited, for a lock less.
            .env("MALLOC_ARENA_MAX", "2")
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            // Ctrl-C in a terminal is meant for us; we tell the worker.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(there)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn()?;
        let (sender, receiver) = link(here)?;
        Ok(Self {
            child,
            sender,
            receiver,
            ready: None,
            cpu: Duration::ZERO,
            requests: 0,
            last_index: Weak::new(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is gone; reaps it then.
    pub(super) fn is_dead(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it said about its sandbox; waits until it is there.
    pub(super) fn ready(&mut self, watch: &mut Watch) -> Result<&Ready, DecodeError> {
        if self.ready.is_none() {
            let Reply::Ready(ready) = self.hear(watch)? else {
                return Err(self.nonsense("it began without a greeting"));
            };
            self.ready = Some(ready);
        }
        self.ready.as_ref().ok_or(DecodeError::Internal {
            detail: "a decode worker is not ready".to_owned(),
        })
    }

    /// Gives the next request its share of memory and CPU time, and its number.
    pub(super) fn begin(
        &mut self,
        limits: &DecodeLimits,
        threads: usize,
        shared_bytes: u64,
        watch: &mut Watch,
    ) -> Result<u64, DecodeError> {
        let base = self.ready(watch)?.base_bytes;
        let memory = base
            .saturating_add(limits.max_memory_bytes)
            .saturating_add(shared_bytes);
        let threads = u64::try_from(threads).unwrap_or(u64::MAX).saturating_add(1);
        let cpu = limits.max_wall.as_secs().saturating_mul(threads);
        let cpu = cpu.saturating_add(self.cpu.as_secs() + CPU_SLACK_SECS);
        for (resource, most) in [(Resource::As, memory), (Resource::Cpu, cpu)] {
            self.limit(resource, most)
                .map_err(|error| DecodeError::Internal {
                    detail: format!("a decode worker cannot be limited: {error}"),
                })?;
        }
        self.requests += 1;
        Ok(self.requests)
    }

    /// Sets a soft limit from outside; the worker itself cannot move it.
    fn limit(&self, resource: Resource, most: u64) -> io::Result<()> {
        let maximum = getrlimit(resource).maximum;
        let limit = Rlimit {
            current: Some(maximum.map_or(most, |maximum| most.min(maximum))),
            maximum,
        };
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        prlimit(Some(pid.ok_or(io::ErrorKind::NotFound)?), resource, limit)?;
        Ok(())
    }

    /// Sends an order with its descriptors.
    pub(super) fn tell(
        &mut self,
        order: Order,
        fds: &[BorrowedFd<'_>],
        watch: &mut Watch,
    ) -> Result<(), DecodeError> {
        let message = ToWorker { order: Some(order) };
        let sent = self.sender.send(&message, fds, watch);
        sent.map_err(|halt| self.explain(halt, watch))
    }

    /// The next thing that it says.
    pub(super) fn hear(&mut self, watch: &mut Watch) -> Result<Reply, DecodeError> {
        match self.receiver.receive::<FromWorker, _>(watch) {
            Ok(Some(FromWorker { reply: Some(reply) })) => {
                if let Reply::Ended(Ended { cpu_nanos, .. }) = reply {
                    self.cpu = self.cpu.max(Duration::from_nanos(cpu_nanos));
                }
                Ok(reply)
            }
            Ok(Some(_)) => Err(self.nonsense("it said nothing")),
            Ok(None) => Err(self.death(watch)),
            Err(halt) => Err(self.explain(halt, watch)),
        }
    }

    /// It broke the rules: whatever it is now, it is no decoder.
    pub(super) fn nonsense(&mut self, what: &str) -> DecodeError {
        self.kill();
        DecodeError::Crashed {
            detail: format!("the decode worker made no sense: {what}"),
        }
    }

    fn explain(&mut self, halt: Halt, watch: &Watch) -> DecodeError {
        match halt {
            Halt::Decode(error) => error,
            Halt::Link(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.nonsense(&error.to_string())
            }
            Halt::Link(_gone) => self.death(watch),
        }
    }

    /// Reaps it and says how it ended.
    fn death(&mut self, watch: &Watch) -> DecodeError {
        let detail = match self.wait_or_kill() {
            Some(status) if status.signal() == Some(libc::SIGXCPU) => {
                return DecodeError::TimedOut { limit: watch.limit() };
            }
            Some(status) => status.to_string(),
            None => "it closed its socket".to_owned(),
        };
        DecodeError::Crashed { detail }
    }

    /// Its exit status, unless it had to be killed.
    fn wait_or_kill(&mut self) -> Option<ExitStatus> {
        let patience = Instant::now() + LAST_MOMENTS;
        while Instant::now() < patience {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => thread::sleep(Duration::from_millis(1)),
                Err(_) => break,
            }
        }
        self.kill();
        None
    }

    fn kill(&mut self) {
        // Both fail only when it is gone and reaped.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
