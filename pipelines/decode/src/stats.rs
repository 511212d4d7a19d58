//! What decoding costs.

use std::time::Duration;

/// What decoding cost so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecodeStats {
    /// Video packets read from the container.
    pub packets_seen: u64,
    /// Packets given to the decoder.
    pub packets_decoded: u64,
    /// Packets read that no wanted frame needs, never given to the decoder.
    pub packets_dropped: u64,
    /// Pictures that came out of the decoder.
    pub frames_decoded: u64,
    /// Pictures given to the consumer.
    pub frames_emitted: u64,
    /// Pictures given to the consumer with `damaged` set.
    pub frames_damaged: u64,
    /// Jumps inside the container.
    pub seeks: u64,
    /// Runs of packets that are decoded on their own.
    pub intervals: u64,
    /// Intervals decoded again because a wanted picture did not come out.
    pub redone: u64,
    /// CPU time in the container, summed over our own threads, like all times here.
    pub demux: Duration,
    /// CPU time in the decoder; its inner threads are not in it.
    pub decode: Duration,
    /// CPU time of conversion to RGB and rotation; with scaling in YUV, also of that.
    pub convert: Duration,
    /// CPU time of resampling; what the global rayon pool does of it is not in it.
    pub resize: Duration,
    /// CPU time of our own decode threads in all.
    pub cpu: Duration,
}

impl DecodeStats {
    /// Adds what another thread did.
    pub(crate) fn add(&mut self, other: &Self) {
        self.packets_seen += other.packets_seen;
        self.packets_decoded += other.packets_decoded;
        self.packets_dropped += other.packets_dropped;
        self.frames_decoded += other.frames_decoded;
        self.frames_emitted += other.frames_emitted;
        self.frames_damaged += other.frames_damaged;
        self.seeks += other.seeks;
        self.intervals += other.intervals;
        self.redone += other.redone;
        self.demux += other.demux;
        self.decode += other.decode;
        self.convert += other.convert;
        self.resize += other.resize;
        self.cpu += other.cpu;
    }
}

/// CPU time of the calling thread since it began.
#[expect(unsafe_code, reason = "the standard library has no thread clock")]
pub(crate) fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists on every supported system and only writes to `time`.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}
