//! The command line, in one place.

mod frames;
mod generation;
mod select;
mod source;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand};

pub(crate) use frames::{FramesArgs, OutputArgs, PictureFormat, ProbeArgs, SceneArgs};
pub(crate) use generation::GenerationArgs;
pub(crate) use select::{RuleArgs, SceneModel};
pub(crate) use source::{Hardware, SourceArgs};

/// Ask a video what is in it; serve the answer over gRPC.
///
/// Exit codes: 0 success, 1 internal failure, 2 wrong usage, 3 the input cannot be used, 4 busy or unreachable,
/// 5 something is not installed, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "reelsight", version)]
pub(crate) struct Args {
    /// Log filter, for example `info` or `reelsight_engine=debug`. Logs go to standard error.
    #[arg(long, global = true, env = "REELSIGHT_LOG", default_value = "warn,ort=error")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve questions about videos over gRPC.
    Serve(ServeArgs),
    /// Ask one question about a video file or URL.
    Ask(AskArgs),
    /// Get exactly the frames that you name out of a video.
    Frames(FramesArgs),
    /// Look into a video file: tracks, groups of pictures, references, and what a selection would cost.
    Probe(ProbeArgs),
    /// List or check model folders.
    Models(ModelsArgs),
    /// Say what is installed, what really loads, and which command fixes what is missing.
    Doctor(DoctorArgs),
    /// Decode for the process that started this one, locked in. Not for people.
    #[command(hide = true)]
    DecodeWorker,
}

impl Command {
    /// Whether standard output must hold one JSON document, failures included.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Serve(_) | Self::DecodeWorker => false,
            Self::Ask(args) => args.json,
            Self::Frames(args) => args.output.json || args.output.jsonl,
            Self::Probe(args) => args.json,
            Self::Models(args) => args.json,
            Self::Doctor(args) => args.json,
        }
    }
}

