//! Which graphs of a folder are used: all that the model needs, in the best precision that is complete.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    GraphSummary, Layout, Manifest, RegistryError, Role,
    files::{complete, require},
    genai::GenAi,
    layout::{graph_file, graphs_dir, precisions, suffix},
};

/// A graph that is used.
#[derive(Debug, Clone)]
pub(crate) struct GraphFile {
    pub(crate) path: PathBuf,
    pub(crate) summary: GraphSummary,
}

pub(crate) type Graphs = BTreeMap<Role, GraphFile>;

/// The graphs in use.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// Of the decoder where graphs differ.
    pub(crate) precision: String,
    pub(crate) graphs: Graphs,
    /// Precisions of which at least one graph is there, best for a CPU first.
    pub(crate) available: Vec<String>,
}

pub(crate) fn choose(
    root: &Path,
    layout: Layout,
    genai: Option<&GenAi>,
    config: &Value,
    manifest: &Manifest,
) -> Result<Chosen, RegistryError> {
    if let Some(genai) = genai {
        let graphs = open(root, genai.graphs(root))?;
        let precision = GenAi::precision(&graphs).to_owned();
        return Ok(Chosen {
            available: vec![precision.clone()],
            precision,
            graphs,
        });
    }
    let found = precisions(&graphs_dir(root));
    let roles = roles(layout, config, &found);
    let (precision, graphs) = best(root, manifest, &roles, &found)?;
    Ok(Chosen {
        precision,
        graphs,
        available: found.into_iter().map(|(name, _)| name.to_owned()).collect(),
    })
}

/// What the model needs: eyes when its configuration has them or their graph is there, an embedding when that is apart.
fn roles(layout: Layout, config: &Value, found: &[(&str, Vec<Role>)]) -> Vec<Role> {
    if layout == Layout::ThreePart || config["vision_config"].is_object() {
        return Role::ALL.to_vec();
    }
    let has = |role| found.iter().any(|(_, roles)| roles.contains(&role));
    let embedding = has(Role::EmbedTokens).then_some(Role::EmbedTokens);
    embedding.into_iter().chain([Role::Decoder]).collect()
}

/// Picks a precision and opens its graphs.
fn best(
    root: &Path,
    manifest: &Manifest,
    roles: &[Role],
    found: &[(&'static str, Vec<Role>)],
) -> Result<(String, Graphs), RegistryError> {
    let graphs = |precision: &str| open(root, files(root, manifest, roles, precision)?);
    if let Some(precision) = &manifest.precision {
        return Ok((precision.clone(), graphs(precision)?));
    }
    let complete = found
        .iter()
        .filter(|(_, there)| roles.iter().all(|role| there.contains(role)));
    let mut refused = None;
    for (precision, _) in complete {
        match graphs(precision) {
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
        let precision = found.first().map_or("fp32", |(name, _)| *name);
        Ok((precision.to_owned(), graphs(precision)?))
    })
}

/// The file of each role in `precision`, or in that which the manifest names for it.
fn files(
    root: &Path,
    manifest: &Manifest,
    roles: &[Role],
    precision: &str,
) -> Result<BTreeMap<Role, PathBuf>, RegistryError> {
    let mut files = BTreeMap::new();
    for &role in roles {
        let precision = manifest
            .precisions
            .get(role.stem())
            .map_or(precision, String::as_str);
        let suffix = suffix(precision).ok_or_else(|| RegistryError::Unsupported {
            path: root.to_owned(),
            why: format!("its manifest asks for precision {precision:?}, which does not exist"),
        })?;
        files.insert(role, graph_file(&graphs_dir(root), role, suffix));
    }
    Ok(files)
}

fn open(root: &Path, files: BTreeMap<Role, PathBuf>) -> Result<Graphs, RegistryError> {
    let names = files
        .values()
        .map(|path| path.strip_prefix(root).unwrap_or(path).to_owned());
    require(root, &names.collect::<Vec<_>>())?;
    let mut graphs = BTreeMap::new();
    for (role, path) in files {
        let summary = GraphSummary::read(&path)?;
        graphs.insert(role, GraphFile { path, summary });
    }
    require_external(root, &graphs)?;
    Ok(graphs)
}

/// External data must exist and be long enough, and must not lead out of the folder.
fn require_external(root: &Path, graphs: &Graphs) -> Result<(), RegistryError> {
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
    complete(root, files)
}
