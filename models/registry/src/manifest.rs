//! `reelsight.json`: what a model wants from its host. Optional, and so is every field of it.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::RegistryError;

/// File name of the manifest in a model folder.
pub const MANIFEST_FILE: &str = "reelsight.json";

/// Policy of one model, beside the files that its publisher made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// Name to show; the folder's name otherwise.
    pub name: Option<String>,
    /// SPDX identifier; the card's front matter otherwise.
    pub license: Option<String>,
    /// Precision of all graphs (`fp32`, `fp16`, `q8`, `q4`, ...).
    pub precision: Option<String>,
    /// Precision of single graphs by their stem (`vision_encoder`), stronger than `precision`.
    pub precisions: BTreeMap<String, String>,
    /// Answers, compared without case and final full stop, that mean "the video does not show it".
    pub no_evidence: Vec<String>,
    /// Frames per second when the caller does not say.
    pub default_fps: Option<f64>,
    /// Frames when the caller does not say.
    pub default_max_frames: Option<usize>,
    /// Answer tokens when the caller does not say.
    pub default_max_tokens: Option<usize>,
    /// Longest prompt plus answer, when that is less than the configuration allows.
    pub context_tokens: Option<usize>,
    /// Which reference's bytes images get.
    pub image_backend: ImageBackend,
    /// Where text goes on behind a picture, for families with positions on three axes.
    pub mrope_text_restart: MropeTextRestart,
    /// Where the folder came from: a folder or `hf:ORG/NAME@commit`.
    pub source: Option<String>,
}

/// The two libraries behind the reference image processors, which differ in single bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageBackend {
    /// What transformers takes when torchvision is installed ("fast").
    #[default]
    Torchvision,
    /// Pillow and numpy ("slow").
    Pillow,
}

/// Two rules that exist for the position of text behind a picture or video.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MropeTextRestart {
    /// After the largest position on any axis: transformers.js, transformers before 5, and what models were trained
    /// with.
    #[default]
    MaxAll,
    /// After the larger of height and width, whatever the time axis reached: transformers 5.23.
    MaxHw,
}

impl Manifest {
    /// The manifest of the folder `root`, or the empty one.
    ///
    /// # Errors
    /// [`RegistryError::Corrupt`] when the file is there but is not a manifest.
    pub fn read(root: &Path) -> Result<Self, RegistryError> {
        let path = root.join(MANIFEST_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| RegistryError::corrupt(path, error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(RegistryError::io(path)(error)),
        }
    }
}
