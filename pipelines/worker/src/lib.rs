//! Decoding in sandboxed processes of our own binary.
//!
//! Untrusted media is decoded where a bug in a decoder can do no harm: in a process that has no network, opens no file,
//! starts no program, has bounded memory and CPU time, and is replaced when it dies. Owns the processes and the border:
//! the worker's side ([`run_worker`], which `reelsight decode-worker` calls) and the parent's side ([`WorkerPool`],
//! which mirrors [`reelsight_decode::index`] and [`reelsight_decode::read_frames`]). Does not own decoding, and does
//! not use FFmpeg itself.
//!
//! ```text
//! WorkerPool -- length-prefixed messages, descriptors --> worker: orders, decode-0, decode-1, ...
//!            <-- "frame 25 lies at 4096" ----------------
//!            ===== sealed memfd: frames, each copied out once =====
//!            <-- "bytes 65536.. of the source" (sources that are no files) --
//! ```
//!
//! Threads: `decode-pool`, one per pool, starts workers; `decode-bytes`, one per running request over
//! [`reelsight_decode::Input::Bytes`], reads for it. Queues: one request per worker; frames in shared memory, bounded by
//! [`reelsight_decode::DecodeOptions::budget_bytes`]. A worker serves requests of one server process and no other.
//!
//! ```no_run
//! use reelsight_decode::{DecodeOptions, Input};
//! use reelsight_media::{CancelFlag, FrameSource as _};
//! use reelsight_worker::{WorkerOptions, WorkerPool};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In a program whose `decode-worker` command calls `run_worker()`.
//! let pool = WorkerPool::start(WorkerOptions::default())?;
//! let (input, options) = (Input::Path("clip.mp4".into()), DecodeOptions::default());
//! let index = pool.index(&input, &options.limits, &CancelFlag::new())?;
//! let mut frames = pool.read_frames(&input, index, vec![0, 25, 50], &options)?;
//! while let Some(frame) = frames.next_frame()? {
//!     assert_eq!(frame.data.len() as u32, frame.width * frame.height * 3);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is easy to get wrong here
//! * A process that asked to die with its parent dies with the parent's *thread*: one thread that lives as long as the
//!   pool starts all workers.
//! * `clone3` hides its flags from filters: it is said not to exist, and C libraries fall back to `clone`.
//! * Descriptors of a shared memory that can shrink let its writer kill its reader (`SIGBUS`): its size is sealed.
//! * A stopped process is not a dead one: nothing here waits without a limit.

mod asked;
mod child;
mod link;
mod memory;
mod pool;
mod wire;

pub use child::run_worker;
pub use pool::{SandboxCheck, WorkerOptions, WorkerPool, WorkerReader};
