//! `reelsight frames`: index, choose, decode, write.

mod names;
mod picture;
mod row;
mod select;
mod sheet;
mod shots;
mod sink;
mod stats;
mod video;

use std::{
    io::{BufWriter, Write as _},
    time::{Duration, Instant},
};

use reelsight_media::{FrameSource as _, RgbFrame};
use serde_json::{Value, json};

pub(crate) use names::NamePattern;
pub(crate) use picture::Pending;
pub(crate) use select::{Selection, select};
pub(crate) use shots::{add_frame_time, installed_network};
pub(crate) use stats::{dropped_json, spread_json};
pub(crate) use video::Video;

use self::{sink::Sinks, stats::Work};
use crate::{args::FramesArgs, exit::Failure, terminal};

pub(crate) fn run(args: &FramesArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut sinks = Sinks::new(&args.output)?;
    let video = Video::open(&args.video, &args.source)?;
    let threads = threads(args.pixels.threads);
    let quiet = args.output.json || args.output.jsonl;
    let selection = select(&video, &args.rule, args.range.secs(), &args.scene, threads, quiet)?;
    let frames = &selection.sampled.frames;
    sinks.expect(frames.len())?;

    let mut options = video.options(threads);
    options.size = args
        .pixels
        .size
        .or_else(|| args.pixels.square.then(|| video.square_size()));
    options.scale_in_yuv = args.pixels.scale_in_yuv;
    let mut reader = video.read(frames.clone(), &options)?;
    let bar = terminal::progress(frames.len() as u64, quiet).with_message("frames");
    let mut out = Rows::new(args);
    let mut first_frame = None;
    while let Some(frame) = reader.next_frame()? {
        first_frame.get_or_insert_with(|| begun.elapsed());
        let samples = selection.samples_of(frame.index);
        let pts = frame.time.pts.0 + video.index.pts_offset;
        let file = sinks.write(&frame, out.written, pts)?;
        out.push(&frame, &video, samples, file.as_deref())?;
        bar.inc(1);
    }
    sinks.finish()?;
    bar.finish_and_clear();
    let timing = Timing {
        first_frame,
        all: begun.elapsed(),
    };
    let work = Work::new(&video, &selection, reader.stats(), threads, timing);
    out.finish(args, &video, &selection, &work)
}

/// When things happened, counted from the start of the command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) first_frame: Option<Duration>,
    pub(crate) all: Duration,
}

/// The number of decoder threads: as asked, else one per core.
pub(crate) fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(
        || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        usize::from,
    )
}

/// What is printed about the frames.
struct Rows {
    digests: bool,
    lines: bool,
    kept: Vec<Value>,
    written: usize,
}

impl Rows {
    fn new(args: &FramesArgs) -> Self {
        Self {
            digests: args.output.json || args.output.jsonl,
            lines: args.output.jsonl,
            kept: Vec::new(),
            written: 0,
        }
    }

    fn push(
        &mut self,
        frame: &RgbFrame,
        video: &Video,
        samples: usize,
        file: Option<&std::path::Path>,
    ) -> Result<(), Failure> {
        let row = row::row(frame, &video.index, samples, file, self.digests);
        self.written += 1;
        if self.lines {
            return terminal::print_line(&row.to_string());
        }
        self.kept.push(row);
        Ok(())
    }

    fn finish(
        self,
        args: &FramesArgs,
        video: &Video,
        selection: &Selection,
        work: &Work,
    ) -> Result<(), Failure> {
        if self.digests {
            let mut rest = json!({"stats": work.json(), "warnings": video.warnings()});
            if let Some(cuts) = &selection.cuts {
                cuts.add_to(&mut rest, &video.index);
            }
            if self.lines {
                return terminal::print_line(&rest.to_string());
            }
            let mut document = json!({ "frames": self.kept });
            if let (Some(document), Value::Object(rest)) = (document.as_object_mut(), rest) {
                document.extend(rest);
            }
            return terminal::print_line(&format!("{document:#}"));
        }
        self.tell(args, video, selection, work)
    }

    /// For people.
    #[expect(clippy::print_stderr, reason = "warnings and statistics")]
    fn tell(
        self,
        args: &FramesArgs,
        video: &Video,
        selection: &Selection,
        work: &Work,
    ) -> Result<(), Failure> {
        for warning in &video.index.warnings {
            eprintln!("warning: {} [{}]", warning.message, warning.reason);
        }
        if selection.sampled.duplicates > 0 {
            eprintln!(
                "note: {} of {} samples fell on a frame that another sample had taken",
                selection.sampled.duplicates,
                selection.sampled.duplicates + selection.sampled.frames.len()
            );
        }
        if args.output.raw.as_deref() != Some(std::path::Path::new("-")) {
            let mut out = BufWriter::new(std::io::stdout().lock());
            for row in &self.kept {
                let line = format!(
                    "{:>8}  {:>12.6} s  {}\n",
                    row["index"],
                    row["time_s"].as_f64().unwrap_or_default(),
                    row["file"].as_str().unwrap_or_default()
                );
                out.write_all(line.as_bytes()).map_err(Failure::from_stdout)?;
            }
            out.flush().map_err(Failure::from_stdout)?;
        }
        if args.output.stats {
            eprint!("{}", work.text());
        }
        Ok(())
    }
}
