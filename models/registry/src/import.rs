//! Which files of a published repository a model needs, and how a folder of them becomes a model at once or not at all.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    MANIFEST_FILE, Manifest, ModelFolder, RegistryError, Role,
    layout::{stems_with, suffix, suffixes},
};

const SUMS_FILE: &str = "SHA256SUMS";

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Path inside the repository, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest, hex, where the repository states it.
    pub sha256: Option<String>,
}

/// What of a repository is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Files to take.
    pub files: Vec<Listed>,
    /// Precision of the decoder; `None` where the repository has only one.
    pub precision: Option<String>,
    /// Precisions of graphs that are not there in that one, by stem.
    pub precisions: BTreeMap<String, String>,
    /// Precisions of the decoder that the repository has.
    pub available: Vec<String>,
}

/// Chooses among `files`: all configuration, and each graph in `precision` (the best for a CPU otherwise).
///
/// # Errors
/// [`RegistryError::Unsupported`] when the files are of no known layout or the precision is not among them.
pub fn select(source: &str, files: &[Listed], precision: Option<&str>) -> Result<Selection, RegistryError> {
    let unsupported = |why: String| RegistryError::Unsupported {
        path: PathBuf::from(source),
        why,
    };
    let has = |path: &str| files.iter().any(|file| file.path == path);
    if has(crate::genai::FILE) {
        let top =
            |file: &&Listed| !file.path.contains('/') && (is_settings(&file.path) || is_graph(&file.path));
        return Ok(Selection {
            files: files.iter().filter(top).cloned().collect(),
            precision: None,
            precisions: BTreeMap::new(),
            available: Vec::new(),
        });
    }
    let dir = if files.iter().any(|file| file.path.starts_with("onnx/")) {
        "onnx/"
    } else {
        ""
    };
    let graphs: BTreeMap<Role, Vec<(&str, String)>> = Role::ALL
        .into_iter()
        .map(|role| {
            let found = suffixes().filter_map(|(name, suffix)| {
                let stem = stems_with(role, suffix).find(|stem| has(&format!("{dir}{stem}.onnx")))?;
                Some((name, format!("{dir}{stem}.onnx")))
            });
            (role, found.collect())
        })
        .collect();
    let decoders = &graphs[&Role::Decoder];
    let available: Vec<_> = decoders.iter().map(|(name, _)| (*name).to_owned()).collect();
    let Some(best) = decoders.first() else {
        return Err(unsupported(nothing(files)));
    };
    let wanted = match precision {
        None => best.0,
        Some(wanted) if suffix(wanted).is_none() || !available.iter().any(|name| name == wanted) => {
            let all = available.join(", ");
            return Err(unsupported(format!(
                "it has no decoder in {wanted}, only in {all}"
            )));
        }
        Some(wanted) => wanted,
    };
    let mut chosen: Vec<&str> = Vec::new();
    let mut precisions = BTreeMap::new();
    for (role, found) in &graphs {
        let same = found.iter().find(|(name, _)| *name == wanted);
        let Some((name, path)) = same.or(found.first()) else {
            continue;
        };
        if *name != wanted {
            precisions.insert(role.stem().to_owned(), (*name).to_owned());
        }
        chosen.push(path);
    }
    let grounding = format!("{dir}grounding.onnx");
    if has(&grounding) {
        chosen.push(&grounding);
    }
    let taken = |file: &&Listed| {
        let settings = !file.path.contains('/') && is_settings(&file.path);
        let data = |graph: &&str| {
            let rest = file.path.strip_prefix(*graph);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("_data") || rest.starts_with(".data"))
        };
        settings || chosen.iter().any(data)
    };
    Ok(Selection {
        files: files.iter().filter(taken).cloned().collect(),
        precision: Some(wanted.to_owned()),
        precisions,
        available,
    })
}

/// What a repository has instead of graphs.
fn nothing(files: &[Listed]) -> String {
    let nested = files
        .iter()
        .filter_map(|file| file.path.strip_suffix(&format!("/{}", crate::genai::FILE)));
    let nested: Vec<_> = nested.collect();
    if !nested.is_empty() {
        return format!(
            "its onnxruntime-genai models lie in folders ({}): download one of them and import that",
            nested.join(", ")
        );
    }
    if files.iter().any(|file| file.path.ends_with(".safetensors")) {
        return "it holds PyTorch weights only: take an ONNX export of it (often ORG/NAME-ONNX), or export it".into();
    }
    "it holds no onnx/decoder_model_merged.onnx or onnx/model.onnx".into()
}

fn is_settings(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    [".json", ".jinja"].iter().any(|ext| lower.ends_with(ext))
        || lower == "readme.md"
        || lower.starts_with("license")
        || path == SUMS_FILE
}

fn is_graph(path: &str) -> bool {
    [".onnx", ".onnx_data", ".onnx.data", ".data"]
        .iter()
        .any(|ext| path.ends_with(ext))
}

/// A folder that is being filled. It has a hidden name, so that nothing lists it, and stays for the next attempt when
/// it is not committed.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    target: PathBuf,
}

