//! Requests, one after another. A thread of its own listens meanwhile, so that a frame that was taken and a request that
//! is no longer wanted are heard at once.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use parking_lot::Mutex;
use reelsight_decode::{DecodeError, DecodeStats, Input, PacketIndex, ThreadBudget, index, read_frames};
use reelsight_media::{ByteSource, CancelFlag, RgbFrame};
use rustix::time::{ClockId, clock_gettime};

use super::self_test;
use crate::{
    asked::AskedBytes,
    link::{Forever, PART_BYTES, Receiver, Sender},
    memory::Slots,
    wire::{
        Ended, Error, Frame, FromWorker, IndexOrder, Order, ReadOrder, Release, Reply, SelfTestOrder,
        SourceFacts, Stats, Threads, ToWorker, Wanted, nanos,
    },
};

/// What the listening thread hands over.
enum Task {
    Index(IndexOrder, OwnedFd),
    Read {
        order: ReadOrder,
        /// The index, unless it is the one before.
        encoded: Vec<u8>,
        frames: Vec<u64>,
        source: OwnedFd,
        slots: io::Result<Arc<Slots>>,
    },
    SelfTest(SelfTestOrder),
}

/// The request that runs.
struct Running {
    request: u64,
    cancel: CancelFlag,
    budget: ThreadBudget,
    slots: Option<Arc<Slots>>,
}

impl Running {
    fn new(request: u64) -> Self {
        Self {
            request,
            cancel: CancelFlag::new(),
            budget: ThreadBudget::new(1),
            slots: None,
        }
    }
}

/// Serves until the other side is gone.
pub(super) fn serve(sender: &Sender, receiver: Receiver) -> io::Result<()> {
    let running = Arc::new(Mutex::new(Running::new(0)));
    let (tasks, todo) = sync_channel(1);
    std::thread::Builder::new().name("orders".to_owned()).spawn({
        let running = Arc::clone(&running);
        move || {
            // Whatever ends the listening ends the process, in the middle of a packet, too.
            let code = i32::from(listen(receiver, &tasks, &running).is_err());
            exit_now(code);
        }
    })?;
    let mut work = Work { sender, last: None };
    for task in todo {
        let (cancel, budget) = {
            let running = running.lock();
            (running.cancel.clone(), running.budget.clone())
        };
        work.carry_out(task, &cancel, budget)?;
    }
    Ok(())
}

/// Ends the process without running destructors beside threads that still work.
#[expect(unsafe_code, reason = "the standard library runs exit handlers")]
fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

fn listen(mut receiver: Receiver, tasks: &SyncSender<Task>, running: &Mutex<Running>) -> io::Result<()> {
    let (mut parts, mut wanted) = (Vec::new(), Vec::new());
    let hand = |task| tasks.send(task).map_err(io::Error::other);
    while let Some(message) = receiver.receive::<ToWorker, _>(&mut Forever)? {
        match message.order {
            Some(Order::Part(part)) => parts.extend_from_slice(&part),
            Some(Order::Wanted(Wanted { frames })) => wanted.extend(frames),
            Some(Order::Index(order)) => {
                *running.lock() = Running::new(order.request);
                hand(Task::Index(order, receiver.take_fd()?))?;
            }
            Some(Order::Read(order)) => {
                let (source, memory) = (receiver.take_fd()?, receiver.take_fd()?);
                let [len, budget] = [order.memory_bytes, order.options.budget_bytes]
                    .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
                let slots = Slots::new(memory, len, budget).map(Arc::new);
                *running.lock() = Running {
                    budget: ThreadBudget::new(usize::try_from(order.threads).unwrap_or(1)),
                    slots: slots.as_ref().ok().cloned(),
                    ..Running::new(order.request)
                };
                let (encoded, frames) = (std::mem::take(&mut parts), std::mem::take(&mut wanted));
                hand(Task::Read {
                    order,
                    encoded,
                    frames,
                    source,
                    slots,
                })?;
            }
            Some(Order::SelfTest(order)) => {
                *running.lock() = Running::new(order.request);
                hand(Task::SelfTest(order))?;
            }
            Some(Order::Release(Release { request, offset })) => {
                let running = running.lock();
                if let Some(slots) = running.slots.as_ref().filter(|_| running.request == request) {
                    slots.release(usize::try_from(offset).unwrap_or(usize::MAX));
                }
            }
            Some(Order::Threads(Threads { request, threads })) => {
                let running = running.lock();
                if running.request == request {
                    running.budget.resize(usize::try_from(threads).unwrap_or(1));
                }
            }
            Some(Order::Cancel(request)) => {
                let running = running.lock();
                if running.request == request {
                    running.cancel.cancel();
                }
            }
            None => {}
        }
    }
    Ok(())
}

/// What decoding frames takes.
struct Reading<'a> {
    order: ReadOrder,
    encoded: Vec<u8>,
    frames: Vec<u64>,
    source: OwnedFd,
    slots: io::Result<Arc<Slots>>,
    cancel: &'a CancelFlag,
    budget: ThreadBudget,
}

