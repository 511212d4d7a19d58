//! Frames that a worker decodes.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use bytes::Bytes;
use reelsight_decode::{DecodeError, DecodeOptions, DecodeStats, PacketIndex, ThreadShare};
use reelsight_media::{FrameError, FrameSource, RgbFrame};

use super::{lease::Lease, source::Opened, watch::Watch};
use crate::{
    link::PART_BYTES,
    memory::FrameMemory,
    wire::{Frame, Options, Order, ReadOrder, Release, Reply, Threads, Wanted},
};

/// Frames that one message names, of up to millions.
const PART_FRAMES: usize = 1000;
const CHANNELS: u64 = 3;

/// A [`FrameSource`] over the wanted frames of one source, decoded in a worker process. Dropping it stops the worker
/// within 100 ms.
///
/// What comes out is what [`reelsight_decode::FrameReader`] gives in the same process. In addition it fails with
/// `DECODER_CRASHED`, `DECODER_TIMEOUT` and `DECODER_MEMORY`.
#[derive(Debug)]
pub struct WorkerReader {
    /// `None` when the request is over.
    lease: Option<Lease>,
    request: u64,
    memory: FrameMemory,
    index: Arc<PacketIndex>,
    /// What is still to come.
    wanted: std::vec::IntoIter<u64>,
    source: Opened,
    watch: Watch,
    stats: DecodeStats,
    /// Our part of the process's threads, and what the worker knows of it.
    share: ThreadShare,
    threads: usize,
}

impl WorkerReader {
    pub(super) fn start(
        mut lease: Lease,
        (source, descriptor): (Opened, OwnedFd),
        index: Arc<PacketIndex>,
        frames: Vec<u64>,
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        let limits = &options.limits;
        let mut watch = Watch::new(limits.max_wall, &options.cancel);
        let bytes = memory_bytes(options);
        let (memory, shared) = FrameMemory::new(bytes).map_err(|error| DecodeError::Internal {
            detail: format!("no memory for frames: {error}"),
        })?;
        let process = lease.process();
        let share = options.budget.join(options.threads);
        let threads = share.threads();
        let request = process.begin(limits, options.threads, bytes as u64, &mut watch)?;
        let same_index = process
            .last_index
            .upgrade()
            .is_some_and(|last| Arc::ptr_eq(&last, &index));
        if !same_index {
            let encoded = index.to_bytes().map_err(|error| DecodeError::Internal {
                detail: error.to_string(),
            })?;
            for part in encoded.chunks(PART_BYTES) {
                process.tell(Order::Part(part.to_vec()), &[], &mut watch)?;
            }
        }
        process.last_index = Arc::downgrade(&index);
        for part in frames.chunks(PART_FRAMES) {
            let frames = part.to_vec();
            process.tell(Order::Wanted(Wanted { frames }), &[], &mut watch)?;
        }
        let order = ReadOrder {
            request,
            source: source.facts(),
            options: Options::from(options),
            same_index,
            memory_bytes: bytes as u64,
            threads: threads as u64,
        };
        let fds = [descriptor.as_fd(), shared.as_fd()];
        process.tell(Order::Read(order), &fds, &mut watch)?;
        Ok(Self {
            lease: Some(lease),
            request,
            memory,
            index,
            wanted: frames.into_iter(),
            source,
            watch,
            stats: DecodeStats::default(),
            share,
            threads,
        })
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> DecodeStats {
        self.stats.clone()
    }

    /// The process that decodes, while it does.
    #[must_use]
    pub fn worker_pid(&self) -> Option<u32> {
        self.lease.as_ref().map(Lease::pid)
    }

    /// [`FrameSource::next_frame`] with the whole error.
    ///
    /// # Errors
    /// [`DecodeError`] when no further frame can be decoded.
    pub fn try_next(&mut self) -> Result<Option<RgbFrame>, DecodeError> {
        let Some(mut lease) = self.lease.take() else {
            return Ok(None);
        };
        if self.watch.is_cancelled() {
            self.settle(lease);
            return Err(DecodeError::Cancelled);
        }
        self.share_threads(&mut lease)?;
        match lease.process().hear(&mut self.watch) {
            Ok(Reply::Frame(frame)) => {
                let frame = self.take(&mut lease, &frame)?;
                self.lease = Some(lease);
                Ok(Some(frame))
            }
            Ok(Reply::Ended(ended)) if ended.request == self.request => {
                self.stats = ended.stats.map_or_else(|| self.stats.clone(), DecodeStats::from);
                lease.give_back();
                let error = ended.error.map(DecodeError::from);
                error.map_or(Ok(None), |error| Err(self.source.explain(error)))
            }
            Ok(_) => Err(lease.process().nonsense("it spoke of something else")),
            Err(DecodeError::Cancelled) => {
                self.settle(lease);
                Err(DecodeError::Cancelled)
            }
            // The lease goes, and with it the process.
            Err(error) => Err(error),
        }
    }

    /// Tells the worker when others that decode came or went.
    fn share_threads(&mut self, lease: &mut Lease) -> Result<(), DecodeError> {
        let threads = self.share.threads();
        if threads == self.threads {
            return Ok(());
        }
        self.threads = threads;
        let order = Threads {
            request: self.request,
            threads: threads as u64,
        };
        lease.process().tell(Order::Threads(order), &[], &mut self.watch)
    }

    /// Checks a frame, copies it out and frees its place.
    fn take(&mut self, lease: &mut Lease, frame: &Frame) -> Result<RgbFrame, DecodeError> {
        let process = lease.process();
        let Some(data) = pixels(&self.memory, frame) else {
            return Err(process.nonsense("a frame lies outside the shared memory"));
        };
        let release = Release {
            request: self.request,
            offset: frame.offset,
        };
        process.tell(Order::Release(release), &[], &mut self.watch)?;
        let time = usize::try_from(frame.index)
            .ok()
            .and_then(|at| self.index.timeline.time(at));
        let (true, Some(time)) = (self.wanted.any(|wanted| wanted == frame.index), time) else {
            return Err(process.nonsense("a frame comes that nobody wants"));
        };
        self.stats = frame.stats.into();
        Ok(RgbFrame {
            width: frame.width,
            height: frame.height,
            data,
            index: frame.index,
            time,
            damaged: frame.damaged,
        })
    }

    fn settle(&self, lease: Lease) {
        self.source.stop();
        lease.settle(self.request);
    }
}

impl FrameSource for WorkerReader {
    fn next_frame(&mut self) -> Result<Option<RgbFrame>, FrameError> {
        self.try_next().map_err(FrameError::from)
    }
}

impl Drop for WorkerReader {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.settle(lease);
        }
    }
}

fn pixels(memory: &FrameMemory, frame: &Frame) -> Option<Bytes> {
    let len = u64::from(frame.width) * u64::from(frame.height) * CHANNELS;
    memory.copy(frame.offset, usize::try_from(len).ok()?)
}

/// Room for the budget, and for the largest frame that the limits allow. Only what is used costs memory.
fn memory_bytes(options: &DecodeOptions) -> usize {
    let limits = &options.limits;
    let pixels = options.size.map_or(limits.max_pixels, |(width, height)| {
        u64::from(width) * u64::from(height)
    });
    let largest = usize::try_from(pixels.min(limits.max_pixels).saturating_mul(CHANNELS));
    largest.unwrap_or(usize::MAX).max(options.budget_bytes).max(1)
}
