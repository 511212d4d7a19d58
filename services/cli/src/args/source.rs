//! Where a video comes from, for `frames` and `probe`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Source")]
pub(crate) struct SourceArgs {
    /// Folder in which packet indices are kept, so that a file is read through once only. Default:
    /// `reelsight/index` in the user's cache folder.
    #[arg(
        long,
        value_name = "DIR",
        env = "REELSIGHT_INDEX_CACHE",
        hide_env_values = true
    )]
    pub(crate) index_cache: Option<PathBuf>,
    /// Read the file through in any case, and keep nothing.
    #[arg(long, conflicts_with = "index_cache")]
    pub(crate) no_index_cache: bool,
    /// Host name or CIDR that a URL may lead to although its addresses are not global (loopback, private).
    #[arg(long, env = "REELSIGHT_URL_ALLOW")]
    pub(crate) url_allow: Vec<String>,
    /// Certificate authorities (PEM) that https URLs may be vouched for by, beside the web's.
    #[arg(long, value_name = "FILE", env = "REELSIGHT_URL_CA")]
    pub(crate) url_ca: Option<PathBuf>,
    /// File of the S3 stores that `s3://BUCKET/KEY` is read from (README, Frames).
    #[arg(long, value_name = "FILE", env = "REELSIGHT_S3_CONFIG")]
    pub(crate) s3_config: Option<PathBuf>,
    /// Decode on a GPU when a trial on this file shows the same pixels sooner. A GPU is used outside of the sandbox:
    /// for files that you trust.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) hardware: Hardware,
}

/// Who decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Hardware {
    /// The CPU.
    #[default]
    Off,
    /// NVDEC where it is right and quicker, else the CPU.
    Auto,
}
