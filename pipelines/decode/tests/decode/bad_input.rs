//! Files that nobody wants: each has its own typed reason, and none may crash, hang or take much memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use reelsight_decode::{DecodeError, DecodeLimits, DecodeOptions, index, read_frames};
use reelsight_media::{CancelFlag, FrameErrorKind, FrameSource as _};

use super::support::{self, ffmpeg, folder};

const SMALL: &str = "-f lavfi -i testsrc2=s=64x48:r=10:d=2";

fn index_with(file: &Path, limits: &DecodeLimits) -> DecodeError {
    index(&support::input(file), limits, &CancelFlag::new()).expect_err("the file must be refused")
}

fn reason(file: &Path) -> &'static str {
    let error = index_with(file, &DecodeLimits::default());
    let message = error.to_string();
    assert!(message.contains(':'), "the message says what to do: {message}");
    assert!(
        !message.contains("/tmp"),
        "the message does not tell paths: {message}"
    );
    error.reason()
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn what_is_not_a_file() {
    let folder = folder();
    assert_eq!(reason(&folder.path().join("missing.mp4")), "SOURCE_NOT_FOUND");
    assert_eq!(reason(folder.path()), "SOURCE_IS_DIRECTORY");
    assert_eq!(reason(&write(folder.path(), "empty.mp4", "")), "MEDIA_EMPTY");
    assert_eq!(reason(Path::new("/dev/zero")), "SOURCE_UNREADABLE");
    let pipe = folder.path().join("pipe.mp4");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(
        reason(&pipe),
        "SOURCE_UNREADABLE",
        "and without waiting for a writer"
    );
}

#[test]
fn what_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    let file = write(folder.path(), "a.mp4", "x");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&file).is_ok() {
        eprintln!("SKIPPED: this user reads everything");
        return;
    }
    assert_eq!(reason(&file), "SOURCE_UNREADABLE");
}

#[test]
fn what_is_no_video() {
    let folder = folder();
    let at = folder.path();
    assert_eq!(
        reason(&write(
            at,
            "text.mp4",
            "Dear reader,\nthis is not a video.\n".repeat(500)
        )),
        "NOT_A_VIDEO"
    );
    assert_eq!(reason(&write(at, "tiny.mp4", "x")), "NOT_A_VIDEO");
    assert_eq!(reason(&write(at, "noise.mp4", noise(200_000, 7))), "NOT_A_VIDEO");
    for (name, codec) in [
        ("a.jpg", "mjpeg"),
        ("a.png", "png"),
        ("a.webp", "libwebp"),
        ("a.bmp", "bmp"),
    ] {
        let still = ffmpeg(at, name, &format!("{SMALL} -frames:v 1 -c:v {codec}"));
        let renamed = at.join(format!("{name}.mp4"));
        fs::rename(still, &renamed).unwrap();
        assert_eq!(reason(&renamed), "NOT_A_VIDEO", "{name}");
    }
    for (name, text) in [
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nHello\n"),
        ("a.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>"),
    ] {
        assert_eq!(reason(&write(at, name, text)), "NOT_A_VIDEO", "{name}");
    }
}

