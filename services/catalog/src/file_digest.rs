//! What makes two files the same without reading all of them.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use sha2::{Digest as _, Sha256};

/// Changes whenever the digest does.
const VERSION: &[u8] = b"reelsight file digest 1";
/// Bytes at either end.
const END_BYTES: u64 = 64 << 10;
/// Pieces in between, and their bytes.
const PIECES: u64 = 30;
const PIECE_BYTES: u64 = 4 << 10;

/// A digest of a file's length, times of change, both ends and 30 pieces in between; 250 KB are read whatever the
/// length is.
///
/// It tells apart everything that differs in length or in one of those parts, and every file that was written to: the
/// system sets the time of status change (`ctime`) at each write, and no program can set it back. What it cannot see is a
/// change elsewhere in the file that was made while the system's clock stood where it stood at the change before, or
/// behind the system's back. A renamed or copied file is another one, which costs one more indexing.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn file_digest(file: &File) -> io::Result<String> {
    let facts = file.metadata()?;
    let len = facts.len();
    let mut digest = Sha256::new();
    digest.update(VERSION);
    for number in [
        facts.mtime(),
        facts.mtime_nsec(),
        facts.ctime(),
        facts.ctime_nsec(),
    ] {
        digest.update(number.to_le_bytes());
    }
    digest.update(len.to_le_bytes());
    let mut buffer = Vec::new();
    let mut add = |from: u64, count: u64| {
        buffer.resize(usize::try_from(count.min(len - from)).unwrap_or(0), 0);
        file.read_exact_at(&mut buffer, from)?;
        digest.update(&buffer);
        io::Result::Ok(())
    };
    add(0, END_BYTES)?;
    add(len.saturating_sub(END_BYTES), END_BYTES)?;
    for piece in 1..=PIECES {
        let at = u128::from(len) * u128::from(piece) / u128::from(PIECES + 1);
        add(u64::try_from(at).unwrap_or(0), PIECE_BYTES)?;
    }
    Ok(hex::encode(digest.finalize()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, FileTimes, OpenOptions},
        time::Duration,
    };

    use super::*;

    #[test]
    fn every_write_shows_even_with_a_kept_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        fs::write(&path, vec![1; 3_000_000]).unwrap();
        let digest = || file_digest(&File::open(&path).unwrap()).unwrap();
        let before = digest();
        assert_eq!(before, digest());
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        // The clock of file systems ticks every few milliseconds.
        std::thread::sleep(Duration::from_millis(50));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[9], 1_234_567).unwrap();
        file.set_times(FileTimes::new().set_modified(modified)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified);
        assert_ne!(before, digest());
    }

    #[test]
    fn files_of_any_length_have_one() {
        let folder = tempfile::tempdir().unwrap();
        for len in [0, 1, 5000, 64 << 10, (64 << 10) + 1, 1 << 20] {
            let path = folder.path().join("a");
            fs::write(&path, vec![7; len]).unwrap();
            assert_eq!(
                file_digest(&File::open(&path).unwrap()).unwrap().len(),
                64,
                "{len}"
            );
        }
    }
}
