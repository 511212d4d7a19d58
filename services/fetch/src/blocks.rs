//! Bytes that are read by ranges: blocks of a fixed size, kept in a nameless file of bounded size.
//!
//! Whoever misses a block orders a run of blocks, which doubles while reading goes straight on; everybody waits for
//! arriving blocks, with an eye on their cancel flag. Runs are tasks that end with the source.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use parking_lot::{Condvar, Mutex, MutexGuard};
use reelsight_media::{ByteSource, CancelFlag, ReadFailure, cancelled};
use reelsight_proto::status::ServiceError as _;
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

use crate::FetchError;

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 256 << 10;
/// Longest run, in blocks.
const MAX_RUN: u64 = 16;
/// Readers whose progress is remembered: each decoder of one source is one.
const STREAMS: usize = 16;
/// Times that a run is tried again without having got anything.
const RETRIES: u32 = 3;
/// Wait before the first of them; doubles.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// How often a waiting reader looks at its cancel flag.
const POLL: Duration = Duration::from_millis(20);

/// Reads ranges of one unchanging object.
pub(crate) trait RangeReader: Send + Sync {
    /// Gives the bytes of `range` to `arrivals`, in order. Ending early is allowed; the rest is asked for again.
    fn read<'a>(
        &'a self,
        range: Range<u64>,
        arrivals: &'a mut Arrivals,
    ) -> BoxFuture<'a, Result<(), FetchError>>;
}

/// Bounds of a source.
pub(crate) struct BlockSetup {
    /// Bytes of the object.
    pub(crate) total: u64,
    /// Bytes that may be taken from it.
    pub(crate) max_bytes: u64,
    /// Bytes that are kept.
    pub(crate) cache_bytes: u64,
    /// Longest time for one run.
    pub(crate) run_time: Duration,
}

/// A [`ByteSource`] over ranges. Make it and use it while the tokio runtime that it was made on runs; read from
/// threads that may block.
pub struct BlockSource {
    shared: Arc<Shared>,
    runs: Mutex<JoinSet<()>>,
    runtime: Handle,
}

struct Shared {
    reader: Box<dyn RangeReader>,
    total: u64,
    max_bytes: u64,
    run_time: Duration,
    /// Blocks that may be kept.
    capacity: usize,
    file: File,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    /// Block to where it lies in the file and when it was used last.
    kept: HashMap<u64, (usize, u64)>,
    clock: u64,
    /// Ordered and not yet here.
    ordered: HashSet<u64>,
    /// For each stream of reads: the block after its last run, and that run's length.
    streams: Vec<(u64, u64)>,
    failure: Option<FetchError>,
    /// Bytes taken from the source.
    taken: u64,
}

impl std::fmt::Debug for BlockSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockSource")
            .field("total", &self.shared.total)
            .field("taken", &self.bytes_taken())
            .finish_non_exhaustive()
    }
}

impl BlockSource {
    /// Over `reader`, with a nameless file in `folder`.
    pub(crate) fn new(
        reader: Box<dyn RangeReader>,
        setup: &BlockSetup,
        folder: &Path,
    ) -> Result<Self, FetchError> {
        let file = tempfile::tempfile_in(folder).map_err(disk)?;
        let capacity = usize::try_from(setup.cache_bytes / BLOCK).unwrap_or(usize::MAX);
        let shared = Shared {
            reader,
            total: setup.total,
            max_bytes: setup.max_bytes,
            run_time: setup.run_time,
            // A run must fit, and the blocks that others wait for.
            capacity: capacity.max(4 * usize::try_from(MAX_RUN).unwrap_or(16)),
            file,
            state: Mutex::default(),
            arrived: Condvar::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            runs: Mutex::default(),
            runtime: Handle::current(),
        })
    }

    /// Where bytes of `range`, which begins with a block, are given.
    pub(crate) fn arrivals(&self, range: Range<u64>) -> Arrivals {
        Arrivals::new(Arc::clone(&self.shared), range)
    }

    /// Bytes taken from the source so far.
    #[must_use]
    pub fn bytes_taken(&self) -> u64 {
        self.shared.state.lock().taken
    }

    /// Orders a run that begins with `block`.
    fn order(&self, state: &mut State, block: u64) {
        let known = state.streams.iter().position(|(next, _)| *next == block);
        let length = known.map_or(1, |at| (state.streams.remove(at).1 * 2).min(MAX_RUN));
        let last = (block + length).min(self.shared.total.div_ceil(BLOCK));
        let new = |state: &State, at: u64| !state.kept.contains_key(&at) && !state.ordered.contains(&at);
        let end = (block..last).find(|&at| !new(state, at)).unwrap_or(last);
        state.streams.push((end, end - block));
        if state.streams.len() > STREAMS {
            state.streams.remove(0);
        }
        state.ordered.extend(block..end);
        let mut runs = self.runs.lock();
        while runs.try_join_next().is_some() {}
        let ordered = Ordered {
            shared: Arc::clone(&self.shared),
            blocks: block..end,
        };
        runs.spawn_on(run(ordered), &self.runtime);
    }
}

impl ByteSource for BlockSource {
    fn read_at(&self, offset: u64, buffer: &mut [u8], cancel: &CancelFlag) -> io::Result<usize> {
        let Shared { total, file, .. } = &*self.shared;
        if offset >= *total || buffer.is_empty() {
            return Ok(0);
        }
        let (block, within) = (offset / BLOCK, offset % BLOCK);
        let rest = (BLOCK - within).min(total - offset);
        let count = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let mut state = self.shared.state.lock();
        loop {
            if cancel.is_cancelled() {
                return Err(cancelled());
            }
            if let Some(slot) = state.touch(block) {
                // The lock is held, so that nobody puts another block there.
                file.read_exact_at(&mut buffer[..count], slot as u64 * BLOCK + within)?;
                return Ok(count);
            }
            if let Some(failure) = &state.failure {
                return Err(error_from_fetch(failure));
            }
            if !state.ordered.contains(&block) {
                self.order(&mut state, block);
            }
            self.shared.arrived.wait_for(&mut state, POLL);
        }
    }

