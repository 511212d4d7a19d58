//! `reelsight models quantize`: fewer bits for the weights, by onnxruntime's own tools in Python.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use reelsight_registry::ModelFolder;
use serde_json::Value;

use crate::{
    exit::{Failure, FailureKind},
    terminal,
};

/// The tool itself; the binary carries it, Python only brings the packages.
const SCRIPT: &str = include_str!("../../../../models/training/convert/bits.py");
/// How the script says that a package is not installed.
const PACKAGES_MISSING: i32 = 3;
const INSTALL: &str = "python3 -m venv .venv && .venv/bin/python -m pip install numpy==2.4.6 onnx==1.23.2 \
                       onnxruntime==1.31.1 onnx-ir==1.1.0 tokenizers==0.23.3";

/// Writes `folder` with weights of `precision` (`q4`, `q8`) to `out` and reports what that brought and cost.
pub(crate) fn run(
    folder: &ModelFolder,
    precision: &str,
    out: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    let root = folder.root();
    let out = out.map_or_else(|| beside(root, precision), Path::to_owned);
    if out.exists() {
        let message = format!(
            "{} is there already: remove it or name another --out",
            out.display()
        );
        return Err(Failure::input("OUTPUT_EXISTS", message));
    }
    let python = python();
    let report = call(&python, root, precision, &out).inspect_err(|_| discard(&out))?;
    if as_json {
        terminal::print_json(&report);
    } else {
        print(&report);
    }
    Ok(())
}

/// `REELSIGHT_PYTHON`, else the virtual environment that set-up makes, else whatever is on the path.
fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("REELSIGHT_PYTHON").filter(|value| !value.is_empty()) {
        return python.into();
    }
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    let mut folders = starts.iter().flatten().flat_map(|start| start.ancestors());
    folders
        .find_map(|folder| {
            let python = folder.join(".venv/bin/python");
            python.is_file().then_some(python)
        })
        .unwrap_or_else(|| "python3".into())
}

fn call(python: &Path, root: &Path, precision: &str, out: &Path) -> Result<Value, Failure> {
    let setup = |message: String| Failure::new(FailureKind::Setup, "PYTHON_NOT_READY", message);
    let mut child = Command::new(python)
        .arg("-")
        .args(["--to", precision, "--folder"])
        .arg(root)
        .arg("--out")
        .arg(out)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| setup(format!("start {}: {error}; {INSTALL}", python.display())))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A Python that dies at once says why by its exit status.
        stdin.write_all(SCRIPT.as_bytes()).ok();
    }
    let output = child
        .wait_with_output()
        .map_err(|error| setup(format!("wait for {}: {error}", python.display())))?;
    if output.status.code() == Some(PACKAGES_MISSING) {
        let python = python.display();
        return Err(setup(format!(
            "{python} lacks packages; install them with: {INSTALL}"
        )));
    }
    if !output.status.success() {
        let message = format!("quantising {} failed; the lines above say why", root.display());
        return Err(Failure::input("NOT_QUANTIZED", message));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(FailureKind::Internal, "NOT_QUANTIZED", error))
}

fn beside(root: &Path, precision: &str) -> PathBuf {
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned());
    root.with_file_name(format!("{}-{precision}", name.unwrap_or_else(|| "model".into())))
}

/// Half a model must not be found by name.
fn discard(out: &Path) {
    if let Err(error) = std::fs::remove_dir_all(out) {
        tracing::debug!(path = %out.display(), %error, "nothing to remove");
    }
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn print(report: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    println!("{}", report["folder"].as_str().unwrap_or_default());
    for (graph, bytes) in report["bytes"].as_object().into_iter().flatten() {
        let (before, after) = (number(&bytes["before"]) / 1e6, number(&bytes["after"]) / 1e6);
        println!("  {graph:22} {before:9.1} MB -> {after:9.1} MB");
    }
    let pace = &report["tokens_per_second"];
    println!(
        "  decode                 {:9.1} /s -> {:9.1} /s",
        number(&pace["fp32"]),
        number(&pace["quantised"])
    );
    println!(
        "  divergence from fp32   mean KL {:.5}, largest {:.5}; same likeliest token {:.1} % of {} along {} prompts",
        number(&report["kl_mean"]),
        number(&report["kl_max"]),
        number(&report["argmax_equal"]) * 100.0,
        report["tokens"],
        report["prompts"]
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_lies_beside_its_origin() {
        assert_eq!(beside(Path::new("zoo/tiny"), "q8"), Path::new("zoo/tiny-q8"));
        assert_eq!(beside(Path::new("/m/tiny/"), "q4"), Path::new("/m/tiny-q4"));
    }
}