/// A file is untrusted: it must not make FFmpeg open other files or addresses.
#[test]
fn playlists_and_scripts_open_nothing() {
    let folder = folder();
    let at = folder.path();
    let secret = ffmpeg(at, "secret.ts", &format!("{SMALL} -c:v libx264"));
    let secret = secret.display();
    let hls =
        format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n");
    let concat = format!("ffconcat version 1.0\nfile '{secret}'\n");
    let sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n";
    let dash = format!(
        "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\"><Period><AdaptationSet mimeType=\"video/mp2t\"><Representation id=\"0\"><BaseURL>{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    );
    for (name, text) in [
        ("hls.mp4", hls),
        ("concat.mp4", concat),
        ("sdp.mp4", sdp.to_owned()),
        ("dash.mp4", dash),
    ] {
        assert_eq!(reason(&write(at, name, text)), "NOT_A_VIDEO", "{name}");
    }
}

#[test]
fn sound_without_pictures() {
    let folder = folder();
    let at = folder.path();
    let tone = "-f lavfi -i sine=d=2";
    for (name, codec) in [
        ("a.mp3", "libmp3lame"),
        ("a.m4a", "aac"),
        ("a.wav", "pcm_s16le"),
        ("a.mkv", "flac"),
    ] {
        assert_eq!(
            reason(&ffmpeg(at, name, &format!("{tone} -c:a {codec}"))),
            "NO_VIDEO_TRACK",
            "{name}"
        );
    }
    let cover = ffmpeg(at, "cover.png", &format!("{SMALL} -frames:v 1"));
    let arguments = format!(
        "{tone} -i {} -map 0 -map 1 -c:a aac -c:v png -disposition:v attached_pic",
        cover.display()
    );
    assert_eq!(
        reason(&ffmpeg(at, "cover.m4a", &arguments)),
        "NO_VIDEO_TRACK",
        "cover art is no video"
    );
}

#[test]
fn headers_that_promise_too_much() {
    let folder = folder();
    let at = folder.path();
    let wide = ffmpeg(at, "wide.mkv", "-f lavfi -i color=s=100000x16:r=1:d=2 -c:v ffv1");
    let before = resident_bytes();
    assert_eq!(reason(&wide), "RESOLUTION_LIMIT");
    // The same promise inside the elementary stream only, by a container that does not repeat it.
    let limits = DecodeLimits {
        max_width: 320,
        max_height: 240,
        ..DecodeLimits::default()
    };
    let stream = ffmpeg(at, "a.ts", "-f lavfi -i testsrc2=s=640x360:r=10:d=1 -c:v libx264");
    assert_eq!(index_with(&stream, &limits).reason(), "RESOLUTION_LIMIT");
    let limits = DecodeLimits {
        max_pixels: 1000,
        ..DecodeLimits::default()
    };
    assert_eq!(index_with(&stream, &limits).reason(), "RESOLUTION_LIMIT");
    assert!(
        resident_bytes() < before + (256 << 20),
        "refused before anything large is allocated"
    );
}

#[test]
fn limits_hold() {
    let folder = folder();
    let file = ffmpeg(
        folder.path(),
        "a.mp4",
        &format!("{SMALL} -f lavfi -i sine=d=2 -c:v libx264 -c:a aac"),
    );
    let refused = |limits: DecodeLimits| index_with(&file, &limits).reason();
    let default = DecodeLimits::default;
    assert_eq!(
        refused(DecodeLimits {
            max_bytes: 100,
            ..default()
        }),
        "SOURCE_TOO_LARGE"
    );
    assert_eq!(
        refused(DecodeLimits {
            max_duration_secs: 1.5,
            ..default()
        }),
        "SOURCE_TOO_LONG"
    );
    assert_eq!(
        refused(DecodeLimits {
            max_frames: 5,
            ..default()
        }),
        "SOURCE_TOO_LONG"
    );
    assert_eq!(
        refused(DecodeLimits {
            max_tracks: 1,
            ..default()
        }),
        "TRACK_LIMIT"
    );
}

#[test]
fn a_cut_off_file_gives_what_is_there() {
    let folder = folder();
    let at = folder.path();
    let clip = "-f lavfi -i testsrc2=s=320x240:r=25:d=8 -c:v libx264 -g 25 -bf 2 -pix_fmt yuv420p";
    for (name, more) in [("a.mp4", "-movflags +faststart"), ("a.mkv", ""), ("a.flv", "")] {
        let whole = ffmpeg(at, name, &format!("{clip} {more}"));
        let bytes = fs::read(&whole).unwrap();
        let cut = write(at, &format!("cut-{name}"), &bytes[..bytes.len() * 6 / 10]);
        let index = support::index_of(&cut);
        let (frames, count) = (index.timeline.len(), index.info.frame_count);
        assert!((80..180).contains(&frames), "{name}: {frames} frames of 200");
        let warning = index
            .warnings
            .iter()
            .find(|warning| warning.reason == "MEDIA_TRUNCATED");
        let warning = warning.unwrap_or_else(|| panic!("{name}: a warning, not {:?}", index.warnings));
        assert!(
            warning.message.contains(" s of 8."),
            "{name}: {}",
            warning.message
        );
        let all: Vec<u64> = (0..count).collect();
        let got = support::rgb(&cut, &index, &all, DecodeOptions::default());
        assert!(
            got.len() as u64 >= count - 3,
            "{name}: all but what the cut went through"
        );
        let whole_index = support::index_of(&whole);
        let reference = support::rgb(&whole, &whole_index, &all[..80], DecodeOptions::default());
        assert!(
            got[..80] == reference[..],
            "{name}: the frames before the cut are untouched"
        );
    }
    // Without its index at the end, an MP4 says nothing.
    let whole = ffmpeg(at, "late.mp4", clip);
    let bytes = fs::read(&whole).unwrap();
    assert_eq!(
        reason(&write(at, "cut-late.mp4", &bytes[..bytes.len() * 6 / 10])),
        "MEDIA_CORRUPT"
    );
}

#[test]
fn a_damaged_packet_costs_its_dependants_only() {
    let folder = folder();
    let arguments =
        "-f lavfi -i testsrc2=s=320x240:r=25:d=4 -c:v libx264 -g 25 -bf 0 -sc_threshold 0 -pix_fmt yuv420p";
    let file = ffmpeg(folder.path(), "a.mp4", arguments);
    let index = support::index_of(&file);
    let all: Vec<u64> = (0..100).collect();
    let good = support::rgb(&file, &index, &all, DecodeOptions::default());
    // Zeros over the slices of the second GOP's first packets.
    let mut bytes = fs::read(&file).unwrap();
    let second = position_of_packet(&file, 27);
    bytes[second + 8..second + 300].fill(0);
    let file = write(folder.path(), "damaged.mp4", bytes);
    let index = support::index_of(&file);
    for threads in [1, 2] {
        let got = support::rgb(
            &file,
            &index,
            &all,
            DecodeOptions {
                threads,
                ..DecodeOptions::default()
            },
        );
        assert_eq!(got.len(), 100, "every frame comes");
        assert!(
            got[..27] == good[..27] && got[50..] == good[50..],
            "other GOPs are untouched"
        );
        assert!(
            got[27..50].iter().any(|frame| frame.damaged),
            "the damage is told"
        );
        assert!(
            got[..27].iter().chain(&got[50..]).all(|frame| !frame.damaged),
            "and told of nothing else"
        );
    }
}

/// A wanted picture that does not come out: its interval is decoded once more with nothing left out, which is counted,
/// and the best picture before it stands in.
#[test]
fn what_does_not_come_out_is_decoded_again() {
    let folder = folder();
    let arguments =
        "-f lavfi -i testsrc2=s=320x240:r=25:d=4 -c:v libx264 -g 25 -bf 0 -sc_threshold 0 -pix_fmt yuv420p";
    let file = ffmpeg(folder.path(), "a.mp4", arguments);
    let good = support::rgb(&file, &support::index_of(&file), &[39], DecodeOptions::default());
    let mut bytes = fs::read(&file).unwrap();
    bytes[position_of_packet(&file, 40)..position_of_packet(&file, 41)].fill(0);
    let file = write(folder.path(), "damaged.mp4", bytes);
    let index = support::index_of(&file);
    let options = DecodeOptions::default();
    let mut reader = read_frames(&support::input(&file), index, vec![40], options).unwrap();
    let frame = reader.next_frame().unwrap().unwrap();
    assert!(frame.damaged && frame.index == 40 && frame.data == good[0].data);
    assert_eq!(reader.next_frame().unwrap(), None);
    let stats = reader.stats();
    assert_eq!((stats.redone, stats.frames_damaged), (1, 1));
}

/// A pass over a file holds one packet at a time. Other tests run beside this one, hence the wide margin.
#[test]
fn an_index_does_not_grow_with_the_bytes_of_its_packets() {
    let folder = folder();
    let arguments = "-f lavfi -i testsrc2=s=640x360:r=25:d=40 -c:v rawvideo -pix_fmt yuv420p";
    let file = ffmpeg(folder.path(), "a.nut", arguments);
    let bytes = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
    let before = resident_bytes();
    assert_eq!(support::index_of(&file).info.frame_count, 1000);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < bytes / 2, "{grown} bytes for a file of {bytes}");
}

