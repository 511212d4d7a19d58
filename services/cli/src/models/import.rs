//! `reelsight models import`: a folder or a hub's repository becomes a model that `--model` finds, at once or not at all.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use indicatif::ProgressStyle;
use reelsight_registry::{
    Listed, Manifest, ModelFolder, RegistryError, Selection, Staging, files_of, select,
};
use serde_json::json;

use crate::{
    args::ImportArgs,
    exit::{Failure, FailureKind},
    models::hub::{Hub, Repository, is_plain, is_repository},
    terminal,
};

/// The environment variable that holds a token when nothing else is said.
const TOKEN: &str = "HF_TOKEN";

pub(crate) fn run(args: &ImportArgs, roots: &[PathBuf], as_json: bool) -> Result<(), Failure> {
    let root = match roots.first() {
        Some(root) => root.clone(),
        None => user_root().ok_or_else(|| {
            Failure::usage("there is no home folder to import into: name one with --model-root")
        })?,
    };
    std::fs::create_dir_all(&root).map_err(|error| {
        let message = format!("{}: {error}", root.display());
        Failure::new(FailureKind::Setup, "OUTPUT_UNWRITABLE", message)
    })?;
    let imported = match args.source.strip_prefix("hf:") {
        Some(repository) => from_hub(args, &root, repository, as_json)?,
        None => from_folder(args, &root, Path::new(&args.source))?,
    };
    report(&imported, as_json);
    Ok(())
}

/// Where imported models lie when no root is configured.
pub(crate) fn user_root() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share"));
    let data = data.filter(|path| path.is_absolute()).or_else(home)?;
    Some(data.join("reelsight/models"))
}

/// A model that is in its place.
struct Imported {
    folder: ModelFolder,
    selection: Selection,
    source: String,
}

fn from_folder(args: &ImportArgs, root: &Path, source: &Path) -> Result<Imported, Failure> {
    // What is missing or mixed is said of the folder that the user knows, before anything is made.
    ModelFolder::open(source).map_err(unusable)?;
    let files = files_of(source).map_err(unusable)?;
    let shown = source.display().to_string();
    let selection = select(&shown, &files, args.precision.as_deref()).map_err(unusable)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => last_name(source)?,
    };
    let staging = Staging::begin(root, &name).map_err(unusable)?;
    let done = staging
        .take(source, &selection.files)
        .and_then(|()| staging.commit(&manifest(&name, &selection, None, &shown)));
    let folder = done.map_err(|error| {
        std::fs::remove_dir_all(root.join(format!(".import-{name}"))).ok();
        unusable(error)
    })?;
    Ok(Imported {
        folder,
        selection,
        source: shown,
    })
}

fn from_hub(args: &ImportArgs, root: &Path, repository: &str, as_json: bool) -> Result<Imported, Failure> {
    let (name, revision) = repository.split_once('@').unwrap_or((repository, "main"));
    if !is_repository(name) || !is_plain(revision) {
        return Err(Failure::usage(format!(
            "hf:{repository} is not hf:ORG/NAME or hf:ORG/NAME@REVISION"
        )));
    }
    let hub = Hub::new(token(args)?.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(FailureKind::Internal, "INTERNAL", error))?;
    let repository = runtime.block_on(hub.repository(name, revision))?;
    let selection = select(name, &repository.files, args.precision.as_deref()).map_err(unusable)?;
    let short = name.rsplit('/').next().unwrap_or(name).to_owned();
    let own = args.name.clone().unwrap_or(short);
    let staging = Staging::begin(root, &own).map_err(unusable)?;
    runtime.block_on(bring(&hub, &repository, &selection.files, &staging, as_json))?;
    let source = format!("hf:{name}@{}", repository.commit);
    let manifest = manifest(&own, &selection, repository.license.clone(), &source);
    Ok(Imported {
        folder: staging.commit(&manifest).map_err(unusable)?,
        selection,
        source,
    })
}

async fn bring(
    hub: &Hub,
    repository: &Repository,
    files: &[Listed],
    staging: &Staging,
    as_json: bool,
) -> Result<(), Failure> {
    let bar = terminal::progress(files.iter().map(|file| file.bytes).sum(), as_json);
    let style = "{bytes} of {total_bytes}, {bytes_per_sec}, {eta} left: {msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let before = AtomicU64::new(0);
    for file in files {
        bar.set_message(file.path.clone());
        let path = staging.path(&file.path).map_err(unusable)?;
        let seen = |bytes: u64| bar.set_position(before.load(Ordering::Relaxed) + bytes);
        hub.download(repository, file, &path, &seen).await?;
        before.fetch_add(file.bytes, Ordering::Relaxed);
        bar.set_position(before.load(Ordering::Relaxed));
    }
    bar.finish_and_clear();
    Ok(())
}

/// The token that was referred to; it is never an argument, where other users of the machine would see it.
fn token(args: &ImportArgs) -> Result<Option<String>, Failure> {
    if let Some(path) = &args.token_file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::input(
                "TOKEN_UNREADABLE",
                format!("--token-file {}: {error}", path.display()),
            )
        })?;
        return Ok(Some(text.trim().to_owned()));
    }
    match &args.token_env {
        Some(name) => std::env::var(name).map(Some).map_err(|_unset| {
            Failure::input("TOKEN_UNREADABLE", format!("--token-env {name}: it is not set"))
        }),
        None => Ok(std::env::var(TOKEN).ok().filter(|token| !token.trim().is_empty())),
    }
}

fn manifest(name: &str, selection: &Selection, license: Option<String>, source: &str) -> Manifest {
    Manifest {
        name: Some(name.to_owned()),
        license,
        precision: selection.precision.clone(),
        precisions: selection.precisions.clone(),
        source: Some(source.to_owned()),
        ..Manifest::default()
    }
}

fn last_name(path: &Path) -> Result<String, Failure> {
    let whole = path.canonicalize().ok();
    let name = whole.as_deref().and_then(Path::file_name);
    let name = name.map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| Failure::usage("the folder has no name: give one with --name"))
}

fn unusable(error: RegistryError) -> Failure {
    let reason = match error {
        RegistryError::NotFound { .. } => return Failure::input("MODEL_NOT_FOUND", error),
        RegistryError::Exists { .. } => return Failure::input("MODEL_EXISTS", error),
        RegistryError::MissingFiles { .. } => "MODEL_INCOMPLETE",
        RegistryError::Mixed { .. } => "MODEL_MIXED",
        RegistryError::Unsupported { .. } => "MODEL_UNSUPPORTED",
        _ => "MODEL_DAMAGED",
    };
    Failure::new(FailureKind::Setup, reason, error)
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn report(imported: &Imported, as_json: bool) {
    let Imported {
        folder,
        selection,
        source,
    } = imported;
    let (files, bytes) = (
        selection.files.len(),
        selection.files.iter().map(|file| file.bytes).sum::<u64>(),
    );
    if as_json {
        return terminal::print_json(&json!({
            "name": folder.name(), "path": folder.root(), "source": source, "layout": folder.layout().to_string(),
            "family": folder.family(), "precision": folder.precision(), "available": selection.available,
            "license": folder.license(), "files": files, "bytes": bytes,
        }));
    }
    println!(
        "imported {} ({}, {}, {}) from {source}: {files} files, {:.1} MB in {}",
        folder.name(),
        folder.layout(),
        folder.family(),
        folder.precision(),
        bytes as f64 / 1e6,
        folder.root().display()
    );
    if selection.available.len() > 1 {
        println!(
            "it also comes in: {} (--precision)",
            selection.available.join(", ")
        );
    }
    println!("next: reelsight models check {}", folder.root().display());
}
