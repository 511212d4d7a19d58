//! Bytes that do not come from a file.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use reelsight_decode::{DecodeError, DecodeLimits, DecodeOptions, Input, PacketIndex, index, read_frames};
use reelsight_media::{ByteSource, CancelFlag, FrameSource as _};

use super::support::{ffmpeg, folder, index_of, rgb};

/// Bytes in memory, of which a part can be made unreadable and whose length can be kept secret.
#[derive(Debug, Default)]
struct Memory {
    bytes: Vec<u8>,
    /// Reading from here on fails.
    broken_from: Option<u64>,
    growing: bool,
    remote: bool,
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

    fn is_remote(&self) -> bool {
        self.remote
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

/// Sound, an open end of every kind, and tables at either end of the file.
const REMOTE: &[(&str, &str)] = &[
    ("end.mp4", "-c:v libx264 -g 60 -bf 3"),
    ("start.mp4", "-c:v libx264 -g 60 -bf 2 -movflags +faststart"),
    (
        "open.mp4",
        "-c:v libx264 -x264-params keyint=40:open-gop=1:bframes=3",
    ),
    (
        "refresh.mp4",
        "-c:v libx264 -x264-params keyint=30:intra-refresh=1:bframes=0",
    ),
    (
        "cra.mp4",
        "-c:v libx265 -x265-params log-level=none:keyint=40:open-gop=1:bframes=3",
    ),
    ("cut.mp4", "-ss 0.7 -c:v libx264 -g 50 -bf 2"),
    ("vp9.mp4", "-c:v libvpx-vp9 -g 60 -deadline realtime -cpu-used 8"),
    (
        "fragments.mp4",
        "-c:v libx264 -g 60 -movflags +frag_keyframe+empty_moov",
    ),
    ("a.mkv", "-c:v libx264 -g 60 -bf 2"),
];

/// A remote file is read in parts, and its frames are the same as those of the local one.
#[test]
fn remote_files_give_the_same_frames() {
    let folder = folder();
    for (name, arguments) in REMOTE {
        let inputs = "-f lavfi -i testsrc2=s=320x240:r=25:d=12 -f lavfi -i sine=d=12";
        let file = ffmpeg(folder.path(), name, &format!("{inputs} {arguments} -c:a aac"));
        let local = index_of(&file);
        let bytes = std::fs::read(&file).unwrap();
        let size = bytes.len() as u64;
        let memory = Arc::new(Memory {
            bytes,
            remote: true,
            ..Memory::default()
        });
        let input = Input::Bytes(Arc::clone(&memory) as Arc<dyn ByteSource>);
        let packets = index(&input, &DecodeLimits::default(), &CancelFlag::new()).unwrap();
        assert_eq!(packets.timeline, local.timeline, "{name}");
        assert_eq!(packets.info, local.info, "{name}");
        assert_eq!(packets.warnings, local.warnings, "{name}");
        let indexed = memory.read.load(Ordering::Relaxed);
        let stored = PacketIndex::from_bytes(&packets.to_bytes().unwrap()).unwrap();
        assert_eq!(stored, *packets, "{name}");
        let count = local.timeline.len() as u64;
        for wanted in [
            vec![150],
            vec![0, 41, 133, count - 1],
            (0..count).step_by(7).collect(),
        ] {
            let options = || DecodeOptions {
                threads: 2,
                ..DecodeOptions::default()
            };
            let expected = rgb(&file, &local, &wanted, options());
            let mut reader = read_frames(&input, Arc::clone(&packets), wanted.clone(), options()).unwrap();
            let got: Vec<_> = std::iter::from_fn(|| reader.next_frame().unwrap()).collect();
            assert!(got == expected, "{name} {wanted:?}");
            assert_eq!(reader.stats().redone, 0, "{name}");
        }
        assert!(indexed < 3 * size, "{name}: {indexed} of {size} bytes");
    }
}

/// A long file with its tables at the end: the index and a few frames take a small part of it.
#[test]
fn a_remote_mp4_is_read_in_parts() {
    let folder = folder();
    let arguments = "-f lavfi -i testsrc2=s=640x360:r=25:d=60 -c:v libx264 -preset ultrafast -qp 8 -g 50";
    let bytes = std::fs::read(ffmpeg(folder.path(), "a.mp4", arguments)).unwrap();
    let size = bytes.len() as u64;
    let memory = Arc::new(Memory {
        bytes,
        remote: true,
        ..Memory::default()
    });
    let input = Input::Bytes(Arc::clone(&memory) as Arc<dyn ByteSource>);
    let packets = index(&input, &DecodeLimits::default(), &CancelFlag::new()).unwrap();
    let indexed = memory.read.load(Ordering::Relaxed);
    let mut reader = read_frames(&input, packets, vec![751, 1400], DecodeOptions::default()).unwrap();
    while reader.next_frame().unwrap().is_some() {}
    let all = memory.read.load(Ordering::Relaxed);
    assert!(
        size > 20 << 20 && indexed < size / 4,
        "{indexed} of {size} bytes for the index"
    );
    assert!(all < size / 2, "{all} of {size} bytes in all");
}
