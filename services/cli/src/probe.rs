//! `reelsight probe`: what a video file is made of, and what a selection of frames would cost.

mod facts;
mod plot;
mod words;

use std::fmt::Write as _;

use reelsight_decode::{Fate, Forecast, PacketKind};
use reelsight_media::MediaTime;
use serde_json::{Value, json};

use self::plot::{Bar, Plot};
use crate::{
    args::{ProbeArgs, RuleArgs},
    exit::Failure,
    frames::{self, Pending, Selection, Video},
    terminal,
};

pub(crate) fn run(args: &ProbeArgs) -> Result<(), Failure> {
    let video = Video::open(&args.video, &args.source)?;
    let threads = frames::threads(args.threads);
    let selection = has_rule(&args.rule).then(|| {
        let range = args.range.secs();
        frames::select(&video, &args.rule, range, &args.scene, threads, args.json)
    });
    let selection = selection.transpose()?;
    let forecast = selection
        .as_ref()
        .map(|selection| video.index.forecast(&selection.sampled.frames, threads));
    if let Some(path) = &args.plot {
        let mut file = Pending::new(path)?;
        file.write(drawing(&video, selection.as_ref(), forecast.as_ref()).as_bytes())?;
        file.finish()?;
    }
    let mut document = facts::document(&video);
    if let (Some(selection), Some(forecast)) = (&selection, &forecast) {
        document["plan"] = plan(&video, selection, forecast);
    }
    if args.json {
        return terminal::print_line(&format!("{document:#}"));
    }
    let mut text = words::text(&document);
    if let Some(forecast) = &forecast {
        tell_plan(&mut text, &document["plan"], forecast);
    }
    for warning in &video.index.warnings {
        writeln!(text, "warning     {} [{}]", warning.message, warning.reason).ok();
    }
    terminal::print_line(text.trim_end())
}

fn has_rule(rule: &RuleArgs) -> bool {
    rule.fps.is_some()
        || rule.count.is_some()
        || rule.at.is_some()
        || rule.every_keyframe
        || rule.scene.is_some()
}

/// What decoding the selection will take.
fn plan(video: &Video, selection: &Selection, forecast: &Forecast) -> Value {
    let chosen = selection.sampled.frames.iter().zip(&selection.sampled.samples);
    let frames: Vec<_> = chosen
        .map(|(&frame, &samples)| {
            let mut row = json!({ "index": frame });
            frames::add_frame_time(&mut row, frame, &video.index);
            if samples > 1 {
                row["samples"] = samples.into();
            }
            row
        })
        .collect();
    let all: u64 = video.index.packets().map(|packet| u64::from(packet.bytes)).sum();
    let mut plan = json!({
        "frames": frames,
        "duplicates": selection.sampled.duplicates,
        "intervals": forecast.intervals,
        "packets_decoded": forecast.count(Fate::Decoded),
        "packets_share": share(forecast.count(Fate::Decoded), forecast.fates.len() as u64),
        "bytes_decoded": forecast.decoded_bytes,
        "bytes_share": share(forecast.decoded_bytes, all),
        "dropped": frames::dropped_json(forecast),
    });
    if let Some(cuts) = &selection.cuts {
        cuts.add_to(&mut plan, &video.index);
    }
    plan
}

fn tell_plan(text: &mut String, plan: &Value, forecast: &Forecast) {
    let percent = |name: &str| plan[name].as_f64().unwrap_or_default() * 100.0;
    let lines = [
        format!(
            "selection   {} frames, {} samples fell on one that was taken",
            plan["frames"].as_array().map_or(0, Vec::len),
            plan["duplicates"]
        ),
        format!(
            "plan        {} of {} packets decoded ({:.1} %), {:.1} % of the bytes, in {} intervals",
            plan["packets_decoded"],
            forecast.fates.len(),
            percent("packets_share"),
            percent("bytes_share"),
            forecast.intervals
        ),
        format!(
            "left out    {} that nothing refers to, {} that no wanted frame builds on, {} after the last wanted frame",
            forecast.count(Fate::NonReference),
            forecast.count(Fate::OutsideClosure),
            forecast.count(Fate::AfterLastWanted)
        ),
        format!(
            "            of their group, {} in groups without one",
            forecast.count(Fate::OutsideIntervals)
        ),
    ];
    for line in lines {
        writeln!(text, "{line}").ok();
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn drawing(video: &Video, selection: Option<&Selection>, forecast: Option<&Forecast>) -> String {
    let timeline = &video.index.timeline;
    let fates = |at: usize| forecast.map(|forecast| forecast.fates[at] == Fate::Decoded);
    let bars = video.index.packets().enumerate().map(|(at, packet)| Bar {
        secs: timeline.base().secs(packet.pts),
        bytes: packet.bytes,
        kind: match packet.kind {
            PacketKind::Keyframe => plot::Kind::Key,
            PacketKind::OpenKeyframe | PacketKind::Refresh => plot::Kind::OpenKey,
            PacketKind::Reference => plot::Kind::Reference,
            PacketKind::Droppable => plot::Kind::Droppable,
        },
        decoded: fates(at),
    });
    let secs = |frame: u64| {
        usize::try_from(frame)
            .ok()
            .and_then(|frame| timeline.time(frame))
            .map(MediaTime::secs)
    };
    let chosen = selection.map_or(&[][..], |selection| &selection.sampled.frames);
    let info = &video.index.info;
    let title = format!(
        "{} {}x{}, {:.3} frames/s, {:.3} s, {} packets",
        info.video_codec,
        info.width,
        info.height,
        info.fps,
        info.duration_secs,
        timeline.len()
    );
    let plot = Plot {
        title,
        start_secs: timeline.base().secs(timeline.start()),
        end_secs: timeline.base().secs(timeline.end()),
        bars: bars.collect(),
        chosen_secs: chosen.iter().filter_map(|&frame| secs(frame)).collect(),
        cut_secs: selection
            .and_then(|selection| selection.cuts.as_ref())
            .map_or_else(Vec::new, |cuts| cuts.frames().filter_map(secs).collect()),
    };
    plot::svg(&plot)
}
