//! What `models list` and `models check` show.

use std::path::{Path, PathBuf};

use crate::{Dim, ModelFolder, Port, RegistryError, Role};

/// One folder under a models root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSummary {
    /// Name to give to `--model`.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// `model_type`; empty when the folder cannot be used.
    pub family: String,
    /// Precision that would be used; empty when the folder cannot be used.
    pub precision: String,
    /// Licence; empty when the folder cannot be used.
    pub license: String,
    /// Bytes of the graphs in use and their data.
    pub weight_bytes: u64,
    /// Why the folder cannot be used.
    pub problem: Option<String>,
}

/// One line of a [`CheckReport`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// What [`check`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

impl CheckReport {
    /// Whether every check went well.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// Model folders directly under each of `roots`, by name. A root that is a model folder itself counts as one.
#[must_use]
pub fn list(roots: &[PathBuf]) -> Vec<ModelSummary> {
    let mut folders = Vec::new();
    for root in roots {
        if looks_like_model(root) {
            folders.push(root.clone());
            continue;
        }
        let entries = std::fs::read_dir(root)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        folders.extend(
            entries
                .map(|entry| entry.path())
                .filter(|path| looks_like_model(path)),
        );
    }
    let mut summaries: Vec<_> = folders.iter().map(|path| summary(path)).collect();
    summaries.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    summaries
}

/// Looks at files, digests and graph headers of `folder`. Runs nothing.
#[must_use]
pub fn check(folder: &ModelFolder) -> CheckReport {
    let mut checks = vec![Check {
        what: "layout".into(),
        ok: true,
        detail: format!(
            "{}, {} in {}",
            folder.layout(),
            folder.family(),
            folder.precision()
        ),
    }];
    for role in Role::ALL {
        let Some(graph) = folder.graph(role) else {
            continue;
        };
        let inputs: Vec<_> = graph
            .inputs
            .iter()
            .filter(|port| !port.name.starts_with("past"))
            .map(shown)
            .collect();
        let cache = graph.inputs.len() - inputs.len();
        let cache = if cache > 0 {
            format!(" and {cache} cache tensors")
        } else {
            String::new()
        };
        let detail = format!("{}{cache}", inputs.join(", "));
        checks.push(Check {
            what: role.stem().into(),
            ok: true,
            detail,
        });
    }
    let stable = !folder.is_dynamically_quantized();
    checks.push(Check {
        what: "chunked prefill".into(),
        ok: stable,
        detail: if stable {
            "same logits in chunks as in one pass".into()
        } else {
            "the decoder quantises activations while it runs: answers depend on chunk sizes".into()
        },
    });
    checks.push(match folder.digest() {
        Ok(digest) => Check {
            what: "sha256".into(),
            ok: true,
            detail: if digest.verified {
                digest.sha256
            } else {
                format!("{} (no SHA256SUMS)", digest.sha256)
            },
        },
        Err(error) => Check {
            what: "sha256".into(),
            ok: false,
            detail: error.to_string(),
        },
    });
    CheckReport { checks }
}

fn shown(port: &Port) -> String {
    let dims = port.dims.iter().map(|dim| match dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Symbolic(name) if name.is_empty() => "?".to_owned(),
        Dim::Symbolic(name) => name.clone(),
    });
    format!("{}[{}]", port.name, dims.collect::<Vec<_>>().join(","))
}

fn looks_like_model(path: &Path) -> bool {
    // Imports that are not finished have hidden names.
    if path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'))
    {
        return false;
    }
    path.join("config.json").is_file() || path.join("genai_config.json").is_file()
}

fn summary(path: &Path) -> ModelSummary {
    match ModelFolder::open(path) {
        Ok(folder) => ModelSummary {
            name: folder.name().to_owned(),
            path: path.to_owned(),
            family: folder.family().to_owned(),
            precision: folder.precision().to_owned(),
            license: folder.license().to_owned(),
            weight_bytes: folder.weight_bytes(),
            problem: None,
        },
        Err(error) => ModelSummary {
            name: path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            path: path.to_owned(),
            family: String::new(),
            precision: String::new(),
            license: String::new(),
            weight_bytes: 0,
            problem: Some(problem(&error)),
        },
    }
}

fn problem(error: &RegistryError) -> String {
    error.to_string()
}
