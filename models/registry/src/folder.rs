//! One model folder: what is in it and which of its files are used.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    Digest, GraphSummary, Layout, Manifest, RegistryError, Role,
    layout::{precisions, suffix},
};

/// A complete model folder. Opening it reads configuration and graph headers, no weights.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    root: PathBuf,
    name: String,
    family: String,
    layout: Layout,
    precision: String,
    available: Vec<String>,
    graphs: BTreeMap<Role, GraphFile>,
    config: Value,
    manifest: Manifest,
    license: String,
}

/// A graph that is used.
#[derive(Debug, Clone)]
struct GraphFile {
    path: PathBuf,
    summary: GraphSummary,
}

impl ModelFolder {
    /// Detects what is in `path` and checks that everything the graphs refer to is there.
    ///
    /// # Errors
    /// [`RegistryError`]: each variant says what to do.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        if !path.is_dir() {
            return Err(RegistryError::NotFound {
                path: path.to_owned(),
            });
        }
        let layout = detect(path)?;
        if layout != Layout::ThreePart {
            let why =
                format!("the {layout} layout holds no vision encoder and decoder that can be run apart");
            return Err(RegistryError::Unsupported {
                path: path.to_owned(),
                why,
            });
        }
        let config = read_json(&path.join("config.json"))?;
        let manifest = Manifest::read(path)?;
        let family = config["model_type"].as_str().unwrap_or_default().to_owned();
        if family.is_empty() {
            return Err(RegistryError::corrupt(
                path.join("config.json"),
                "it has no model_type",
            ));
        }
        require(path, &["tokenizer.json".into()])?;
        let available = precisions(&graphs_dir(path));
        let (precision, graphs) = choose(path, &manifest, &available)?;
        let folder_name = path.canonicalize().map_err(RegistryError::io(path))?;
        let folder_name = folder_name
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        Ok(Self {
            name: manifest
                .name
                .clone()
                .or(folder_name)
                .unwrap_or_else(|| "model".into()),
            license: manifest.license.clone().unwrap_or_else(|| card_license(path)),
            root: path.to_owned(),
            family,
            layout,
            precision,
            available: available.into_iter().map(|(name, _)| name.to_owned()).collect(),
            graphs,
            config,
            manifest,
        })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Name of the manifest, or of the folder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `model_type` of the configuration, for example `smolvlm`.
    #[must_use]
    pub fn family(&self) -> &str {
        &self.family
    }

    /// Who wrote the folder.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Precision in use, of the decoder where the graphs differ.
    #[must_use]
    pub fn precision(&self) -> &str {
        &self.precision
    }

    /// Precisions of which at least one graph is there, best for a CPU first.
    #[must_use]
    pub fn available_precisions(&self) -> &[String] {
        &self.available
    }

    /// Path of the graph in use for `role`.
    ///
    /// # Panics
    /// Never: [`ModelFolder::open`] refuses a folder without all roles.
    #[must_use]
    pub fn graph_path(&self, role: Role) -> &Path {
        &self.graphs[&role].path
    }

    /// The optional graph that says what an answer rests on.
    #[must_use]
    pub fn grounding_path(&self) -> Option<PathBuf> {
        let path = graphs_dir(&self.root).join("grounding.onnx");
        path.is_file().then_some(path)
    }

    /// Header of the graph in use for `role`.
    #[must_use]
    pub fn graph(&self, role: Role) -> &GraphSummary {
        &self.graphs[&role].summary
    }

    /// `config.json`.
    #[must_use]
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// `reelsight.json`, or the empty manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Licence as the manifest or the card states it; `unknown` when neither does.
    #[must_use]
    pub fn license(&self) -> &str {
        &self.license
    }

    /// Another JSON file of the folder; `None` when it is not there.
    ///
    /// # Errors
    /// [`RegistryError::Corrupt`] when it is not JSON.
    pub fn json(&self, name: &str) -> Result<Option<Value>, RegistryError> {
        match read_json(&self.root.join(name)) {
            Ok(value) => Ok(Some(value)),
            Err(RegistryError::MissingFiles { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A text file of the folder; `None` when it is not there.
    ///
    /// # Errors
    /// [`RegistryError::Io`] when it cannot be read as UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<String>, RegistryError> {
        let path = self.root.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RegistryError::io(path)(error)),
        }
    }

    /// Bytes of the graphs in use and of their external data.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        let sizes = self
            .graph_files()
            .into_iter()
            .filter_map(|file| self.root.join(file).metadata().ok());
        sizes.map(|metadata| metadata.len()).sum()
    }

    /// Hashes the files in use and verifies `SHA256SUMS` where that names them. Reads all weights once.
    ///
    /// # Errors
    /// [`RegistryError::Corrupt`] when a file is not what `SHA256SUMS` says.
    pub fn digest(&self) -> Result<Digest, RegistryError> {
        let mut files = self.graph_files();
        let entries = std::fs::read_dir(&self.root).map_err(RegistryError::io(&self.root))?;
        for entry in entries {
            let path = entry.map_err(RegistryError::io(&self.root))?.path();
            let wanted = path
                .extension()
                .is_some_and(|ext| ext == "json" || ext == "jinja");
            if let Some(name) = path.file_name().filter(|_| wanted && path.is_file()) {
                files.push(name.into());
            }
        }
        files.sort();
        files.dedup();
        Digest::of(&self.root, &files)
    }

    /// Graphs in use and their external data, relative to the root.
    fn graph_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for GraphFile { path, summary } in self.graphs.values() {
            let relative = path.strip_prefix(&self.root).unwrap_or(path);
            let dir = relative.parent().unwrap_or(Path::new(""));
            files.extend(summary.external.keys().map(|location| dir.join(location)));
            files.push(relative.to_owned());
        }
        files.extend(
            self.grounding_path()
                .and_then(|path| Some(path.strip_prefix(&self.root).ok()?.to_owned())),
        );
        files.sort();
        files.dedup();
        files
    }
}

