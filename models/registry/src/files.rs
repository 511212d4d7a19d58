//! Files of a folder, and what is said when one is not there.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::RegistryError;

/// Names every file of `files` that is not under `root`.
pub(crate) fn require(root: &Path, files: &[PathBuf]) -> Result<(), RegistryError> {
    let missing = files.iter().filter(|file| !root.join(file).is_file());
    complete(root, missing.map(|file| file.display().to_string()).collect())
}

/// An error that names `missing` files, when there are any.
pub(crate) fn complete(root: &Path, mut missing: Vec<String>) -> Result<(), RegistryError> {
    missing.sort();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    Err(RegistryError::MissingFiles {
        path: root.to_owned(),
        files: missing,
    })
}

pub(crate) fn read_json(path: &Path) -> Result<Value, RegistryError> {
    let bytes = std::fs::read(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let root = path.parent().unwrap_or(path).to_owned();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            RegistryError::MissingFiles {
                path: root,
                files: name.into_iter().collect(),
            }
        } else {
            RegistryError::io(path)(error)
        }
    })?;
    serde_json::from_slice(&bytes).map_err(|error| RegistryError::corrupt(path, error.to_string()))
}

/// `license:` of the card's front matter.
pub(crate) fn card_license(root: &Path) -> String {
    let card = std::fs::read_to_string(root.join("README.md")).unwrap_or_default();
    let front = card
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---"))
        .map_or("", |(front, _)| front);
    let line = front.lines().find_map(|line| line.strip_prefix("license:"));
    line.map_or_else(
        || "unknown".to_owned(),
        |license| license.trim().trim_matches('"').to_owned(),
    )
}