fn position_of_packet(file: &Path, number: usize) -> usize {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v",
            "-show_entries",
            "packet=pos",
            "-of",
            "csv=p=0",
        ])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .nth(number)
        .unwrap()
        .trim_end_matches(',')
        .parse()
        .unwrap()
}

#[test]
fn wrong_requests_are_refused() {
    let folder = folder();
    let file = ffmpeg(folder.path(), "a.mp4", &format!("{SMALL} -c:v libx264"));
    let index = support::index_of(&file);
    let ask = |frames: Vec<u64>, size| {
        let options = DecodeOptions {
            size,
            ..DecodeOptions::default()
        };
        read_frames(&support::input(&file), index.clone(), frames, options)
            .err()
            .map(|error| error.reason())
    };
    assert_eq!(ask(vec![3, 3], None), Some("INVALID_FRAMES"));
    assert_eq!(ask(vec![3, 2], None), Some("INVALID_FRAMES"));
    assert_eq!(ask(vec![20], None), Some("INVALID_FRAMES"));
    assert_eq!(ask(vec![1], Some((0, 4))), Some("INVALID_SIZE"));
    assert_eq!(ask(vec![1], Some((100_000, 4))), Some("RESOLUTION_LIMIT"));
    assert_eq!(ask(vec![], None), None);
}

