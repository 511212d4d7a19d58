//! `reelsight models`: what `--model` finds, and whether it works.

use std::path::{Path, PathBuf};

use reelsight_registry::{CheckReport, ModelFolder, ModelSummary};
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
        ModelsCommand::Check { model } => check(&open(model, &roots)?, args.json),
    }
}

/// Where models are looked for: what was configured, else `models/zoo` above the binary and above the current folder.
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

#[expect(clippy::print_stdout, reason = "the command's result")]
fn check(folder: &ModelFolder, as_json: bool) -> Result<(), Failure> {
    let report: CheckReport = reelsight_registry::check(folder);
    let loads = crate::serve::load_engine(folder, crate::serve::engine_defaults()).map(|engine| {
        let info = engine.info().clone();
        engine.shutdown();
        info
    });
    if as_json {
        let checks: Vec<_> = report
            .checks
            .iter()
            .map(|c| json!({"what": c.what, "ok": c.ok, "detail": c.detail}))
            .collect();
        let loaded = loads.as_ref().ok().map(|info| {
            json!({"name": info.name, "family": info.family, "precision": info.precision,
                   "context_tokens": info.context_tokens, "tokens_per_frame": info.tokens_per_frame,
                   "kv_bytes_per_token": info.kv_bytes_per_token, "sha256": info.sha256})
        });
        let ok = report.ok() && loaded.is_some();
        terminal::print_json(&json!({"ok": ok, "checks": checks, "loaded": loaded}));
    } else {
        for check in &report.checks {
            println!(
                "{}  {}: {}",
                if check.ok { "ok  " } else { "FAIL" },
                check.what,
                check.detail
            );
        }
        match &loads {
            Ok(info) => println!(
                "ok    loads: {} ({}), {} tokens of context, {} per frame",
                info.name, info.family, info.context_tokens, info.tokens_per_frame
            ),
            Err(_) => println!("FAIL  loads"),
        }
    }
    loads?;
    if report.ok() {
        Ok(())
    } else {
        Err(Failure::new(
            FailureKind::Setup,
            "MODEL_DAMAGED",
            "the model folder failed its checks; fetch it again",
        ))
    }
}
