//! Pictures as files.

use std::{
    fs::Permissions,
    io::{BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use image::{
    ExtendedColorType, ImageEncoder as _, ImageResult,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
};
use tempfile::NamedTempFile;

use crate::{args::PictureFormat, exit::Failure};

/// Quality of JPEG when nothing is said.
pub(crate) const JPEG_QUALITY: u8 = 90;

impl PictureFormat {
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }

    /// The format that a file's name asks for.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }

    /// Encodes packed RGB.
    fn encode(self, to: impl Write, rgb: &[u8], (width, height): (u32, u32), quality: u8) -> ImageResult<()> {
        let color = ExtendedColorType::Rgb8;
        match self {
            Self::Png => PngEncoder::new(to).write_image(rgb, width, height, color),
            Self::Jpeg => JpegEncoder::new_with_quality(to, quality).write_image(rgb, width, height, color),
            Self::Webp => WebPEncoder::new_lossless(to).write_image(rgb, width, height, color),
        }
    }
}

/// A file that appears under its name when it is complete, and not at all otherwise.
pub(crate) struct Pending {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Pending {
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // The process's umask takes away from these rights, as for any file that a person makes.
        let file = tempfile::Builder::new()
            .prefix(".reelsight-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .map_err(|error| unwritable(path, &error))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.to_owned(),
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file
            .write_all(bytes)
            .map_err(|error| unwritable(&self.path, &error))
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        let path = self.path;
        let file = self
            .file
            .into_inner()
            .map_err(|error| unwritable(&path, error.error()))?;
        file.persist(&path)
            .map(drop)
            .map_err(|error| unwritable(&path, &error.error))
    }
}

/// Writes packed RGB as a picture.
pub(crate) fn write(
    path: &Path,
    rgb: &[u8],
    size: (u32, u32),
    format: PictureFormat,
    quality: u8,
) -> Result<(), Failure> {
    let mut file = Pending::new(path)?;
    format
        .encode(&mut file.file, rgb, size, quality)
        .map_err(|error| unwritable(path, &error))?;
    file.finish()
}

pub(crate) fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::input(
        "OUTPUT_UNWRITABLE",
        format!("cannot write {}: {error}", path.display()),
    )
}
