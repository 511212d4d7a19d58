//! Bytes that do not come from a file.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use reelsight_decode::{DecodeError, DecodeLimits, DecodeOptions, Input, index, read_frames};
use reelsight_media::{ByteSource, CancelFlag, FrameSource as _};

use super::support::{ffmpeg, folder, index_of, rgb};

/// Bytes in memory, of which a part can be made unreadable and whose length can be kept secret.
#[derive(Debug, Default)]
struct Memory {
    bytes: Vec<u8>,
    /// Reading from here on fails.
    broken_from: Option<u64>,
    growing: bool,
    read: AtomicU64,
}

impl ByteSource for Memory {
    fn read_at(&self, offset: u64, buffer: &mut [u8], _cancel: &CancelFlag) -> io::Result<usize> {
        if self
            .broken_from
            .is_some_and(|from| offset + buffer.len() as u64 > from)
        {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the line went dead",
            ));
        }
        let rest = self
            .bytes
            .get(usize::try_from(offset).unwrap()..)
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn len(&self) -> io::Result<Option<u64>> {
        Ok((!self.growing).then_some(self.bytes.len() as u64))
    }
}

fn input(memory: Memory) -> Input {
    Input::Bytes(Arc::new(memory))
}

#[test]
fn frames_from_bytes_equal_frames_from_the_file() {
    let folder = folder();
    for (name, arguments) in [
        (
            "a.mp4",
            "-f lavfi -i testsrc2=s=160x120:r=10:d=4 -c:v libx264 -g 10",
        ),
        (
            "a.ts",
            "-f lavfi -i testsrc2=s=160x120:r=10:d=4 -c:v libx264 -g 10",
        ),
        (
            "a.mkv",
            "-f lavfi -i testsrc2=s=160x120:r=10:d=4 -c:v libvpx -g 10",
        ),
    ] {
        let file = ffmpeg(folder.path(), name, arguments);
        let expected = rgb(&file, &index_of(&file), &[0, 13, 39], DecodeOptions::default());
        for growing in [false, true] {
            let bytes = std::fs::read(&file).unwrap();
            let input = input(Memory {
                bytes,
                growing,
                ..Memory::default()
            });
            let packets = index(&input, &DecodeLimits::default(), &CancelFlag::new()).unwrap();
            let mut reader = read_frames(&input, packets, vec![0, 13, 39], DecodeOptions::default()).unwrap();
            let got: Vec<_> = std::iter::from_fn(|| reader.next_frame().unwrap()).collect();
            assert_eq!(got, expected, "{name} growing {growing}");
        }
    }
}

/// Demuxers take a failed read for the end of the file: it must not become a short video.
#[test]
fn a_broken_source_is_no_truncated_file() {
    let folder = folder();
    for name in ["a.ts", "a.mkv", "a.mp4", "a.avi", "a.flv"] {
        let arguments = "-f lavfi -i testsrc2=s=320x240:r=10:d=8 -c:v libx264 -bf 0 -g 20 -qp 1";
        let file = ffmpeg(folder.path(), name, arguments);
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.len() > 550 << 10, "{name}: {}", bytes.len());
        let broken_from = Some(bytes.len() as u64 / 2);
        let input = input(Memory {
            bytes,
            broken_from,
            ..Memory::default()
        });
        let error = index(&input, &DecodeLimits::default(), &CancelFlag::new()).unwrap_err();
        let DecodeError::Unreadable { source, .. } = &error else {
            panic!("{name}: {error}");
        };
        let kind = source.as_ref().map(|source| source.kind());
        assert_eq!(kind, Some(io::ErrorKind::ConnectionReset), "{name}");
    }
}

#[test]
fn a_growing_source_has_its_limit_too() {
    let folder = folder();
    let arguments = "-f lavfi -i testsrc2=s=320x240:r=10:d=8 -c:v libx264 -bf 0 -g 20 -qp 1";
    let bytes = std::fs::read(ffmpeg(folder.path(), "a.ts", arguments)).unwrap();
    let limits = DecodeLimits {
        max_bytes: bytes.len() as u64 / 2,
        ..DecodeLimits::default()
    };
    for growing in [false, true] {
        let input = input(Memory {
            bytes: bytes.clone(),
            growing,
            ..Memory::default()
        });
        let error = index(&input, &limits, &CancelFlag::new()).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { .. }), "{error}");
    }
    let empty = input(Memory::default());
    let error = index(&empty, &limits, &CancelFlag::new()).unwrap_err();
    assert!(matches!(error, DecodeError::Empty), "{error}");
}
