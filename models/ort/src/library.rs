//! Where the shared library is.

use std::path::{Path, PathBuf};

use crate::OrtError;

const FILE: &str = "libonnxruntime.so";
const SETUP_DIR: &str = ".onnxruntime";

/// The library to load: `configured`, else `ORT_DYLIB_PATH`, else beside the executable (`../lib`, then its own
/// folder), else what set-up unpacked in an ancestor of the executable or of the current directory.
///
/// # Errors
/// [`OrtError::Library`] with every place that was looked at.
pub fn find_library(configured: Option<&Path>) -> Result<PathBuf, OrtError> {
    let environment = std::env::var_os("ORT_DYLIB_PATH")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    find(
        configured,
        environment.as_deref(),
        std::env::current_exe().ok().as_deref(),
        std::env::current_dir().ok().as_deref(),
    )
}

fn find(
    configured: Option<&Path>,
    environment: Option<&Path>,
    exe: Option<&Path>,
    cwd: Option<&Path>,
) -> Result<PathBuf, OrtError> {
    // A path that somebody named is used or refused, never silently replaced by another library.
    if let Some(path) = configured {
        return usable(path).ok_or_else(|| absent(&[path.to_owned()]));
    }
    let mut candidates = Vec::from_iter(environment.map(Path::to_owned));
    if let Some(dir) = exe.and_then(Path::parent) {
        candidates.extend([dir.join("../lib").join(FILE), dir.join(FILE)]);
    }
    let ancestors = [exe, cwd].into_iter().flatten().flat_map(Path::ancestors);
    candidates.extend(ancestors.map(|dir| dir.join(SETUP_DIR).join(FILE)));
    candidates
        .iter()
        .find_map(|path| usable(path))
        .ok_or_else(|| absent(&candidates))
}

/// A file at `path`, made absolute: ort would look for a relative one beside the executable first.
fn usable(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        path.canonicalize().ok()
    } else {
        None
    }
}

fn absent(candidates: &[PathBuf]) -> OrtError {
    let places: Vec<_> = candidates
        .iter()
        .take(4)
        .map(|path| path.display().to_string())
        .collect();
    OrtError::Library {
        why: format!("looked at {}", places.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_in_the_documented_order() {
        let root = std::env::temp_dir().join(format!("reelsight-ort-{}", std::process::id()));
        let make = |path: &str| {
            let path = root.join(path).join(FILE);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, b"").unwrap();
            path.canonicalize().unwrap()
        };
        let places = [
            "env",
            "app/lib",
            "app/bin",
            "app/bin/.onnxruntime",
            "app/.onnxruntime",
            "cwd/.onnxruntime",
        ]
        .map(make);
        let (exe, cwd, environment) = (root.join("app/bin/reelsight"), root.join("cwd/sub"), &places[0]);
        std::fs::create_dir_all(&cwd).unwrap();
        let search = |env: Option<&Path>| find(None, env, Some(&exe), Some(&cwd));
        for expected in &places {
            assert_eq!(&search(Some(environment)).unwrap(), expected);
            std::fs::remove_file(expected).unwrap();
        }
        let message = search(Some(environment)).unwrap_err().to_string();
        assert!(message.contains("make setup"), "{message}");
        let named = find(Some(&root.join("nowhere.so")), None, Some(&exe), Some(&cwd))
            .unwrap_err()
            .to_string();
        assert!(named.contains("nowhere.so"), "{named}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
