//! One model folder: what is in it and which of its files are used.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    Digest, GraphSummary, Layout, Manifest, RegistryError, Role,
    choose::{Chosen, GraphFile, choose},
    files::{card_license, read_json, require},
    genai::GenAi,
    layout::{detect, graphs_dir},
    mixed,
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
        let manifest = Manifest::read(path)?;
        let genai = match layout {
            Layout::GenAi => Some(GenAi::read(path)?),
            _ => None,
        };
        let config = match (read_json(&path.join("config.json")), &genai) {
            (Err(RegistryError::MissingFiles { .. }), Some(genai)) => genai.config()?,
            (config, _) => config?,
        };
        let family = config["model_type"].as_str().unwrap_or_default().to_owned();
        if family.is_empty() {
            return Err(RegistryError::corrupt(
                path.join("config.json"),
                "it has no model_type",
            ));
        }
        require(path, &["tokenizer.json".into()])?;
        let Chosen {
            precision,
            graphs,
            available,
        } = choose(path, layout, genai.as_ref(), &config, &manifest)?;
        mixed::check(path, &config, &graphs)?;
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
            available,
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

    /// Path of the graph in use for `role`; `None` when the model has none: a text model has no vision encoder, and a
    /// decoder that takes `input_ids` no embedding apart.
    #[must_use]
    pub fn graph_path(&self, role: Role) -> Option<&Path> {
        self.graphs.get(&role).map(|graph| &*graph.path)
    }

    /// The optional graph that says what an answer rests on.
    #[must_use]
    pub fn grounding_path(&self) -> Option<PathBuf> {
        let path = graphs_dir(&self.root).join("grounding.onnx");
        path.is_file().then_some(path)
    }

    /// Header of the graph in use for `role`; `None` as for [`ModelFolder::graph_path`].
    #[must_use]
    pub fn graph(&self, role: Role) -> Option<&GraphSummary> {
        self.graphs.get(&role).map(|graph| &graph.summary)
    }

    /// Whether the decoder quantises activations while it runs: its answers then depend on the size of chunks.
    #[must_use]
    pub fn is_dynamically_quantized(&self) -> bool {
        self.graph(Role::Decoder)
            .is_some_and(GraphSummary::is_dynamically_quantized)
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
        Digest::of(&self.root, &self.used_files()?)
    }

    /// Graphs in use with their data, and every configuration file, relative to the root.
    pub(crate) fn used_files(&self) -> Result<Vec<PathBuf>, RegistryError> {
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
        Ok(files)
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
