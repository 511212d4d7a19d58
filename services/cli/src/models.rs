//! `reelsight models`: what `--model` finds, and whether it works.

mod check;
mod hub;
mod import;
mod quantize;
mod self_test;

use std::path::{Path, PathBuf};

use reelsight_registry::{ModelFolder, ModelSummary};
use serde_json::json;

use crate::{
    args::{ModelsArgs, ModelsCommand},
    exit::{Failure, FailureKind},
    terminal,
};

pub(crate) fn run(args: &ModelsArgs) -> Result<(), Failure> {
    let roots = roots(&args.model_root);
    match &args.command {
        ModelsCommand::List => {
            list(&reelsight_registry::list(&roots), args.json);
            Ok(())
        }
        ModelsCommand::Import(import) => import::run(import, &args.model_root, args.json),
        ModelsCommand::Check { model } => check::run(&open(model, &roots)?, args.json),
        ModelsCommand::Quantize { model, to, out } => {
            quantize::run(&open(model, &roots)?, to, out.as_deref(), args.json)
        }
    }
}

/// Where models are looked for: what was configured, else `models/zoo` above the binary and above the current folder,
/// and where models are imported to.
pub(crate) fn roots(configured: &[PathBuf]) -> Vec<PathBuf> {
    if !configured.is_empty() {
        return configured.to_vec();
    }
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    let mut roots: Vec<PathBuf> = Vec::new();
    for start in starts.into_iter().flatten() {
        let zoo = start
            .ancestors()
            .map(|folder| folder.join("models/zoo"))
            .find(|zoo| zoo.is_dir());
        roots.extend(zoo.filter(|zoo| !roots.contains(zoo)));
    }
    roots.extend(import::user_root().filter(|root| root.is_dir()));
    roots
}

/// A folder as given, or a name under one of the roots.
pub(crate) fn open(model: &str, roots: &[PathBuf]) -> Result<ModelFolder, Failure> {
    let named = roots
        .iter()
        .map(|root| root.join(model))
        .find(|path| path.is_dir());
    let path = named.unwrap_or_else(|| PathBuf::from(model));
    if !path.is_dir() {
        let known: Vec<_> = reelsight_registry::list(roots)
            .into_iter()
            .map(|m| m.name)
            .collect();
        let message = format!(
            "no model named {model}; `reelsight models list` knows: {}",
            known.join(", ")
        );
        return Err(Failure::input("MODEL_NOT_FOUND", message));
    }
    open_folder(&path)
}

fn open_folder(path: &Path) -> Result<ModelFolder, Failure> {
    ModelFolder::open(path).map_err(|error| Failure::new(FailureKind::Setup, "MODEL_NOT_LOADED", error))
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn list(models: &[ModelSummary], as_json: bool) {
    if as_json {
        let rows: Vec<_> = models
            .iter()
            .map(|m| {
                json!({"name": m.name, "path": m.path, "family": m.family, "precision": m.precision,
                       "license": m.license, "weight_bytes": m.weight_bytes, "problem": m.problem})
            })
            .collect();
        return terminal::print_json(&json!({ "models": rows }));
    }
    for model in models {
        let state = model.problem.as_deref().unwrap_or("ready");
        let size = model.weight_bytes as f64 / 1e6;
        println!(
            "{:24} {:10} {:6} {size:8.1} MB  {}  {state}",
            model.name, model.family, model.precision, model.license
        );
    }
    if models.is_empty() {
        println!("no models found; name their folder with --model-root");
    }
}