/// Graphs lie in `onnx/`, or beside the configuration.
fn graphs_dir(root: &Path) -> PathBuf {
    let inner = root.join("onnx");
    if inner.is_dir() { inner } else { root.to_owned() }
}

fn detect(root: &Path) -> Result<Layout, RegistryError> {
    if root.join("genai_config.json").is_file() {
        return Ok(Layout::GenAi);
    }
    let found = precisions(&graphs_dir(root));
    let has = |role| found.iter().any(|(_, roles)| roles.contains(&role));
    if has(Role::VisionEncoder) || has(Role::EmbedTokens) {
        return Ok(Layout::ThreePart);
    }
    if has(Role::Decoder)
        || ["model.onnx", "onnx/model.onnx"]
            .iter()
            .any(|file| root.join(file).is_file())
    {
        return Ok(Layout::TextOnly);
    }
    let why = if root.join("model.safetensors").is_file() {
        "it holds PyTorch weights only: export it to ONNX first"
    } else {
        "it holds no onnx/vision_encoder.onnx, onnx/embed_tokens.onnx and onnx/decoder_model_merged.onnx"
    };
    Err(RegistryError::Unsupported {
        path: root.to_owned(),
        why: why.into(),
    })
}

/// Picks a precision and opens its graphs.
fn choose(
    root: &Path,
    manifest: &Manifest,
    available: &[(&'static str, Vec<Role>)],
) -> Result<(String, BTreeMap<Role, GraphFile>), RegistryError> {
    if let Some(precision) = &manifest.precision {
        return Ok((precision.clone(), open_graphs(root, manifest, precision)?));
    }
    let complete = available
        .iter()
        .filter(|(_, roles)| roles.len() == Role::ALL.len());
    let mut refused = None;
    for (precision, _) in complete {
        match open_graphs(root, manifest, precision) {
            // Chunked prefill and follow-ups would change the answers: the last choice, not the first.
            Ok(graphs) if graphs[&Role::Decoder].summary.is_dynamically_quantized() => {
                refused.get_or_insert(Ok(((*precision).to_owned(), graphs)));
            }
            Ok(graphs) => return Ok(((*precision).to_owned(), graphs)),
            Err(error) => {
                refused.get_or_insert(Err(error));
            }
        }
    }
    refused.unwrap_or_else(|| {
        let precision = available.first().map_or("fp32", |(name, _)| *name);
        Ok((precision.to_owned(), open_graphs(root, manifest, precision)?))
    })
}

fn open_graphs(
    root: &Path,
    manifest: &Manifest,
    precision: &str,
) -> Result<BTreeMap<Role, GraphFile>, RegistryError> {
    let dir = graphs_dir(root);
    let mut graphs = BTreeMap::new();
    let mut files = Vec::new();
    for role in Role::ALL {
        let precision = manifest
            .precisions
            .get(role.stem())
            .map_or(precision, String::as_str);
        let suffix = suffix(precision).ok_or_else(|| RegistryError::Unsupported {
            path: root.to_owned(),
            why: format!("its manifest asks for precision {precision:?}, which does not exist"),
        })?;
        let path = dir.join(format!("{}{suffix}.onnx", role.stem()));
        files.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
        graphs.insert(role, path);
    }
    require(root, &files)?;
    let mut opened = BTreeMap::new();
    for (role, path) in graphs {
        opened.insert(
            role,
            GraphFile {
                summary: GraphSummary::read(&path)?,
                path,
            },
        );
    }
    require_external(root, &opened)?;
    Ok(opened)
}

/// External data must exist and be long enough, and must not lead out of the folder.
fn require_external(root: &Path, graphs: &BTreeMap<Role, GraphFile>) -> Result<(), RegistryError> {
    let mut files = Vec::new();
    for GraphFile { path, summary } in graphs.values() {
        let dir = path.parent().unwrap_or(root);
        for (location, needed) in &summary.external {
            let inside = Path::new(location)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !inside {
                return Err(RegistryError::corrupt(
                    path,
                    format!("its external data {location:?} lies outside"),
                ));
            }
            let file = dir.join(location);
            let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            match file.metadata() {
                Ok(metadata) if metadata.len() >= needed.min_bytes => {}
                Ok(metadata) => {
                    files.push(format!(
                        "{shown} (has {} of {} bytes)",
                        metadata.len(),
                        needed.min_bytes
                    ));
                }
                Err(_) => files.push(shown),
            }
        }
    }
    files.sort();
    files.dedup();
    if files.is_empty() {
        Ok(())
    } else {
        Err(RegistryError::MissingFiles {
            path: root.to_owned(),
            files,
        })
    }
}

fn require(root: &Path, files: &[PathBuf]) -> Result<(), RegistryError> {
    let missing = files.iter().filter(|file| !root.join(file).is_file());
    let files: Vec<_> = missing.map(|file| file.display().to_string()).collect();
    if files.is_empty() {
        Ok(())
    } else {
        Err(RegistryError::MissingFiles {
            path: root.to_owned(),
            files,
        })
    }
}

fn read_json(path: &Path) -> Result<Value, RegistryError> {
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
fn card_license(root: &Path) -> String {
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
