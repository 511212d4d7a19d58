//! Pools over this test program, and clips made by ffmpeg.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use reelsight_decode::{DecodeError, DecodeLimits, DecodeOptions, Input, PacketIndex};
use reelsight_media::{CancelFlag, RgbFrame};
use reelsight_worker::{WorkerOptions, WorkerPool, WorkerReader};

/// Set in workers only.
pub(crate) const AS_WORKER: &str = "REELSIGHT_TEST_WORKER";

pub(crate) fn options() -> WorkerOptions {
    WorkerOptions {
        arguments: ["decode_worker", "--exact", "--nocapture", "--test-threads=1"]
            .map(Into::into)
            .to_vec(),
        environment: vec![(AS_WORKER.into(), "1".into())],
        workers: 2,
        ..WorkerOptions::default()
    }
}

pub(crate) fn pool() -> WorkerPool {
    WorkerPool::start(options()).unwrap()
}

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A file that ffmpeg made.
pub(crate) fn ffmpeg(folder: &Path, name: &str, arguments: &str) -> PathBuf {
    let path = folder.join(name);
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    path
}

/// 8 s of 720p that take a while to decode.
pub(crate) fn slow_clip(folder: &Path) -> PathBuf {
    ffmpeg(
        folder,
        "slow.mp4",
        "-f lavfi -i testsrc2=s=1280x720:r=25:d=8 -c:v libx264 -preset ultrafast -g 50 -pix_fmt yuv420p",
    )
}

pub(crate) fn index(pool: &WorkerPool, input: &Input) -> Result<Arc<PacketIndex>, DecodeError> {
    pool.index(input, &DecodeLimits::default(), &CancelFlag::new())
}

/// A reader of every frame.
pub(crate) fn reader(pool: &WorkerPool, file: &Path, options: &DecodeOptions) -> WorkerReader {
    let input = Input::Path(file.to_owned());
    let index = index(pool, &input).unwrap();
    let all = (0..index.timeline.len() as u64).collect();
    pool.read_frames(&input, index, all, options).unwrap()
}

/// Everything that a reader gives.
pub(crate) fn rest(reader: &mut WorkerReader) -> Result<Vec<RgbFrame>, DecodeError> {
    let mut frames = Vec::new();
    while let Some(frame) = reader.try_next()? {
        frames.push(frame);
    }
    Ok(frames)
}

pub(crate) fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Descriptors of this process.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Children of this process, zombies too.
pub(crate) fn children() -> Vec<u32> {
    let us = std::process::id().to_string();
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned())
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| parent(pid).is_some_and(|parent| parent == us))
        .collect()
}