struct Work<'a> {
    sender: &'a Sender,
    /// The index of the request before.
    last: Option<Arc<PacketIndex>>,
}

impl Work<'_> {
    fn carry_out(&mut self, task: Task, cancel: &CancelFlag, budget: ThreadBudget) -> io::Result<()> {
        let mut stats = DecodeStats::default();
        let request = match &task {
            Task::Index(order, _) => order.request,
            Task::Read { order, .. } => order.request,
            Task::SelfTest(order) => order.request,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| match task {
            Task::Index(order, source) => self.index(order, source, cancel),
            Task::Read {
                order,
                encoded,
                frames,
                source,
                slots,
            } => self.read(
                Reading {
                    order,
                    encoded,
                    frames,
                    source,
                    slots,
                    cancel,
                    budget,
                },
                &mut stats,
            ),
            Task::SelfTest(order) => self_test::run(order.memory_bytes)
                .into_iter()
                .try_for_each(|check| self.say(Reply::Check(check)))
                .map_err(Stop::Link),
        }));
        let error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(Stop::Decode(error))) => Some(Error::from(&error)),
            Ok(Err(Stop::Link(error))) => return Err(error),
            Err(_panic) => Some(Error::from(&DecodeError::Internal {
                detail: "the decode worker panicked".to_owned(),
            })),
        };
        self.say(Reply::Ended(Ended {
            request,
            error,
            stats: Some(Stats::from(&stats)),
            cpu_nanos: cpu_nanos(),
        }))
    }

    fn say(&self, reply: Reply) -> io::Result<()> {
        self.sender
            .send(&FromWorker { reply: Some(reply) }, &[], &mut Forever)
    }

    fn index(&mut self, order: IndexOrder, source: OwnedFd, cancel: &CancelFlag) -> Result<(), Stop> {
        let found = index(&input(order.source, source), &order.limits.into(), cancel)?;
        let encoded = found.to_bytes().map_err(|error| internal(&error))?;
        for part in encoded.chunks(PART_BYTES) {
            self.say(Reply::Part(part.to_vec()))?;
        }
        self.last = Some(found);
        Ok(())
    }

    fn read(&mut self, reading: Reading<'_>, stats: &mut DecodeStats) -> Result<(), Stop> {
        let Reading {
            order,
            encoded,
            frames,
            source,
            slots,
            cancel,
            budget,
        } = reading;
        let slots = slots.map_err(|_unmapped| DecodeError::TooMuchMemory {
            limit: order.options.limits.memory_bytes,
        })?;
        let index = match self.last.take().filter(|_| order.same_index) {
            Some(last) => last,
            None => Arc::new(PacketIndex::from_bytes(&encoded).map_err(|error| internal(&error))?),
        };
        self.last = Some(Arc::clone(&index));
        let options = order.options.with(order.threads, budget, cancel.clone());
        let mut reader = read_frames(&input(order.source, source), index, frames, options)?;
        loop {
            let next = reader.try_next();
            *stats = reader.stats();
            let Some(frame) = next? else { return Ok(()) };
            let reply = place(&frame, &slots, cancel, stats)?;
            self.say(Reply::Frame(reply))?;
        }
    }
}

/// Puts a frame where the parent finds it.
fn place(
    frame: &RgbFrame,
    slots: &Slots,
    cancel: &CancelFlag,
    stats: &DecodeStats,
) -> Result<Frame, DecodeError> {
    let offset = slots.put(&frame.data, cancel).ok_or_else(|| {
        if cancel.is_cancelled() {
            DecodeError::Cancelled
        } else {
            let detail = format!("no room for a picture of {}x{}", frame.width, frame.height);
            DecodeError::Internal { detail }
        }
    })?;
    Ok(Frame {
        index: frame.index,
        offset: offset as u64,
        width: frame.width,
        height: frame.height,
        damaged: frame.damaged,
        stats: stats.into(),
    })
}

/// Why a request ends early.
enum Stop {
    /// It cannot be carried out.
    Decode(DecodeError),
    /// Nobody listens.
    Link(io::Error),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Link(error)
    }
}

fn internal(error: &impl ToString) -> DecodeError {
    DecodeError::Internal {
        detail: error.to_string(),
    }
}

/// A regular file that came open. Its size came with it: asking for it would take a system call that takes paths, too.
#[derive(Debug)]
struct OpenFile {
    file: File,
    len: Option<u64>,
}

impl ByteSource for OpenFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8], cancel: &CancelFlag) -> io::Result<usize> {
        ByteSource::read_at(&self.file, offset, buffer, cancel)
    }

    fn len(&self) -> io::Result<Option<u64>> {
        Ok(self.len)
    }
}

fn input(facts: SourceFacts, source: OwnedFd) -> Input {
    let SourceFacts {
        asked_for,
        len,
        remote,
    } = facts;
    Input::Bytes(if asked_for {
        Arc::new(AskedBytes::new(source, len, remote))
    } else {
        let file = source.into();
        Arc::new(OpenFile { file, len })
    })
}

/// CPU time of this process.
fn cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    nanos(Duration::try_from(time).unwrap_or_default())
}
