//! Makes files with FFmpeg's command line and asks PyAV what is in them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use reelsight_decode::{
    DecodeLimits, DecodeOptions, Input, PacketIndex, PlanarFrame, index, read_frames, read_planes,
};
use reelsight_media::{CancelFlag, FrameSource as _, RgbFrame};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A folder for one test's files.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs FFmpeg's command line; `arguments` are split at spaces. Says why not, when it fails.
pub(crate) fn try_ffmpeg(arguments: &str, out: &Path) -> Result<(), String> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(out)
        .output()
        .expect("the tests make their files with the ffmpeg command: install it");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// [`try_ffmpeg`] into `folder/name`.
pub(crate) fn ffmpeg(folder: &Path, name: &str, arguments: &str) -> PathBuf {
    let out = folder.join(name);
    try_ffmpeg(arguments, &out).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    out
}

/// What PyAV decodes, samples and RGB; `None`, with a word, where PyAV is not installed.
pub(crate) fn reference(file: &Path) -> Option<Vec<Value>> {
    reference_of(&[file], &[])
}

/// What PyAV decodes of each file, samples only; `None` as above.
pub(crate) fn references(files: &[PathBuf]) -> Option<Vec<Vec<Value>>> {
    let paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let lines = reference_of(&paths, &["--planes"])?;
    let of = |file: &&Path| {
        let is_of = |line: &&Value| line["file"].as_str() == file.to_str();
        lines.iter().filter(is_of).cloned().collect()
    };
    Some(paths.iter().map(of).collect())
}

fn reference_of(files: &[&Path], options: &[&str]) -> Option<Vec<Value>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../../.venv/bin/python");
    let has_av = Command::new(&python)
        .args(["-c", "import av"])
        .output()
        .is_ok_and(|it| it.status.success());
    if !has_av {
        eprintln!("SKIPPED: no PyAV in .venv to compare with (make setup-test installs it)");
        return None;
    }
    let output = Command::new(python)
        .arg(root.join("tests/golden/reference.py"))
        .args(options)
        .args(files)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    Some(
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

pub(crate) fn input(file: &Path) -> Input {
    Input::Path(file.to_owned())
}

pub(crate) fn index_of(file: &Path) -> Arc<PacketIndex> {
    index(&input(file), &DecodeLimits::default(), &CancelFlag::new())
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

pub(crate) fn planes(
    file: &Path,
    index: &Arc<PacketIndex>,
    frames: &[u64],
    threads: usize,
) -> Vec<PlanarFrame> {
    let options = DecodeOptions {
        threads,
        ..DecodeOptions::default()
    };
    read_planes(&input(file), Arc::clone(index), frames.to_vec(), options)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

pub(crate) fn rgb(
    file: &Path,
    index: &Arc<PacketIndex>,
    frames: &[u64],
    options: DecodeOptions,
) -> Vec<RgbFrame> {
    let mut reader = read_frames(&input(file), Arc::clone(index), frames.to_vec(), options).unwrap();
    let mut out = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        out.push(frame);
    }
    if index.warnings.is_empty() && out.iter().all(|frame| !frame.damaged) {
        assert_eq!(
            reader.stats().redone,
            0,
            "{}: nothing is decoded twice",
            file.display()
        );
    }
    out
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A number below `below` from a linear congruential generator.
pub(crate) fn random(state: &mut u64, below: usize) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % below.max(1)
}
