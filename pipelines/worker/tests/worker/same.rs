//! What comes out of a worker is what comes out of the same process.

use std::{fs::File, io, path::Path, sync::Arc, time::Duration};

use reelsight_decode::{DecodeOptions, DecodeStats, Input, read_frames};
use reelsight_media::{ByteSource, CancelFlag, FrameSource as _};

use crate::support::{ffmpeg, folder, index, pool, rest};

/// Without what differs from run to run: times, and with two threads who reads which packets.
fn counts(stats: &DecodeStats) -> DecodeStats {
    DecodeStats {
        packets_seen: 0,
        packets_dropped: 0,
        seeks: 0,
        demux: Duration::ZERO,
        decode: Duration::ZERO,
        convert: Duration::ZERO,
        resize: Duration::ZERO,
        cpu: Duration::ZERO,
        ..stats.clone()
    }
}

fn compare(file: &Path, input: &Input, options: &DecodeOptions) {
    let pool = pool();
    let here = Input::Path(file.to_owned());
    let expected = reelsight_decode::index(&here, &options.limits, &CancelFlag::new()).unwrap();
    let found = index(&pool, input).unwrap();
    assert_eq!(found.to_bytes().unwrap(), expected.to_bytes().unwrap());
    let wanted: Vec<u64> = (0..expected.timeline.len() as u64).step_by(3).collect();
    let mut reader = read_frames(&here, expected, wanted.clone(), options.clone()).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame);
    }
    // With the index that the worker still has, and with one that it must be given.
    for index in [Arc::clone(&found), Arc::new((*found).clone())] {
        let mut remote = pool.read_frames(input, index, wanted.clone(), options).unwrap();
        assert!(rest(&mut remote).unwrap() == frames, "the same frames");
        assert_eq!(counts(&remote.stats()), counts(&reader.stats()));
        let times = remote.stats();
        assert!(times.cpu.as_nanos() > 0 && times.packets_seen > 0, "{times:?}");
    }
}

#[test]
fn frames_are_the_same_to_the_byte() {
    let at = folder();
    let clip = "-f lavfi -i testsrc2=s=322x242:r=25:d=4 -g 25 -bf 2 -pix_fmt yuv420p";
    for (name, codec) in [
        ("a.mp4", "libx264"),
        ("b.mkv", "libvpx-vp9 -deadline realtime"),
        ("c.ts", "mpeg2video"),
    ] {
        let file = ffmpeg(at.path(), name, &format!("{clip} -c:v {codec}"));
        for (threads, size, scale_in_yuv) in [
            (1, None, false),
            (2, Some((64, 48)), false),
            (2, Some((90, 50)), true),
        ] {
            let options = DecodeOptions {
                threads,
                size,
                scale_in_yuv,
                ..DecodeOptions::default()
            };
            compare(&file, &Input::Path(file.clone()), &options);
        }
    }
}

#[test]
fn a_budget_below_one_frame_changes_nothing() {
    let at = folder();
    let file = ffmpeg(
        at.path(),
        "a.mp4",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -c:v libx264 -g 10",
    );
    let options = DecodeOptions {
        threads: 2,
        budget_bytes: 1,
        ..DecodeOptions::default()
    };
    compare(&file, &Input::Path(file.clone()), &options);
}

#[test]
fn thousands_of_frames_are_asked_for_in_parts() {
    let at = folder();
    let clip = "-f lavfi -i testsrc2=s=32x32:r=100:d=35 -c:v mpeg4 -g 50";
    let file = ffmpeg(at.path(), "a.mp4", clip);
    let (pool, input) = (pool(), Input::Path(file));
    let index = index(&pool, &input).unwrap();
    let all: Vec<u64> = (0..3500).collect();
    let mut reader = pool
        .read_frames(&input, index, all.clone(), &DecodeOptions::default())
        .unwrap();
    let got: Vec<u64> = rest(&mut reader)
        .unwrap()
        .iter()
        .map(|frame| frame.index)
        .collect();
    assert_eq!(got, all);
}

/// A file that is read through its parent.
#[derive(Debug)]
struct Elsewhere(File);

impl ByteSource for Elsewhere {
    fn read_at(&self, offset: u64, buffer: &mut [u8], cancel: &CancelFlag) -> io::Result<usize> {
        ByteSource::read_at(&self.0, offset, buffer, cancel)
    }

    fn len(&self) -> io::Result<Option<u64>> {
        self.0.len()
    }
}

#[test]
fn bytes_from_elsewhere_come_through_the_parent() {
    let at = folder();
    let file = ffmpeg(
        at.path(),
        "a.mp4",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=4 -c:v libx264 -g 25",
    );
    let input = Input::Bytes(Arc::new(Elsewhere(File::open(&file).unwrap())));
    compare(
        &file,
        &input,
        &DecodeOptions {
            threads: 2,
            ..DecodeOptions::default()
        },
    );
    let open = Input::File(File::open(&file).unwrap());
    compare(&file, &open, &DecodeOptions::default());
}

#[test]
fn what_is_no_video_is_told_in_the_same_words() {
    let at = folder();
    let write = |name: &str, bytes: &[u8]| {
        let path = at.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let pool = pool();
    let sound = ffmpeg(at.path(), "sound.mp4", "-f lavfi -i sine=d=1 -c:a aac");
    for path in [
        write("empty.mp4", b""),
        write("noise.mp4", &[7; 5000]),
        write("text.mp4", b"hello, this is no video at all"),
        sound,
        at.path().to_owned(),
        at.path().join("missing.mp4"),
    ] {
        let input = Input::Path(path.clone());
        let here = reelsight_decode::index(
            &input,
            &reelsight_decode::DecodeLimits::default(),
            &CancelFlag::new(),
        );
        let (here, there) = (here.unwrap_err(), index(&pool, &input).unwrap_err());
        assert_eq!(there.reason(), here.reason(), "{}", path.display());
        assert_eq!(there.to_string(), here.to_string());
    }
    assert_eq!(pool.idle_pids().len(), 1, "one worker did it all");
}

#[test]
fn a_request_that_makes_no_sense_is_refused_in_the_same_words() {
    let at = folder();
    let file = ffmpeg(
        at.path(),
        "a.mp4",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=1 -c:v libx264",
    );
    let (pool, input) = (pool(), Input::Path(file));
    let index = index(&pool, &input).unwrap();
    for (frames, size) in [(vec![3, 3], None), (vec![25], None), (vec![1], Some((0, 4)))] {
        let options = DecodeOptions {
            size,
            ..DecodeOptions::default()
        };
        let here = read_frames(&input, Arc::clone(&index), frames.clone(), options.clone());
        let here = here.err().unwrap();
        let there = pool.read_frames(&input, Arc::clone(&index), frames, &options);
        let there = there.and_then(|mut reader| rest(&mut reader)).unwrap_err();
        assert_eq!(there.to_string(), here.to_string());
    }
}