#[test]
fn cancelling_and_dropping_stop_at_once() {
    let folder = folder();
    let file = ffmpeg(
        folder.path(),
        "a.mp4",
        "-f lavfi -i testsrc2=s=1280x720:r=25:d=20 -c:v libx264 -preset ultrafast -g 50",
    );
    let cancel = CancelFlag::new();
    cancel.cancel();
    let refused = index(&support::input(&file), &DecodeLimits::default(), &cancel).err();
    assert_eq!(refused.map(|error| error.reason()), Some("CANCELLED"));
    let whole = support::index_of(&file);
    let all: Vec<u64> = (0..500).collect();
    for threads in [1, 2] {
        // A budget of one frame keeps the workers waiting for the consumer.
        let cancel = CancelFlag::new();
        let options = DecodeOptions {
            threads,
            budget_bytes: 1,
            cancel: cancel.clone(),
            ..DecodeOptions::default()
        };
        let mut reader = read_frames(
            &support::input(&file),
            whole.clone(),
            all.clone(),
            options.clone(),
        )
        .unwrap();
        reader.next_frame().unwrap().unwrap();
        let begun = Instant::now();
        cancel.cancel();
        let error = reader.next_frame().unwrap_err();
        assert_eq!(
            (error.kind, error.reason),
            (FrameErrorKind::Cancelled, "CANCELLED")
        );
        assert!(reader.next_frame().unwrap().is_none(), "nothing after an error");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let options = DecodeOptions {
            cancel: CancelFlag::new(),
            ..options
        };
        let mut reader = read_frames(&support::input(&file), whole.clone(), all.clone(), options).unwrap();
        reader.next_frame().unwrap().unwrap();
        let begun = Instant::now();
        drop(reader);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

/// Bytes without a pattern.
fn noise(length: usize, mut state: u64) -> Vec<u8> {
    (0..length)
        .map(|_| u8::try_from(support::random(&mut state, 256)).unwrap())
        .collect()
}

fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
