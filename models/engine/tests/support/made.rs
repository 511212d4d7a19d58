//! A model with random weights and made frames, for tests inside and outside the crate.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
};

use reelsight_media::{MediaTime, Pts, RgbFrame, TimeBase};

pub(crate) const WIDTH: u32 = 64;
pub(crate) const HEIGHT: u32 = 48;
pub(crate) const FPS: u32 = 25;

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// A folder in the published layout with weights from a seed, `form` being the kind of decoder graph. Made once for
/// each state of the exporter's sources.
pub(crate) fn twin(form: &str) -> PathBuf {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut sources: Vec<_> = std::fs::read_dir(repository().join("models/training/reelsight_training"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "py"))
        .collect();
    sources.sort();
    let mut hasher = DefaultHasher::new();
    for source in sources {
        std::fs::read(source).unwrap().hash(&mut hasher);
    }
    let target = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(3)
        .unwrap()
        .join("tmp");
    let out = target.join(format!("twin-{form}-{:016x}", hasher.finish()));
    if !out.is_dir() {
        let part = target.join(format!("twin-{form}-{}.part", std::process::id()));
        std::fs::create_dir_all(&target).unwrap();
        let path = part.to_str().unwrap();
        let args = [
            "-m",
            "reelsight_training.export",
            "--random",
            "--seed",
            "0",
            "--decoder",
            form,
            "--out",
            path,
        ];
        run_python(&args);
        // Another test process may have been faster.
        if std::fs::rename(&part, &out).is_err() {
            std::fs::remove_dir_all(&part).unwrap();
        }
    }
    out
}

/// What the repository's Python prints.
pub(crate) fn run_python(args: &[&str]) -> String {
    let mut command = Command::new(repository().join(".venv/bin/python"));
    command
        .env("PYTHONPATH", repository().join("models/training"))
        .current_dir(repository());
    command.env("CUDA_VISIBLE_DEVICES", "").env("HF_HUB_OFFLINE", "1");
    let output = command
        .args(args)
        .output()
        .expect("run .venv/bin/python (make setup makes it)");
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Frame `index` of a made video: a bright square that wanders over a gradient. The same formula is in
/// `reference.py`.
pub(crate) fn frame(seed: u64, index: u64) -> RgbFrame {
    let mut data = Vec::with_capacity((WIDTH * HEIGHT * 3) as usize);
    let (left, top) = (
        (index * 3 + seed * 7) % u64::from(WIDTH - 16),
        (index + seed * 5) % u64::from(HEIGHT - 16),
    );
    for y in 0..u64::from(HEIGHT) {
        for x in 0..u64::from(WIDTH) {
            let inside = (left..left + 16).contains(&x) && (top..top + 16).contains(&y);
            let ground = [x * 3 + seed, y * 4 + index, (x + y + seed * 11) * 2];
            let square = [(seed * 53) % 256, (index * 17 + 90) % 256, 220];
            let pixel = if inside { square } else { ground };
            data.extend(pixel.map(|value| u8::try_from(value % 256).unwrap()));
        }
    }
    let base = TimeBase::new(1, FPS).unwrap();
    let time = MediaTime {
        pts: Pts(i64::try_from(index).unwrap()),
        base,
    };
    RgbFrame {
        width: WIDTH,
        height: HEIGHT,
        data: data.into(),
        index,
        time,
        damaged: false,
    }
}