impl Staging {
    /// Begins, or goes on with, the model `name` under `root`.
    ///
    /// # Errors
    /// [`RegistryError::Exists`] when there is one already, [`RegistryError::Unsupported`] for a name that is none.
    pub fn begin(root: &Path, name: &str) -> Result<Self, RegistryError> {
        let plain = |letter: char| letter.is_alphanumeric() || ['-', '_', '.'].contains(&letter);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(RegistryError::Unsupported {
                path: PathBuf::from(name),
                why: "a name has letters, digits, - _ and . and does not begin with a dot".into(),
            });
        }
        let target = root.join(name);
        if target.exists() {
            return Err(RegistryError::Exists { path: target });
        }
        let folder = root.join(format!(".import-{name}"));
        fs::create_dir_all(&folder).map_err(RegistryError::io(&folder))?;
        Ok(Self { folder, target })
    }

    /// Where `file` belongs; its folder is made.
    ///
    /// # Errors
    /// [`RegistryError::Corrupt`] for a path that leads elsewhere, [`RegistryError::Io`].
    pub fn path(&self, file: &str) -> Result<PathBuf, RegistryError> {
        let path = Path::new(file);
        let inside = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            return Err(RegistryError::corrupt(path, "it leads out of the folder"));
        }
        let path = self.folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(RegistryError::io(parent))?;
        }
        Ok(path)
    }

    /// Takes the files of a folder on this machine: hard links where that works, copies otherwise.
    ///
    /// # Errors
    /// [`RegistryError::Io`].
    pub fn take(&self, source: &Path, files: &[Listed]) -> Result<(), RegistryError> {
        for Listed { path, .. } in files {
            let (from, to) = (source.join(path), self.path(path)?);
            fs::remove_file(&to).ok();
            // What a link points at may be changed or moved by whoever owns it: weights of the hub's cache are links.
            let from = from.canonicalize().map_err(RegistryError::io(&from))?;
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).map_err(RegistryError::io(&from))?;
            }
        }
        Ok(())
    }

    /// Checks that the folder is a whole model, writes its manifest and digests, and lets it appear under its name.
    /// What the publisher's own `reelsight.json` says stays.
    ///
    /// # Errors
    /// What [`ModelFolder::open`] and [`ModelFolder::digest`] find wrong: then nothing appears.
    pub fn commit(self, manifest: &Manifest) -> Result<ModelFolder, RegistryError> {
        let Self { folder, target } = self;
        write_manifest(&folder, manifest)?;
        let opened = ModelFolder::open(&folder)?;
        opened.digest()?;
        let line = |file: &PathBuf| {
            let name = file.to_string_lossy().replace('\\', "/");
            Ok(format!("{}  {name}\n", crate::sha256(&folder.join(file))?))
        };
        let lines: Result<String, RegistryError> = opened.used_files()?.iter().map(line).collect();
        write(&folder.join(SUMS_FILE), lines?.as_bytes())?;
        fs::rename(&folder, &target).map_err(RegistryError::io(&target))?;
        ModelFolder::open(&target)
    }
}

/// Every file under `root`, for [`select`].
///
/// # Errors
/// [`RegistryError::NotFound`] when there is no folder, [`RegistryError::Io`].
pub fn files_of(root: &Path) -> Result<Vec<Listed>, RegistryError> {
    if !root.is_dir() {
        return Err(RegistryError::NotFound {
            path: root.to_owned(),
        });
    }
    let mut files = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(RegistryError::io(&folder))? {
            let path = entry.map_err(RegistryError::io(&folder))?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = format!("{prefix}{}", name.unwrap_or_default());
            let metadata = path.metadata().map_err(RegistryError::io(&path))?;
            if metadata.is_file() {
                files.push(Listed {
                    path: name,
                    bytes: metadata.len(),
                    sha256: None,
                });
            } else if metadata.is_dir() && prefix.is_empty() {
                folders.push((path, format!("{name}/")));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Writes what `manifest` says beside what the file says already; the file wins.
fn write_manifest(root: &Path, manifest: &Manifest) -> Result<(), RegistryError> {
    let path = root.join(MANIFEST_FILE);
    // Refuses a file that is no manifest before it is built upon.
    Manifest::read(root)?;
    let mut object: Map<String, Value> = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::corrupt(&path, error.to_string()))?,
        Err(_) => Map::new(),
    };
    let said = serde_json::to_value(manifest).unwrap_or_default();
    let default = serde_json::to_value(Manifest::default()).unwrap_or_default();
    for (key, value) in said.as_object().into_iter().flatten() {
        if *value != default[key] && !object.contains_key(key) {
            object.insert(key.clone(), value.clone());
        }
    }
    let text = serde_json::to_string_pretty(&object).unwrap_or_default();
    write(&path, format!("{text}\n").as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
    // A file that was linked in must not be written through.
    fs::remove_file(path).ok();
    let mut file = fs::File::create(path).map_err(RegistryError::io(path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(RegistryError::io(path))
}
