//! The parent's side: workers that are started ahead, lent to one request at a time, and replaced when they break.

mod lease;
mod process;
mod reader;
mod source;
mod watch;

use std::{ffi::OsString, os::fd::AsFd as _, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use reelsight_decode::{DecodeError, DecodeLimits, DecodeOptions, Input, PacketIndex};
use reelsight_media::CancelFlag;

pub use reader::WorkerReader;

use crate::wire::{IndexOrder, Order, Reply, SelfTestOrder};
use lease::{Lease, Shared};
use source::Opened;
use watch::Watch;

/// Bytes that the index of one packet may take, and of everything else in it.
const INDEX_BYTES: (u64, u64) = (160, 16 << 20);

/// How workers are started and kept.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// What to run; it must call [`crate::run_worker`]. Default: this very program.
    pub program: PathBuf,
    /// Its arguments. Default: `decode-worker`.
    pub arguments: Vec<OsString>,
    /// Additions to its environment, which is empty otherwise but for the library path.
    pub environment: Vec<(OsString, OsString)>,
    /// Workers at a time; more requests wait. Default 4.
    pub workers: usize,
    /// Workers that are kept ready although nobody needs them yet. Default 1.
    pub ready: usize,
    /// How long the others stay when nobody needs them. Default 10 s.
    pub rest: Duration,
    /// Requests after which a worker is replaced. Default 1000.
    pub uses: u64,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            // The program that runs, even when its file was replaced meanwhile.
            program: "/proc/self/exe".into(),
            arguments: vec!["decode-worker".into()],
            environment: Vec::new(),
            workers: 4,
            ready: 1,
            rest: Duration::from_secs(10),
            uses: 1000,
        }
    }
}

/// What the sandbox did about one thing that it should forbid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxCheck {
    /// What is protected, in one word.
    pub what: String,
    /// Whether it is.
    pub holds: bool,
    /// What was tried and what came of it.
    pub detail: String,
}

/// Decodes in worker processes. Cloning is cheap; workers end with the last clone, or with [`WorkerPool::close`].
#[derive(Debug, Clone)]
pub struct WorkerPool(Arc<Keeper>);

/// The thread that starts workers. Every lease holds it, because workers die with the thread that started them.
#[derive(Debug)]
struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been seen by whoever waited for a worker.
            thread.join().ok();
        }
    }
}

