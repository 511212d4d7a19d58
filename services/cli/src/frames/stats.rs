//! What the work was.

use std::{fmt::Write as _, time::Duration};

use reelsight_decode::{DecodeStats, Fate, Forecast, Spread};
use serde_json::{Value, json};

use super::{Selection, Timing, Video};

/// What one command did.
pub(crate) struct Work {
    stats: DecodeStats,
    forecast: Forecast,
    duplicates: usize,
    threads: usize,
    index_time: Duration,
    index_cached: bool,
    timing: Timing,
}

/// The name of a fate in JSON.
pub(crate) fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Decoded => "decoded",
        Fate::NonReference => "non_reference",
        Fate::OutsideClosure => "outside_closure",
        Fate::AfterLastWanted => "after_last_wanted",
        Fate::OutsideIntervals => "outside_intervals",
    }
}

pub(crate) fn spread_json(spread: Spread) -> Value {
    json!({"min": spread.min, "median": spread.median, "max": spread.max})
}

/// What happens to packets, by reason.
pub(crate) fn dropped_json(forecast: &Forecast) -> Value {
    let dropped = Fate::ALL.into_iter().filter(|&fate| fate != Fate::Decoded);
    dropped
        .map(|fate| (fate_name(fate).to_owned(), Value::from(forecast.count(fate))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

impl Work {
    pub(crate) fn new(
        video: &Video,
        selection: &Selection,
        stats: DecodeStats,
        threads: usize,
        timing: Timing,
    ) -> Self {
        Self {
            stats,
            forecast: video.index.forecast(&selection.sampled.frames, threads),
            duplicates: selection.sampled.duplicates,
            threads,
            index_time: video.index_time,
            index_cached: video.index_cached,
            timing,
        }
    }

    pub(crate) fn json(&self) -> Value {
        let stats = &self.stats;
        let secs = |time: Duration| time.as_secs_f64();
        json!({
            "packets": self.forecast.fates.len(),
            "packets_seen": stats.packets_seen,
            "packets_decoded": stats.packets_decoded,
            "packets_dropped": stats.packets_dropped,
            "dropped": dropped_json(&self.forecast),
            "bytes_decoded": self.forecast.decoded_bytes,
            "frames_decoded": stats.frames_decoded,
            "frames_emitted": stats.frames_emitted,
            "frames_damaged": stats.frames_damaged,
            "frames_duplicate": self.duplicates,
            "intervals": stats.intervals,
            "intervals_redone": stats.redone,
            "seeks": stats.seeks,
            "threads": self.threads,
            "index": {"time_s": secs(self.index_time), "from_cache": self.index_cached},
            "cpu_s": {
                "demux": secs(stats.demux), "decode": secs(stats.decode), "convert": secs(stats.convert),
                "resize": secs(stats.resize), "threads": secs(stats.cpu),
            },
            "first_frame_s": self.timing.first_frame.map(secs),
            "wall_s": secs(self.timing.all),
        })
    }

    /// For people: one fact per line.
    pub(crate) fn text(&self) -> String {
        let stats = &self.stats;
        let secs = |time: Duration| time.as_secs_f64();
        let all = self.forecast.fates.len();
        let share = 100.0 * self.forecast.count(Fate::Decoded) as f64 / all.max(1) as f64;
        let [non_reference, closure, after, outside] = [
            Fate::NonReference,
            Fate::OutsideClosure,
            Fate::AfterLastWanted,
            Fate::OutsideIntervals,
        ]
        .map(|fate| self.forecast.count(fate));
        let from = if self.index_cached {
            "from the cache"
        } else {
            "read from the file"
        };
        let mut text = String::new();
        let lines = [
            format!("index     {:.3} s, {from}", secs(self.index_time)),
            format!(
                "packets   {all} in the track, {} read, {} decoded ({share:.1} %)",
                stats.packets_seen, stats.packets_decoded
            ),
            format!(
                "left out  {non_reference} that nothing refers to, {closure} that no wanted frame builds on,"
            ),
            format!(
                "          {after} after the last wanted frame of their group, {outside} in groups without one"
            ),
            format!(
                "frames    {} decoded, {} given out, {} damaged, {} asked for twice",
                stats.frames_decoded, stats.frames_emitted, stats.frames_damaged, self.duplicates
            ),
            format!(
                "work      {} intervals ({} redone), {} seeks, {} threads",
                stats.intervals, stats.redone, stats.seeks, self.threads
            ),
            format!(
                "CPU       demux {:.3} s, decode {:.3} s, convert {:.3} s, resize {:.3} s; {:.3} s in all decode threads",
                secs(stats.demux),
                secs(stats.decode),
                secs(stats.convert),
                secs(stats.resize),
                secs(stats.cpu)
            ),
            format!(
                "wall      first frame after {:.3} s, all after {:.3} s",
                self.timing.first_frame.map_or(0.0, secs),
                secs(self.timing.all)
            ),
        ];
        for line in lines {
            // Writing to a string cannot fail.
            writeln!(text, "{line}").ok();
        }
        text
    }
}