    fn len(&self) -> io::Result<Option<u64>> {
        Ok(Some(self.shared.total))
    }

    fn is_remote(&self) -> bool {
        true
    }
}

/// For readers that know no [`FetchError`].
fn error_from_fetch(error: &FetchError) -> io::Error {
    io::Error::other(ReadFailure {
        reason: error.reason(),
        message: error.to_string(),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "used by map_err")]
fn disk(error: io::Error) -> FetchError {
    FetchError::Disk {
        what: error.to_string(),
    }
}

impl State {
    fn touch(&mut self, block: u64) -> Option<usize> {
        self.clock += 1;
        let now = self.clock;
        let (slot, used) = self.kept.get_mut(&block)?;
        *used = now;
        Some(*slot)
    }

    /// A place for another block: a new one while there is room, then that of the block unused for longest.
    fn slot(&mut self, capacity: usize) -> usize {
        if self.kept.len() < capacity {
            return self.kept.len();
        }
        let oldest = self
            .kept
            .iter()
            .min_by_key(|(_, (_, used))| *used)
            .map(|(block, _)| *block);
        oldest
            .and_then(|block| self.kept.remove(&block))
            .map_or(0, |(slot, _)| slot)
    }
}

impl Shared {
    /// Keeps a block and wakes whoever waits for it. Blocks.
    fn keep(&self, block: u64, bytes: &[u8]) -> Result<(), FetchError> {
        let mut state = self.state.lock();
        if !state.kept.contains_key(&block) {
            let slot = state.slot(self.capacity);
            self.file.write_all_at(bytes, slot as u64 * BLOCK).map_err(disk)?;
            state.clock += 1;
            let now = state.clock;
            state.kept.insert(block, (slot, now));
        }
        self.done(state, block..block + 1);
        Ok(())
    }

    fn done(&self, mut state: MutexGuard<'_, State>, blocks: Range<u64>) {
        for block in blocks {
            state.ordered.remove(&block);
        }
        self.arrived.notify_all();
    }

    fn fail(&self, error: FetchError) {
        self.state.lock().failure.get_or_insert(error);
        self.arrived.notify_all();
    }
}

/// Cuts what arrives into blocks.
pub(crate) struct Arrivals {
    shared: Arc<Shared>,
    /// Where the next byte belongs.
    at: u64,
    end: u64,
    partial: BytesMut,
}

impl Arrivals {
    fn new(shared: Arc<Shared>, range: Range<u64>) -> Self {
        Self {
            shared,
            at: range.start,
            end: range.end,
            partial: BytesMut::new(),
        }
    }

    /// Takes the next bytes. `false` once there is no use for more.
    pub(crate) async fn push(&mut self, mut chunk: Bytes) -> Result<bool, FetchError> {
        {
            let limit = self.shared.max_bytes;
            let mut state = self.shared.state.lock();
            state.taken += chunk.len() as u64;
            if state.taken > limit {
                return Err(FetchError::TooLarge { limit });
            }
        }
        while !chunk.is_empty() && self.at < self.end {
            let boundary = (self.at / BLOCK + 1) * BLOCK;
            let room = usize::try_from(boundary.min(self.end) - self.at).unwrap_or(usize::MAX);
            let piece = chunk.split_to(room.min(chunk.len()));
            self.at += piece.len() as u64;
            self.partial.extend_from_slice(&piece);
            if self.at == boundary || self.at == self.shared.total {
                let (shared, bytes) = (Arc::clone(&self.shared), self.partial.split().freeze());
                let block = (self.at - 1) / BLOCK;
                let kept = tokio::task::spawn_blocking(move || shared.keep(block, &bytes));
                kept.await.map_err(|error| FetchError::Disk {
                    what: error.to_string(),
                })??;
            }
        }
        Ok(self.at < self.end)
    }
}

/// Takes the order back when its run ends in any way, so that nobody waits for what will not come.
struct Ordered {
    shared: Arc<Shared>,
    blocks: Range<u64>,
}

impl Drop for Ordered {
    fn drop(&mut self) {
        self.shared.done(self.shared.state.lock(), self.blocks.clone());
    }
}

/// Brings a run of blocks, with patience for a line that drops.
async fn run(ordered: Ordered) {
    let shared = &ordered.shared;
    let end = (ordered.blocks.end * BLOCK).min(shared.total);
    let mut arrivals = Arrivals::new(Arc::clone(shared), ordered.blocks.start * BLOCK..end);
    let (mut retries, mut wait) = (0, RETRY_WAIT);
    loop {
        let from = arrivals.at;
        let limit = shared.run_time;
        let read = timeout(limit, shared.reader.read(from..end, &mut arrivals)).await;
        let what = "reading a range";
        let read = read.unwrap_or(Err(FetchError::Timeout { what, limit }));
        if arrivals.at == end {
            return;
        }
        if arrivals.at > from {
            (retries, wait) = (0, RETRY_WAIT);
        }
        let error = read.err().unwrap_or_else(|| FetchError::Unreachable {
            what: "it sends less than it announces".to_owned(),
        });
        if !error.may_pass() || retries == RETRIES {
            return shared.fail(error);
        }
        retries += 1;
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}