/// Where models are found.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ModelArgs {
    /// Model name under the model roots, or a model folder.
    #[arg(long, env = "REELSIGHT_MODEL", default_value = "reelsight-tiny")]
    pub(crate) model: String,
    /// Folder that holds model folders. Default: `models/zoo` beside the binary or above the current directory.
    #[arg(long, env = "REELSIGHT_MODEL_ROOT")]
    pub(crate) model_root: Vec<PathBuf>,
    /// Threads inside each ONNX Runtime session. Default: half of the cores, because decoding runs beside it.
    #[arg(long, env = "REELSIGHT_INTRA_THREADS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) intra_threads: Option<u16>,
    /// Where graphs run: `cpu`, `cuda`, or `auto` for CUDA where it loads.
    #[arg(long, env = "REELSIGHT_PROVIDER", default_value = "cpu", value_parser = ["auto", "cpu", "cuda"])]
    pub(crate) provider: String,
    /// Run decode, encode and prefill one after another, to measure what the overlap brings.
    #[arg(long)]
    pub(crate) no_overlap: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    /// Address of the gRPC API. Without authentication only loopback is accepted.
    #[arg(long, env = "REELSIGHT_LISTEN", default_value = "127.0.0.1:50051")]
    pub(crate) listen: SocketAddr,
    /// Address of the admin API; off by default.
    #[arg(long, env = "REELSIGHT_ADMIN_LISTEN")]
    pub(crate) admin_listen: Option<SocketAddr>,
    /// Serve addresses other than loopback although there is no authentication.
    #[arg(long)]
    pub(crate) insecure_listen: bool,
    /// Uploads, the database and temporary files live here.
    #[arg(long, env = "REELSIGHT_DATA_DIR", default_value = ".data")]
    pub(crate) data_dir: PathBuf,
    /// Read-only folder whose files clients may name in `server_path`; repeat for several. None by default.
    #[arg(long, env = "REELSIGHT_MEDIA_ROOT")]
    pub(crate) media_root: Vec<PathBuf>,
    /// Host name or CIDR that URL sources may reach although its addresses are not global (loopback, private).
    #[arg(long, env = "REELSIGHT_URL_ALLOW")]
    pub(crate) url_allow: Vec<String>,
    /// Certificate authorities (PEM) that https sources may be vouched for by, beside the web's.
    #[arg(long, value_name = "FILE", env = "REELSIGHT_URL_CA")]
    pub(crate) url_ca: Option<PathBuf>,
    /// File of the S3 stores that `s3://BUCKET/KEY` is read from (README, Frames).
    #[arg(long, value_name = "FILE", env = "REELSIGHT_S3_CONFIG")]
    pub(crate) s3_config: Option<PathBuf>,
    /// Decode URLs, uploads and inline videos although this system cannot lock decoders in (see `reelsight doctor`).
    #[arg(long)]
    pub(crate) allow_unsandboxed: bool,
    /// Asks that run at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) max_active: u16,
    /// Asks that wait beyond those; one more is refused with `RESOURCE_EXHAUSTED`.
    #[arg(long, default_value_t = 32)]
    pub(crate) max_queued: u16,
    /// Bytes of KV cache that running asks may take room for; those that do not fit beside others wait.
    #[arg(long, value_name = "BYTES", default_value_t = 2 << 30)]
    pub(crate) kv_bytes: usize,
    /// Bytes of KV cache at rest, in memory: sessions, and videos that were asked about.
    #[arg(long, value_name = "BYTES", default_value_t = 512 << 20)]
    pub(crate) kv_cache_bytes: usize,
    /// Bytes of KV cache at rest in files below the data directory, which survive a restart; 0 keeps none.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) kv_disk_bytes: u64,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AskArgs {
    /// Video file, or an http(s) or s3 URL.
    pub(crate) video: String,
    /// The question, in plain words.
    pub(crate) question: String,
    /// Ask a running server, for example `127.0.0.1:50051`; without it the engine runs in this process.
    #[arg(long)]
    pub(crate) server: Option<String>,
    /// Print one JSON document: answer, citations, usage, sampling.
    #[arg(long)]
    pub(crate) json: bool,
    /// Frames per second to look at; the model's own default otherwise.
    #[arg(long, value_parser = positive)]
    pub(crate) fps: Option<f64>,
    /// At most this many frames.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_frames: Option<u32>,
    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
    /// Write what the scheduler did when as a Chrome trace (Perfetto shows it); in-process asks only.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub(crate) trace: Option<PathBuf>,
    /// Give up after this long, for example `30s`.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<std::time::Duration>,
    /// A URL's host name or CIDR that may be reached although it is not global (in-process asks only).
    #[arg(long)]
    pub(crate) url_allow: Vec<String>,
    /// Certificate authorities (PEM) that https sources may be vouched for by, beside the web's.
    #[arg(long, value_name = "FILE", env = "REELSIGHT_URL_CA")]
    pub(crate) url_ca: Option<PathBuf>,
    /// File of the S3 stores that `s3://BUCKET/KEY` is read from (README, Frames).
    #[arg(long, value_name = "FILE", env = "REELSIGHT_S3_CONFIG")]
    pub(crate) s3_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
    /// Print one JSON document.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Folder that holds model folders.
    #[arg(long, global = true, env = "REELSIGHT_MODEL_ROOT")]
    pub(crate) model_root: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Models that `--model` finds by name.
    List,
    /// Make a folder, or a repository of a hub, a model that `--model` finds.
    Import(ImportArgs),
    /// Verify files and digests, load the graphs and run them once.
    Check {
        /// Model name or folder.
        #[arg(default_value = "reelsight-tiny")]
        model: String,
    },
    /// Write a folder with fewer bits per weight, and say what that brings and costs. Needs Python packages.
    ///
    /// Weights only. Dynamic int8, whose answers depend on what else is in a run, is not offered.
    Quantize {
        /// Model name or folder, with graphs in 32 bits.
        model: String,
        /// `q8` is close to the original; `q4` is smaller and differs more.
        #[arg(long, value_parser = ["q4", "q8"])]
        to: String,
        /// New folder. Default: beside the model, with the precision in its name.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ImportArgs {
    /// A folder, or `hf:ORG/NAME[@REVISION]` from the hub at `HF_ENDPOINT`.
    pub(crate) source: String,
    /// Name to give to `--model`. Default: the last part of the source.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Precision of the graphs: fp32, fp16, q8, q4, ... Default: the best for a CPU that is there.
    #[arg(long)]
    pub(crate) precision: Option<String>,
    /// Environment variable that holds the hub's token. Default: `HF_TOKEN`, when it is set.
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) token_env: Option<String>,
    /// File that holds the hub's token.
    #[arg(long)]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("must be a number above 0".to_owned()),
    }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let parsed = text
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match parsed {
        Some((w, h)) if (1..=16_384).contains(&w) && (1..=16_384).contains(&h) => Ok((w, h)),
        _ => Err("must be WIDTHxHEIGHT with sides from 1 to 16384, for example 336x336".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn sizes_and_rates_are_checked_at_the_door() {
        assert_eq!(size("336x224"), Ok((336, 224)));
        for bad in ["336", "0x5", "5x", "-1x4", "20000x2", "axb"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(positive(bad).is_err(), "{bad}");
        }
    }
}
