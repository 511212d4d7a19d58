//! Between messages and what decode knows. Every field is named on both sides, so that none is forgotten.

use std::time::Duration;

use reelsight_decode::{DecodeLimits, DecodeOptions, DecodeStats, ThreadBudget};
use reelsight_media::CancelFlag;

use super::{Limits, Options, Size, Stats};

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn whole(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl From<&DecodeLimits> for Limits {
    fn from(limits: &DecodeLimits) -> Self {
        let DecodeLimits {
            max_bytes,
            max_duration_secs,
            max_width,
            max_height,
            max_pixels,
            max_tracks,
            max_frames,
            max_memory_bytes,
            max_wall,
        } = *limits;
        Self {
            bytes: max_bytes,
            duration_secs: max_duration_secs,
            width: max_width,
            height: max_height,
            pixels: max_pixels,
            tracks: whole(max_tracks),
            frames: whole(max_frames),
            memory_bytes: max_memory_bytes,
            wall_nanos: nanos(max_wall),
        }
    }
}

impl From<Limits> for DecodeLimits {
    fn from(limits: Limits) -> Self {
        Self {
            max_bytes: limits.bytes,
            max_duration_secs: limits.duration_secs,
            max_width: limits.width,
            max_height: limits.height,
            max_pixels: limits.pixels,
            max_tracks: size(limits.tracks),
            max_frames: size(limits.frames),
            max_memory_bytes: limits.memory_bytes,
            max_wall: Duration::from_nanos(limits.wall_nanos),
        }
    }
}

impl From<&DecodeOptions> for Options {
    fn from(options: &DecodeOptions) -> Self {
        let DecodeOptions {
            // The parent joins its budget and says what this request gets of it.
            threads: _,
            budget: _,
            budget_bytes,
            size,
            scale_in_yuv,
            limits,
            cancel: _,
        } = options;
        Self {
            budget_bytes: whole(*budget_bytes),
            size: size.map(|(width, height)| Size { width, height }),
            scale_in_yuv: *scale_in_yuv,
            limits: limits.into(),
        }
    }
}

impl Options {
    /// The options of a request that uses all `threads` of a budget of its own, and that `cancel` stops.
    pub(crate) fn with(self, threads: u64, budget: ThreadBudget, cancel: CancelFlag) -> DecodeOptions {
        DecodeOptions {
            threads: size(threads),
            budget,
            budget_bytes: size(self.budget_bytes),
            size: self.size.map(|size| (size.width, size.height)),
            scale_in_yuv: self.scale_in_yuv,
            limits: self.limits.into(),
            cancel,
        }
    }
}

impl From<&DecodeStats> for Stats {
    fn from(stats: &DecodeStats) -> Self {
        let DecodeStats {
            packets_seen,
            packets_decoded,
            packets_dropped,
            frames_decoded,
            frames_emitted,
            frames_damaged,
            seeks,
            intervals,
            redone,
            demux,
            decode,
            convert,
            resize,
            cpu,
        } = *stats;
        Self {
            packets_seen,
            packets_decoded,
            packets_dropped,
            frames_decoded,
            frames_emitted,
            frames_damaged,
            seeks,
            intervals,
            redone,
            demux_nanos: nanos(demux),
            decode_nanos: nanos(decode),
            convert_nanos: nanos(convert),
            resize_nanos: nanos(resize),
            cpu_nanos: nanos(cpu),
        }
    }
}

impl From<Stats> for DecodeStats {
    fn from(stats: Stats) -> Self {
        Self {
            packets_seen: stats.packets_seen,
            packets_decoded: stats.packets_decoded,
            packets_dropped: stats.packets_dropped,
            frames_decoded: stats.frames_decoded,
            frames_emitted: stats.frames_emitted,
            frames_damaged: stats.frames_damaged,
            seeks: stats.seeks,
            intervals: stats.intervals,
            redone: stats.redone,
            demux: Duration::from_nanos(stats.demux_nanos),
            decode: Duration::from_nanos(stats.decode_nanos),
            convert: Duration::from_nanos(stats.convert_nanos),
            resize: Duration::from_nanos(stats.resize_nanos),
            cpu: Duration::from_nanos(stats.cpu_nanos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_options_and_figures_come_back_as_they_were() {
        let limits = DecodeLimits {
            max_frames: 17,
            max_wall: Duration::from_millis(1234),
            ..DecodeLimits::default()
        };
        assert_eq!(DecodeLimits::from(Limits::from(&limits)), limits);
        let options = DecodeOptions {
            threads: 3,
            budget: ThreadBudget::new(3),
            budget_bytes: 5,
            size: Some((7, 9)),
            scale_in_yuv: true,
            limits,
            cancel: CancelFlag::new(),
        };
        let message = Options::from(&options);
        let back = message.clone().with(3, ThreadBudget::new(3), CancelFlag::new());
        assert_eq!((back.threads, Options::from(&back)), (3, message));
        let stats = DecodeStats {
            packets_seen: 1,
            redone: 9,
            cpu: Duration::from_nanos(77),
            ..DecodeStats::default()
        };
        assert_eq!(DecodeStats::from(Stats::from(&stats)), stats);
    }
}
