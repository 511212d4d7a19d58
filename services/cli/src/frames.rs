//! `reelsight frames`: index, sample, decode, write.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use reelsight_decode::{DecodeLimits, DecodeOptions, DecodeStats, FrameReader, Input, PacketIndex};
use reelsight_media::{CancelFlag, FrameSource as _, RgbFrame};
use reelsight_sampling::Rule;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{args::FramesArgs, exit::Failure, terminal};

/// Frames wait here, decoded, while the one before them is written.
const BUDGET_BYTES: usize = 64 << 20;

pub(crate) fn run(args: &FramesArgs) -> Result<(), Failure> {
    let input = Input::Path(args.video.clone());
    let (limits, cancel) = (DecodeLimits::default(), CancelFlag::new());
    let index = reelsight_decode::index(&input, &limits, &cancel)?;
    let range = (args.start, args.end.unwrap_or(f64::INFINITY));
    let sampled = reelsight_sampling::sample(&index.timeline, &rule(args), Some(range))?;
    let total = sampled.frames.len() as u64;
    let threads = args.threads.map_or_else(default_threads, usize::from);
    let options = DecodeOptions {
        threads,
        budget_bytes: BUDGET_BYTES,
        size: args.size,
        scale_in_yuv: false,
        limits,
        cancel,
    };
    let mut reader = reelsight_decode::read_frames(&input, Arc::clone(&index), sampled.frames, options)?;

    let mut sink = Sink::new(args)?;
    let bar = terminal::progress(total, args.json).with_message("frames");
    let mut rows = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        let file = sink.write(&frame)?;
        rows.push(row(&frame, &index, file.as_deref()));
        bar.inc(1);
    }
    sink.finish()?;
    bar.finish_and_clear();
    report(args, &index, &rows, sampled.duplicates, &reader);
    Ok(())
}

fn rule(args: &FramesArgs) -> Rule {
    match (args.fps, args.count) {
        (Some(fps), _) => Rule::Fps(fps),
        (None, count) => Rule::Count(count.unwrap_or(1) as usize),
    }
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn row(frame: &RgbFrame, index: &PacketIndex, file: Option<&Path>) -> Value {
    let mut row = json!({
        "index": frame.index,
        "pts": frame.time.pts.0 + index.pts_offset,
        "time_s": frame.time.secs(),
        "width": frame.width,
        "height": frame.height,
        "sha256": hex::encode(Sha256::digest(&frame.data)),
        "file": file,
    });
    if frame.damaged {
        row["damaged"] = true.into();
    }
    row
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the command's result and its warnings"
)]
fn report(args: &FramesArgs, index: &PacketIndex, rows: &[Value], duplicates: usize, reader: &FrameReader) {
    if args.json {
        let warnings: Vec<_> = index
            .warnings
            .iter()
            .map(|w| json!({"reason": w.reason, "message": w.message}))
            .collect();
        let stats = stats_json(&reader.stats(), duplicates);
        terminal::print_json(&json!({"frames": rows, "stats": stats, "warnings": warnings}));
        return;
    }
    for warning in &index.warnings {
        eprintln!("warning: {} [{}]", warning.message, warning.reason);
    }
    if args.raw.is_some() {
        return; // Standard output may hold the pixels.
    }
    for row in rows {
        let file = row["file"].as_str().unwrap_or_default();
        println!(
            "{:>8}  {:>12.6} s  {file}",
            row["index"],
            row["time_s"].as_f64().unwrap_or_default()
        );
    }
}

fn stats_json(stats: &DecodeStats, duplicates: usize) -> Value {
    json!({
        "packets_seen": stats.packets_seen,
        "packets_decoded": stats.packets_decoded,
        "packets_dropped": stats.packets_dropped,
        "frames_decoded": stats.frames_decoded,
        "frames_emitted": stats.frames_emitted,
        "frames_damaged": stats.frames_damaged,
        "frames_duplicate": duplicates,
        "seeks": stats.seeks,
    })
}

/// Where pixels go.
enum Sink {
    /// PNG files in a folder.
    Folder(PathBuf),
    /// rgb24 back to back.
    Raw(BufWriter<Box<dyn Write>>, PathBuf),
    /// Only digests are wanted.
    Nothing,
}

impl Sink {
    fn new(args: &FramesArgs) -> Result<Self, Failure> {
        if let Some(path) = &args.raw {
            let to: Box<dyn Write> = if path == Path::new("-") {
                if args.json {
                    return Err(Failure::input(
                        "INVALID_USAGE",
                        "--raw - and --json both want standard output",
                    ));
                }
                Box::new(std::io::stdout())
            } else {
                Box::new(File::create(path).map_err(|e| unwritable(path, &e))?)
            };
            return Ok(Self::Raw(BufWriter::new(to), path.clone()));
        }
        match &args.out {
            Some(folder) => {
                fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))?;
                Ok(Self::Folder(folder.clone()))
            }
            None if args.json => Ok(Self::Nothing),
            None => Ok(Self::Folder(PathBuf::from("."))),
        }
    }

    /// The file that the frame went to.
    fn write(&mut self, frame: &RgbFrame) -> Result<Option<PathBuf>, Failure> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(format!("frame-{:08}.png", frame.index));
                image::save_buffer(
                    &path,
                    &frame.data,
                    frame.width,
                    frame.height,
                    image::ExtendedColorType::Rgb8,
                )
                .map_err(|error| {
                    Failure::input("OUTPUT_UNWRITABLE", format!("{}: {error}", path.display()))
                })?;
                Ok(Some(path))
            }
            Self::Raw(to, path) => {
                to.write_all(&frame.data).map_err(|e| unwritable(path, &e))?;
                Ok(Some(path.clone()))
            }
            Self::Nothing => Ok(None),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        match self {
            Self::Raw(to, path) => to.flush().map_err(|e| unwritable(path, &e)),
            Self::Folder(_) | Self::Nothing => Ok(()),
        }
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::input(
        "OUTPUT_UNWRITABLE",
        format!("cannot write {}: {error}", path.display()),
    )
}
