//! Files that clients may name: only below the folders that the operator opened.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use reelsight_decode::DecodeError;

use crate::CatalogError;

/// Folders whose files may be named in `server_path`, relative to one of them or absolute.
#[derive(Debug, Clone, Default)]
pub struct MediaRoots(Arc<[PathBuf]>);

impl MediaRoots {
    /// Roots with their links resolved.
    ///
    /// # Errors
    /// When one is missing or no folder.
    pub fn new(roots: &[PathBuf]) -> io::Result<Self> {
        let resolve = |root: &PathBuf| {
            let real = root.canonicalize()?;
            let is_folder = fs::metadata(&real)?.is_dir();
            is_folder
                .then_some(real)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotADirectory))
        };
        Ok(Self(roots.iter().map(resolve).collect::<io::Result<_>>()?))
    }

    /// Opens `path` for reading. Blocks.
    ///
    /// The check is made on what was opened, not on its name, so nothing can be swapped in between.
    ///
    /// # Errors
    /// [`CatalogError::Blocked`] outside the roots, [`CatalogError::Media`] when there is no usable file.
    pub fn open(&self, path: &str) -> Result<File, CatalogError> {
        if self.0.is_empty() {
            return Err(CatalogError::Blocked(
                "this server opens no files by path; start it with --media-root",
            ));
        }
        let path = Path::new(path);
        let plain = |part| {
            matches!(
                part,
                Component::Normal(_) | Component::RootDir | Component::CurDir
            )
        };
        if path.as_os_str().is_empty() || path.as_os_str().as_encoded_bytes().contains(&0) {
            let message = "server_path is empty or malformed: name a file below a media root".to_owned();
            return Err(CatalogError::Invalid {
                field: "source.server_path",
                message,
            });
        }
        if !path.components().all(plain) {
            return Err(CatalogError::Blocked("it must not contain .."));
        }
        let mut missing = CatalogError::Media(DecodeError::NotFound);
        for root in self.0.iter() {
            // An absolute path replaces the root; whether it lies below one is seen after opening.
            if path.is_absolute() && !path.starts_with(root) {
                missing = CatalogError::Blocked("it is not below a media root");
                continue;
            }
            match open_below(root, &root.join(path)) {
                Err(CatalogError::Media(DecodeError::NotFound)) => {
                    missing = CatalogError::Media(DecodeError::NotFound);
                }
                other => return other,
            }
        }
        Err(missing)
    }
}

fn open_below(root: &Path, path: &Path) -> Result<File, CatalogError> {
    // Without O_NONBLOCK opening a FIFO would wait for a writer.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => DecodeError::NotFound,
        _ => DecodeError::Unreadable {
            detail: error.kind().to_string(),
            source: Some(Arc::new(error)),
        },
    })?;
    let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if !real.starts_with(root) {
        return Err(CatalogError::Blocked("it leads out of the media root"));
    }
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(DecodeError::IsDirectory.into());
    }
    if !kind.is_file() {
        return Err(DecodeError::NotAVideo {
            what: "not a regular file".into(),
        }
        .into());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use reelsight_proto::status::ServiceError as _;

    use super::*;

    #[test]
    fn only_files_below_a_root_open_whatever_their_name() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(two.path().join("sub")).unwrap();
        fs::write(two.path().join("sub/a.mp4"), "v").unwrap();
        symlink(outside.path().join("secret"), two.path().join("link")).unwrap();
        symlink(outside.path(), two.path().join("dirlink")).unwrap();
        symlink(two.path().join("sub/a.mp4"), two.path().join("inner")).unwrap();
        let roots = MediaRoots::new(&[one.path().into(), two.path().into()]).unwrap();
        let absolute = two.path().canonicalize().unwrap().join("sub/a.mp4");
        for good in ["sub/a.mp4", "./sub/a.mp4", "inner", absolute.to_str().unwrap()] {
            assert!(roots.open(good).is_ok(), "{good}");
        }
        let secret = outside.path().join("secret");
        for (bad, reason) in [
            ("../secret", "SOURCE_BLOCKED_BY_POLICY"),
            ("sub/../../x", "SOURCE_BLOCKED_BY_POLICY"),
            ("link", "SOURCE_BLOCKED_BY_POLICY"),
            ("dirlink/secret", "SOURCE_BLOCKED_BY_POLICY"),
            (secret.to_str().unwrap(), "SOURCE_BLOCKED_BY_POLICY"),
            ("/etc/passwd", "SOURCE_BLOCKED_BY_POLICY"),
            ("none.mp4", "SOURCE_NOT_FOUND"),
            ("sub/a.mp4/x", "SOURCE_NOT_FOUND"),
            ("sub", "SOURCE_IS_DIRECTORY"),
            ("", "INVALID_REQUEST"),
            ("a\0b", "INVALID_REQUEST"),
        ] {
            assert_eq!(roots.open(bad).unwrap_err().reason(), reason, "{bad}");
        }
        assert_eq!(
            MediaRoots::default().open("a").unwrap_err().reason(),
            "SOURCE_BLOCKED_BY_POLICY"
        );
        assert!(MediaRoots::new(&[two.path().join("sub/a.mp4")]).is_err());
    }
}
