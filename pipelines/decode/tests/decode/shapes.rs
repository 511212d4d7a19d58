//! What a player does around the pixels: rotation, tracks, clocks, sizes.

use std::{
    fs,
    io::{Seek as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use reelsight_decode::{DecodeLimits, DecodeOptions, Input, index, read_frames};
use reelsight_media::{CancelFlag, FrameSource as _};

use super::support::{self, ffmpeg, folder};

const CLIP: &str = "-f lavfi -i testsrc2=s=192x108:r=25:d=2 -c:v libx264 -g 20 -bf 2 -pix_fmt yuv420p";

/// `rgb` through one of FFmpeg's filters.
fn filtered(rgb: &[u8], width: u32, height: u32, filter: &str) -> Vec<u8> {
    let mut child = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-s",
            &format!("{width}x{height}"),
            "-i",
            "-",
        ])
        .args(["-vf", filter, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = rgb.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.stdout
}

#[test]
fn turns_pictures_as_a_player_does() {
    let folder = folder();
    let plain = ffmpeg(folder.path(), "plain.mp4", CLIP);
    let upright = support::rgb(&plain, &support::index_of(&plain), &[7], DecodeOptions::default()).remove(0);
    let turns = [
        (270, 90, "transpose=clock"),
        (180, 180, "hflip,vflip"),
        (90, 270, "transpose=cclock"),
    ];
    for (tag, angle, filter) in turns {
        // FFmpeg's tag counts the other way round.
        let arguments = format!("-i {} -c copy -metadata:s:v rotate={tag}", plain.display());
        let file = ffmpeg(folder.path(), &format!("{angle}.mp4"), &arguments);
        let index = support::index_of(&file);
        let turned = support::rgb(&file, &index, &[7], DecodeOptions::default()).remove(0);
        assert_eq!(index.info.rotation_degrees, angle);
        assert_eq!(
            (index.info.width, index.info.height),
            (turned.width, turned.height),
            "{angle}"
        );
        assert_eq!(
            (turned.width, turned.height),
            if angle == 180 { (192, 108) } else { (108, 192) },
            "{angle}"
        );
        assert!(
            turned.data == filtered(&upright.data, 192, 108, filter),
            "{angle}"
        );
    }
}

#[test]
fn stretches_after_turning() {
    let folder = folder();
    let plain = ffmpeg(folder.path(), "plain.mp4", CLIP);
    let file = ffmpeg(
        folder.path(),
        "t.mp4",
        &format!("-i {} -c copy -metadata:s:v rotate=90", plain.display()),
    );
    let index = support::index_of(&file);
    let whole = support::rgb(&file, &index, &[3], DecodeOptions::default()).remove(0);
    let size = Some((50, 40));
    let small = support::rgb(
        &file,
        &index,
        &[3],
        DecodeOptions {
            size,
            ..DecodeOptions::default()
        },
    )
    .remove(0);
    let expected = reelsight_preprocess::resize_rgb(
        &whole.data,
        (108, 192),
        (50, 40),
        reelsight_preprocess::Filter::Bicubic,
    );
    assert_eq!((small.width, small.height), (50, 40));
    assert!(small.data == expected);
}

#[test]
fn ignores_cover_art_beside_a_video() {
    let folder = folder();
    let cover = ffmpeg(
        folder.path(),
        "c.png",
        "-f lavfi -i testsrc2=s=64x64:d=1 -frames:v 1",
    );
    let plain = ffmpeg(folder.path(), "p.mp4", CLIP);
    let arguments = format!(
        "-i {} -i {} -map 0 -map 1 -c copy -disposition:v:0 attached_pic -disposition:v:1 default",
        cover.display(),
        plain.display()
    );
    let index = support::index_of(&ffmpeg(folder.path(), "a.mp4", &arguments));
    assert_eq!((index.info.width, index.info.frame_count), (192, 50));
}

#[test]
fn tells_what_the_header_says() {
    let folder = folder();
    let arguments = "-f lavfi -i testsrc2=s=192x108:r=30000/1001:d=2 -f lavfi -i sine=d=2 -c:v libx264 -c:a aac -metadata creation_time=2024-02-29T12:00:00Z";
    let info = support::index_of(&ffmpeg(folder.path(), "a.mp4", arguments))
        .info
        .clone();
    assert_eq!(info.container, "mov,mp4,m4a,3gp,3g2,mj2");
    assert_eq!(
        (info.video_codec.as_str(), info.audio_codec.as_deref()),
        ("h264", Some("aac"))
    );
    assert!((info.fps - 30_000.0 / 1001.0).abs() < 0.01, "{}", info.fps);
    assert!(
        (info.duration_secs - 60.0 * 1001.0 / 30_000.0).abs() < 0.01,
        "{}",
        info.duration_secs
    );
    assert_eq!(
        info.start_time,
        Some(SystemTime::UNIX_EPOCH + Duration::from_hours(474_780))
    );
}

#[test]
fn knows_the_duration_of_a_file_that_does_not() {
    let folder = folder();
    let live = "-f lavfi -i testsrc2=s=192x108:r=25:d=2 -c:v libx264 -g 20 -f matroska -live 1";
    let index = support::index_of(&ffmpeg(folder.path(), "live.mkv", live));
    assert!(
        (index.info.duration_secs - 2.0).abs() < 0.01,
        "{}",
        index.info.duration_secs
    );
    assert_eq!((index.info.frame_count, index.warnings.len()), (50, 0));
}

/// Seconds at which FFmpeg's command line shows the first frames, which is what players do.
fn first_times(file: &Path) -> Vec<f64> {
    let output = Command::new("ffmpeg")
        .args(["-v", "info", "-nostdin", "-hide_banner", "-i"])
        .arg(file)
        .args([
            "-map",
            "0:v:0",
            "-frames:v",
            "3",
            "-vsync",
            "passthrough",
            "-vf",
            "showinfo",
            "-f",
            "null",
            "-",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let times = text
        .split("pts_time:")
        .skip(1)
        .map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap());
    times.collect()
}

#[test]
fn zero_is_where_a_player_begins() {
    let folder = folder();
    let at = folder.path();
    let plain = ffmpeg(at, "p.mp4", &format!("-f lavfi -i sine=d=2 {CLIP} -c:a aac"));
    let files = [
        ffmpeg(at, "b.mp4", CLIP),
        ffmpeg(at, "b.ts", &format!("{CLIP} -output_ts_offset 100")),
        ffmpeg(
            at,
            "late.mp4",
            &format!(
                "-i {0} -itsoffset 0.72 -i {0} -map 0:a -map 1:v -c copy",
                plain.display()
            ),
        ),
        ffmpeg(
            at,
            "late.mkv",
            &format!(
                "-i {0} -itsoffset 0.72 -i {0} -map 0:a -map 1:v -c copy",
                plain.display()
            ),
        ),
        ffmpeg(
            at,
            "cut.mp4",
            &format!("-ss 0.5 -i {} -map 0:v -c copy", plain.display()),
        ),
    ];
    for file in files {
        let index = support::index_of(&file);
        for (frame, expected) in first_times(&file).into_iter().enumerate() {
            let ours = index.timeline.time(frame).unwrap().secs();
            assert!(
                (ours - expected).abs() < 0.002,
                "{}: frame {frame}: {ours} {expected}",
                file.display()
            );
        }
    }
}

#[test]
fn an_open_file_is_read_without_moving_its_cursor() {
    let folder = folder();
    let path = ffmpeg(folder.path(), "a.mp4", CLIP);
    let mut file = fs::File::open(&path).unwrap();
    file.seek(std::io::SeekFrom::Start(11)).unwrap();
    let input = Input::File(file.try_clone().unwrap());
    let by_file = index(&input, &DecodeLimits::default(), &CancelFlag::new()).unwrap();
    let frames = vec![0, 20, 45];
    let options = DecodeOptions {
        threads: 2,
        ..DecodeOptions::default()
    };
    let mut reader = read_frames(&input, Arc::clone(&by_file), frames.clone(), options.clone()).unwrap();
    let expected = support::rgb(&path, &support::index_of(&path), &frames, options);
    for frame in expected {
        assert_eq!(reader.next_frame().unwrap(), Some(frame));
    }
    assert_eq!(reader.next_frame().unwrap(), None);
    assert_eq!(file.stream_position().unwrap(), 11);
}

#[test]
fn decodes_little_for_little() {
    let folder = folder();
    let arguments = "-f lavfi -i testsrc2=s=320x180:r=25:d=20 -c:v libx264 -qp 5 -g 50 -bf 3 -sc_threshold 0 -pix_fmt yuv420p";
    let file = ffmpeg(folder.path(), "a.mp4", arguments);
    let index = support::index_of(&file);
    let frames = vec![60, 310];
    let mut reader = read_frames(&support::input(&file), index, frames, DecodeOptions::default()).unwrap();
    while reader.next_frame().unwrap().is_some() {}
    let stats = reader.stats();
    assert_eq!(
        (
            stats.frames_emitted,
            stats.frames_damaged,
            stats.redone,
            stats.intervals
        ),
        (2, 0, 0, 2)
    );
    assert!(
        stats.packets_decoded < 20,
        "a few packets of two GOPs, not {}",
        stats.packets_decoded
    );
    assert!(
        stats.packets_seen < 200,
        "the reader jumps: {} of 500 packets",
        stats.packets_seen
    );
    assert!(stats.seeks >= 1 && stats.decode > Duration::ZERO && stats.cpu > Duration::ZERO);
}

#[test]
fn decodes_only_ancestors_in_av1() {
    let folder = folder();
    let arguments =
        "-f lavfi -i testsrc2=s=192x108:r=25:d=8 -c:v libsvtav1 -g 100 -preset 10 -pix_fmt yuv420p";
    let file = ffmpeg(folder.path(), "a.mp4", arguments);
    let index = support::index_of(&file);
    let frames: Vec<u64> = (0..200).step_by(25).collect();
    let mut reader = read_frames(&support::input(&file), index, frames, DecodeOptions::default()).unwrap();
    while reader.next_frame().unwrap().is_some() {}
    let stats = reader.stats();
    assert_eq!(
        (stats.frames_emitted, stats.frames_damaged, stats.redone),
        (8, 0, 0)
    );
    assert!(
        stats.packets_decoded < 100,
        "{} of 200 packets",
        stats.packets_decoded
    );
}
