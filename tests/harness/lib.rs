//! Harness of the whole-product tests: the binary, clips from real encoders, and Python references.
//!
//! Tests that need something that is absent call [`skip`] and return: they say so, they never pass silently.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// The `reelsight` binary of the profile that the tests were built with (`make unit` builds it first).
///
/// # Errors
/// When it was not built.
pub fn binary() -> Result<PathBuf> {
    // target/<profile>/deps/<test> -> target/<profile>/reelsight
    let test = std::env::current_exe()?;
    let profile = test
        .ancestors()
        .nth(2)
        .context("test binaries live in target/<profile>/deps")?;
    let binary = profile.join("reelsight");
    ensure!(
        binary.is_file(),
        "{} is missing: cargo build --bin reelsight",
        binary.display()
    );
    Ok(binary)
}

/// Runs `reelsight` with `args` in the repository.
///
/// # Errors
/// When the process cannot be started.
pub fn reelsight(args: &[&str]) -> Result<Output> {
    let library = root().join(".onnxruntime/libonnxruntime.so");
    let binary = binary()?;
    Ok(Command::new(&binary)
        .args(args)
        .current_dir(root())
        // Not the cache of whoever runs the tests.
        .env("XDG_CACHE_HOME", binary.with_file_name("cache"))
        .env("ORT_DYLIB_PATH", library)
        .output()?)
}

/// Runs `reelsight` and parses the JSON document that it prints; gives the exit code with it.
///
/// # Errors
/// When standard output is not one JSON document.
pub fn reelsight_json(args: &[&str]) -> Result<(i32, Value)> {
    let output = reelsight(args)?;
    let code = output.status.code().context("ended by a signal")?;
    let text = String::from_utf8(output.stdout)?;
    let document = serde_json::from_str(&text).with_context(|| {
        format!(
            "not JSON: {text:?}; stderr: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    Ok((code, document))
}

/// Says why a test did not run.
#[expect(clippy::print_stderr, reason = "the reader of the test log must see it")]
pub fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}

/// Python with the references installed, if `make setup-test` has run.
#[must_use]
pub fn python() -> Option<PathBuf> {
    let python = root().join(".venv/bin/python");
    python.exists().then_some(python)
}

/// Real clips and published graphs beside the repository, if there are any.
#[must_use]
pub fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("REELSIGHT_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    path.is_dir().then_some(path)
}

/// Makes a clip with the `ffmpeg` command.
///
/// # Errors
/// When FFmpeg fails.
pub fn encode(path: &Path, source: &str, options: &[&str]) -> Result<()> {
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", source])
        .args(options)
        .arg(path)
        .status()
        .context("start ffmpeg")?;
    if !status.success() {
        bail!("ffmpeg failed to make {}", path.display());
    }
    Ok(())
}

/// The random-weight twin of the embedded model, made once per test binary by the exporter.
///
/// # Errors
/// When the exporter fails.
pub fn twin_model(folder: &Path) -> Result<PathBuf> {
    let python = python().context("no .venv: make setup-test")?;
    let model = folder.join("twin");
    let output = Command::new(python)
        .args([
            "-m",
            "reelsight_training.export",
            "--random",
            "--seed",
            "0",
            "--out",
        ])
        .arg(&model)
        .env("PYTHONPATH", root().join("models/training"))
        .output()?;
    ensure!(
        output.status.success(),
        "export failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(model)
}
