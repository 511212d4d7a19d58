//! sha256 over a folder's files, and the verification of `SHA256SUMS`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::RegistryError;

const SUMS_FILE: &str = "SHA256SUMS";

/// What a folder's bytes amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// sha256 over the lines `<sha256>  <path>` of the files, sorted by path; hex.
    pub sha256: String,
    /// Whether `SHA256SUMS` was there (and agreed).
    pub verified: bool,
}

impl Digest {
    /// Hashes `files` (relative to `root`) and compares them with `SHA256SUMS` where that names them.
    pub(crate) fn of(root: &Path, files: &[PathBuf]) -> Result<Self, RegistryError> {
        let sums = read_sums(root)?;
        let mut lines = BTreeMap::new();
        for file in files {
            let name = file.to_string_lossy().replace('\\', "/");
            let hash = sha256(&root.join(file))?;
            if let Some(expected) = sums.as_ref().and_then(|sums| sums.get(&name))
                && *expected != hash
            {
                let why = format!("its sha256 is {hash}, {SUMS_FILE} says {expected}: download it again");
                return Err(RegistryError::corrupt(root.join(file), why));
            }
            lines.insert(name, hash);
        }
        let mut all = Sha256::new();
        for (name, hash) in &lines {
            all.update(format!("{hash}  {name}\n"));
        }
        Ok(Self {
            sha256: hex::encode(all.finalize()),
            verified: sums.is_some(),
        })
    }
}

/// `SHA256SUMS` as sha256sum writes it, by path; `None` when there is none.
fn read_sums(root: &Path) -> Result<Option<BTreeMap<String, String>>, RegistryError> {
    let path = root.join(SUMS_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RegistryError::io(path)(error)),
    };
    let sums = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let (hash, name) = line.split_once(' ')?;
        let name = name.trim_start_matches([' ', '*']).trim_start_matches("./");
        Some((name.to_owned(), hash.to_ascii_lowercase()))
    });
    let sums: Option<BTreeMap<_, _>> = sums.collect();
    sums.map(Some)
        .ok_or_else(|| RegistryError::corrupt(path, "a line is not `<sha256>  <path>`"))
}

/// sha256 of a file, hex.
///
/// # Errors
/// [`RegistryError::Io`].
pub fn sha256(path: &Path) -> Result<String, RegistryError> {
    let mut file = File::open(path).map_err(RegistryError::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(RegistryError::io(path))?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}
