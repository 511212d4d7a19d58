//! Carries out a plan: workers that decode intervals, and an ordered, byte-bounded way out.
//!
//! Every interval has a channel of its own. Workers take intervals in order, and none begins an interval until the
//! consumer is fewer than one interval per worker behind; so at most as many channels as workers hold pictures, each
//! within its share of the budget, and the pictures come out in order without anyone holding back the rest.

mod attempt;
mod worker;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use ffmpeg_next::{codec::packet::Packet, frame};
use parking_lot::{Condvar, Mutex};
use reelsight_media::{ByteReceiver, ByteSender, CancelFlag, Weighted, byte_channel};

use crate::{
    convert::Convert,
    decoder::{Decoder, Received},
    demux::{Demuxer, Read},
    error::DecodeError,
    frames::DecodeOptions,
    hardware::Gpu,
    index::{self, PacketIndex},
    input::Input,
    limits::DecodeLimits,
    plan::DecodePlan,
    stats::DecodeStats,
    threads::{ThreadShare, Turn},
};

/// How often a waiting worker looks whether it should stop.
const POLL: Duration = Duration::from_millis(20);

/// What travels to the consumer.
pub(crate) enum Item<T> {
    /// A picture.
    Frame(T),
    /// The interval is complete. Without it, its worker died.
    Done,
}

impl<T: Weighted> Weighted for Item<T> {
    fn weight(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.weight(),
            Self::Done => 0,
        }
    }
}

type Message<T> = Result<Item<T>, DecodeError>;

/// What the workers share.
pub(super) struct Shared<T: Weighted> {
    index: Arc<PacketIndex>,
    plan: DecodePlan,
    limits: DecodeLimits,
    /// Threads that may work at a time.
    share: ThreadShare,
    /// Decodes instead of the CPU.
    gpu: Option<Gpu>,
    /// Threads inside each decoder.
    inner_threads: usize,
    workers: usize,
    /// Raised by the user.
    cancel: CancelFlag,
    /// Raised when the reader goes away.
    stop: CancelFlag,
    next: AtomicUsize,
    senders: Mutex<Vec<Option<ByteSender<Message<T>>>>>,
    /// Intervals that the consumer has taken completely.
    consumed: Mutex<usize>,
    progress: Condvar,
    stats: Mutex<DecodeStats>,
}

impl<T: Weighted> Shared<T> {
    fn is_stopped(&self) -> bool {
        self.stop.is_cancelled() || self.cancel.is_cancelled()
    }

    /// Waits for a turn to work. Turns come before intervals: were an interval taken first, those after it could fill
    /// their channels and keep their turns while it waits for one.
    fn turn(&self) -> Option<Turn<'_>> {
        let count = self.plan.intervals.len();
        self.share
            .enter(|| self.is_stopped() || self.next.load(Ordering::Relaxed) >= count)
    }

    /// The next interval for a worker, as soon as the consumer is near enough.
    fn take(&self) -> Option<(usize, ByteSender<Message<T>>)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number >= self.plan.intervals.len() {
            return None;
        }
        let mut consumed = self.consumed.lock();
        while number >= *consumed + self.workers {
            if self.is_stopped() {
                return None;
            }
            self.progress.wait_for(&mut consumed, POLL);
        }
        drop(consumed);
        let sender = self.senders.lock().get_mut(number).and_then(Option::take)?;
        Some((number, sender))
    }
}

/// Runs a plan and gives its pictures in order. Dropping it stops and joins its threads.
pub(crate) struct Run<T: Weighted> {
    shared: Arc<Shared<T>>,
    receivers: VecDeque<ByteReceiver<Message<T>>>,
    threads: Vec<JoinHandle<()>>,
    emitted: u64,
}

