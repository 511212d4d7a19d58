//! The command line of `frames` and `probe`.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs, ValueEnum};

use super::{
    SourceArgs,
    select::{RangeArgs, RuleArgs, SceneModel},
};
use crate::frames::NamePattern;

/// The options of [`RuleArgs`], of which one is given.
const RULES: [&str; 5] = ["fps", "count", "at", "every_keyframe", "scene"];

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("rule").required(true).args(RULES), after_help = EXAMPLES)]
pub(crate) struct FramesArgs {
    /// Video file, http(s) or s3 URL, or `-` for standard input.
    pub(crate) video: PathBuf,
    #[command(flatten)]
    pub(crate) rule: RuleArgs,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    #[command(flatten)]
    pub(crate) scene: SceneArgs,
    #[command(flatten)]
    pub(crate) pixels: PixelArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

const EXAMPLES: &str = "\
Examples:
  reelsight frames talk.mp4 --fps 1 --out frames/              one PNG per second
  reelsight frames talk.mp4 --at 3.5,1:02:07 --format jpeg --out stills/
  reelsight frames film.mkv --scene --contact-sheet shots.jpg   an overview, one picture per shot
  reelsight frames talk.mp4 --count 64 --size 336x336 --raw - | consumer
  reelsight frames talk.mp4 --every-keyframe --json            times and digests, no files

Without --out, --raw, --contact-sheet, --json and --jsonl, PNG files go into the current folder.";

/// How shot changes are found.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Which part")]
pub(crate) struct SceneArgs {
    /// What finds the cuts for --scene.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) scene_model: SceneModel,
    /// Folder that holds model folders, for --scene-model.
    #[arg(long, env = "REELSIGHT_MODEL_ROOT", hide_env_values = true)]
    pub(crate) model_root: Vec<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Pixels")]
pub(crate) struct PixelArgs {
    /// Stretch to exactly this size, for example `336x336`.
    #[arg(long, value_name = "WxH", value_parser = super::size)]
    pub(crate) size: Option<(u32, u32)>,
    /// Stretch to square pixels, as a player does: the height stays, the width follows the sample aspect ratio.
    #[arg(long, conflicts_with = "size")]
    pub(crate) square: bool,
    /// Scale straight from YUV: faster, close to but not the exact pixels (docs/benchmarks.md says how close).
    #[arg(long)]
    pub(crate) scale_in_yuv: bool,
    /// Decoder threads. Default: all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
}

/// Format of written pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PictureFormat {
    /// Lossless.
    #[default]
    Png,
    /// Lossy; see --quality.
    Jpeg,
    /// Lossless WebP.
    Webp,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Write pictures into this folder, made when it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Format of the pictures.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: PictureFormat,
    /// Quality of JPEG, 1 to 100; 90 by default. Colour is kept at full resolution.
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: Option<u8>,
    /// Names of the pictures, without the extension: {index} in the video, {number} in the selection, {pts}, {time}
    /// (00-01-02.345); {index:8} pads with zeros to 8 digits.
    #[arg(long, value_name = "PATTERN", default_value = "frame-{index:8}")]
    pub(crate) name: NamePattern,
    /// Write rgb24 frames back to back into this file; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) raw: Option<PathBuf>,
    /// Write one picture of all frames with their times; the extension (png, jpg, webp) decides the format.
    #[arg(long, value_name = "FILE")]
    pub(crate) contact_sheet: Option<PathBuf>,
    /// Columns of the contact sheet. Default: about as many as rows.
    #[arg(long, value_name = "N", requires = "contact_sheet", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) columns: Option<u32>,
    /// Width of a picture on the contact sheet.
    #[arg(long, value_name = "PIXELS", requires = "contact_sheet", default_value_t = 320, value_parser = clap::value_parser!(u32).range(32..=4096))]
    pub(crate) tile_width: u32,
    /// Print one JSON document: frames with index, exact time, sha256 of the RGB bytes, file; cuts; statistics.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the same as JSON lines: one per frame as soon as it is there, then one with the rest.
    #[arg(long, conflicts_with = "json")]
    pub(crate) jsonl: bool,
    /// Say on standard error what the work was: packets, intervals, seeks, time per stage.
    #[arg(long)]
    pub(crate) stats: bool,
}

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("rule").args(RULES))]
pub(crate) struct ProbeArgs {
    /// Video file, http(s) or s3 URL, or `-` for standard input.
    pub(crate) video: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw packets by time, size and kind into this SVG file, with the chosen frames marked.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// With a selection: also say what decoding it would take. Nothing is decoded, except for --scene.
    #[command(flatten)]
    pub(crate) rule: RuleArgs,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    #[command(flatten)]
    pub(crate) scene: SceneArgs,
    /// Decoder threads that the plan is made for. Default: all cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}