impl WorkerPool {
    /// Starts [`WorkerOptions::ready`] workers, without waiting for them.
    ///
    /// # Errors
    /// [`DecodeError::Internal`] when no thread can be started. A worker that cannot be started is told to the request
    /// that waits for it.
    pub fn start(options: WorkerOptions) -> Result<Self, DecodeError> {
        let shared = Arc::new(Shared::new(options));
        let thread = std::thread::Builder::new().name("decode-pool".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.keep()
        });
        let thread = thread.map_err(|error| DecodeError::Internal {
            detail: error.to_string(),
        })?;
        Ok(Self(Arc::new(Keeper {
            shared,
            thread: Some(thread),
        })))
    }

    /// [`reelsight_decode::index`] in a worker.
    ///
    /// # Errors
    /// [`DecodeError`]; what a worker does wrong concerns this request alone.
    ///
    /// # Cancellation
    /// Within 100 ms of the flag being raised.
    pub fn index(
        &self,
        input: &Input,
        limits: &DecodeLimits,
        cancel: &CancelFlag,
    ) -> Result<Arc<PacketIndex>, DecodeError> {
        let (source, descriptor) = Opened::new(input)?;
        let mut watch = Watch::new(limits.max_wall, cancel);
        let mut lease = self.lease(&mut watch)?;
        let process = lease.process();
        let request = process.begin(limits, 1, 0, &mut watch)?;
        let order = IndexOrder {
            request,
            source: source.facts(),
            limits: limits.into(),
        };
        process.tell(Order::Index(order), &[descriptor.as_fd()], &mut watch)?;
        drop(descriptor);
        let (each, rest) = INDEX_BYTES;
        let most = (limits.max_frames as u64)
            .saturating_mul(each)
            .saturating_add(rest);
        let mut encoded = Vec::new();
        loop {
            match lease.process().hear(&mut watch) {
                Ok(Reply::Part(part)) if (encoded.len() + part.len()) as u64 <= most => {
                    encoded.extend_from_slice(&part);
                }
                Ok(Reply::Ended(ended)) if ended.request == request => {
                    if let Some(error) = ended.error {
                        lease.give_back();
                        return Err(source.explain(error.into()));
                    }
                    break;
                }
                Ok(_) => return Err(lease.process().nonsense("it spoke of something else")),
                Err(DecodeError::Cancelled) => {
                    source.stop();
                    lease.settle(request);
                    return Err(DecodeError::Cancelled);
                }
                Err(error) => return Err(error),
            }
        }
        let decoded = PacketIndex::from_bytes(&encoded);
        let index = Arc::new(decoded.map_err(|error| lease.process().nonsense(&error.to_string()))?);
        lease.process().last_index = Arc::downgrade(&index);
        lease.give_back();
        Ok(index)
    }

    /// [`reelsight_decode::read_frames`] in a worker.
    ///
    /// # Errors
    /// [`DecodeError`] when no worker can take the request; what fails later, wrong requests among them, comes out of
    /// the reader.
    ///
    /// # Cancellation
    /// Within 100 ms of the flag being raised or the reader being dropped.
    pub fn read_frames(
        &self,
        input: &Input,
        index: Arc<PacketIndex>,
        frames: Vec<u64>,
        options: &DecodeOptions,
    ) -> Result<WorkerReader, DecodeError> {
        let source = Opened::new(input)?;
        let lease = self.lease(&mut Watch::new(options.limits.max_wall, &options.cancel))?;
        WorkerReader::start(lease, source, index, frames, options)
    }

    /// What workers cannot enforce on this system, in words; empty when the sandbox is whole.
    ///
    /// # Errors
    /// [`DecodeError`] when no worker can be started.
    pub fn sandbox_gaps(&self) -> Result<Vec<String>, DecodeError> {
        let mut watch = Watch::new(DecodeLimits::default().max_wall, &CancelFlag::new());
        let mut lease = self.lease(&mut watch)?;
        let gaps = lease.process().ready(&mut watch)?.missing.clone();
        lease.give_back();
        Ok(gaps)
    }

    /// Lets a worker try what its sandbox forbids. That worker is not used again.
    ///
    /// # Errors
    /// [`DecodeError`] when no worker can be started, or when it dies of it.
    pub fn self_test(&self, limits: &DecodeLimits) -> Result<Vec<SandboxCheck>, DecodeError> {
        let mut watch = Watch::new(limits.max_wall, &CancelFlag::new());
        let mut lease = self.lease(&mut watch)?;
        let process = lease.process();
        let gaps = process.ready(&mut watch)?.missing.clone();
        let request = process.begin(limits, 1, 0, &mut watch)?;
        let order = SelfTestOrder {
            request,
            memory_bytes: limits.max_memory_bytes,
        };
        process.tell(Order::SelfTest(order), &[], &mut watch)?;
        let mut checks: Vec<_> = gaps
            .into_iter()
            .map(|detail| SandboxCheck {
                what: "set-up".to_owned(),
                holds: false,
                detail,
            })
            .collect();
        loop {
            match process.hear(&mut watch)? {
                Reply::Check(check) => checks.push(SandboxCheck {
                    what: check.what,
                    holds: check.holds,
                    detail: check.detail,
                }),
                Reply::Ended(_) => return Ok(checks),
                _ => return Err(process.nonsense("it spoke of something else")),
            }
        }
    }

    /// The processes that wait for requests.
    #[must_use]
    pub fn idle_pids(&self) -> Vec<u32> {
        self.0.shared.idle_pids()
    }

    /// Ends and reaps the workers that wait for requests, and refuses new requests. Running requests go on; their
    /// workers end with them.
    pub fn close(&self) {
        self.0.shared.close();
    }

    fn lease(&self, watch: &mut Watch) -> Result<Lease, DecodeError> {
        let process = self.0.shared.take(watch)?;
        Ok(Lease::new(self.clone(), process))
    }
}