impl<T: Weighted + Send + 'static> Run<T> {
    /// Starts the workers. `converter` is called once on each of them.
    pub(crate) fn start<C: Convert<Out = T>>(
        input: &Input,
        index: Arc<PacketIndex>,
        frames: Vec<u64>,
        options: DecodeOptions,
        gpu: Option<Gpu>,
        converter: impl Fn() -> C + Send + Clone + 'static,
    ) -> Result<Self, DecodeError> {
        let share = options.budget.join(options.threads);
        let threads = share.threads();
        let index = index::complete(input, index, &frames, &options.limits, &options.cancel)?;
        let plan = DecodePlan::new(&index, frames, threads);
        let count = plan.intervals.len();
        let workers = threads.min(count).max(1);
        let channels = (0..count).map(|_| byte_channel(options.budget_bytes / workers));
        let (senders, receivers): (Vec<_>, VecDeque<_>) = channels
            .map(|(sender, receiver)| (Some(sender), receiver))
            .unzip();
        let stats = DecodeStats {
            intervals: count as u64,
            ..DecodeStats::default()
        };
        let shared = Arc::new(Shared {
            index,
            plan,
            limits: options.limits,
            share,
            gpu,
            inner_threads: threads / workers,
            workers,
            cancel: options.cancel,
            stop: CancelFlag::new(),
            next: AtomicUsize::new(0),
            senders: Mutex::new(senders),
            consumed: Mutex::new(0),
            progress: Condvar::new(),
            stats: Mutex::new(stats),
        });
        let mut run = Self {
            shared,
            receivers,
            threads: Vec::new(),
            emitted: 0,
        };
        for number in 0..workers.min(count) {
            let input = input.try_clone().map_err(crate::source::error_from_io)?;
            let (shared, converter) = (Arc::clone(&run.shared), converter.clone());
            let thread = std::thread::Builder::new()
                .name(format!("decode-{number}"))
                .spawn(move || worker::work(&shared, input, converter()))
                .map_err(|error| DecodeError::Internal {
                    detail: error.to_string(),
                })?;
            run.threads.push(thread);
        }
        Ok(run)
    }

    /// The next picture; `None` at the end and after an error.
    pub(crate) fn next(&mut self) -> Result<Option<T>, DecodeError> {
        while let Some(receiver) = self.receivers.front() {
            if self.shared.cancel.is_cancelled() {
                return self.fail(DecodeError::Cancelled);
            }
            match receiver.recv() {
                Some(Ok(Item::Frame(frame))) => {
                    self.emitted += 1;
                    return Ok(Some(frame));
                }
                Some(Ok(Item::Done)) => {
                    self.receivers.pop_front();
                    *self.shared.consumed.lock() += 1;
                    self.shared.progress.notify_all();
                }
                Some(Err(error)) => return self.fail(error),
                None if self.shared.cancel.is_cancelled() => return self.fail(DecodeError::Cancelled),
                None => {
                    return self.fail(DecodeError::Internal {
                        detail: "a decode thread died".to_owned(),
                    });
                }
            }
        }
        self.join();
        Ok(None)
    }

    /// What was done so far.
    pub(crate) fn stats(&self) -> DecodeStats {
        DecodeStats {
            frames_emitted: self.emitted,
            ..self.shared.stats.lock().clone()
        }
    }

    fn fail(&mut self, error: DecodeError) -> Result<Option<T>, DecodeError> {
        self.join();
        Err(error)
    }
}

impl<T: Weighted> Run<T> {
    /// Stops every worker and waits for it: a worker looks at the flag between packets.
    fn join(&mut self) {
        self.shared.stop.cancel();
        self.receivers.clear();
        self.shared.progress.notify_all();
        for thread in self.threads.drain(..) {
            // A panic was told to the consumer already, as an interval without its end.
            thread.join().ok();
        }
    }
}

impl<T: Weighted> Drop for Run<T> {
    fn drop(&mut self) {
        self.join();
    }
}

/// Decodes a whole file and gives the packets of its pictures in the order in which they are shown. For streams whose
/// packets carry no times.
pub(crate) fn shown_order(
    input: &Input,
    limits: &DecodeLimits,
    cancel: &CancelFlag,
) -> Result<Vec<u32>, DecodeError> {
    let mut demuxer = Demuxer::open(input, limits, cancel)?;
    demuxer.video_only();
    let mut decoder = Decoder::open(&demuxer, 1, limits, None)?;
    let (mut order, mut ordinal, mut picture) = (Vec::new(), 0, frame::Video::empty());
    let mut drain = |decoder: &mut Decoder| loop {
        match decoder.receive(&mut picture)? {
            Received::Picture(packet) => order.push(packet),
            Received::Nothing => return Ok::<_, DecodeError>(()),
            Received::Damaged => {}
        }
    };
    loop {
        let mut packet = Packet::empty();
        match demuxer.read(&mut packet)? {
            Read::End => break,
            Read::Packet if packet.stream() == demuxer.stream_index() => {
                decoder.send(&mut packet, ordinal)?;
                drain(&mut decoder)?;
                ordinal += 1;
            }
            Read::Packet | Read::Damaged => {}
        }
    }
    decoder.finish();
    drain(&mut decoder)?;
    Ok(order)
}
