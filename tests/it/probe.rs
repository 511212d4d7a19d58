//! `reelsight probe` against ffprobe.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{fs, path::Path, process::Command};

use reelsight_tests::{encode, reelsight, reelsight_json};
use serde_json::Value;
use tempfile::TempDir;

fn ffprobe(path: &Path) -> Value {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_packets",
            "-show_streams",
            "-show_packets",
            "-select_streams",
            "v:0",
            "-of",
            "json",
        ])
        .arg(path)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn probe(path: &Path, more: &[&str]) -> Value {
    let name = path.display().to_string();
    let (code, document) = reelsight_json(&[&["probe", &name, "--json"], more].concat()).unwrap();
    assert_eq!(code, 0, "{document}");
    document
}

/// Compares what both say about the video track and its packets.
fn agree(path: &Path) {
    let (ours, theirs) = (probe(path, &[]), ffprobe(path));
    let (video, stream) = (&ours["video"], &theirs["streams"][0]);
    for (name, other) in [
        ("codec", "codec_name"),
        ("profile", "profile"),
        ("level", "level"),
        ("pixel_format", "pix_fmt"),
        ("stored_width", "width"),
        ("stored_height", "height"),
        ("field_order", "field_order"),
        ("color_range", "color_range"),
        ("color_space", "color_space"),
        ("color_transfer", "color_transfer"),
        ("color_primaries", "color_primaries"),
        ("time_base", "time_base"),
    ] {
        // FFmpeg's two ways to say that it does not know.
        let known = Some(&stream[other]).filter(|value| **value != "unknown" && **value != -99);
        let expected = known.unwrap_or(&Value::Null);
        assert_eq!(&video[name], expected, "{name} of {}", path.display());
    }
    let packets = theirs["packets"].as_array().unwrap();
    let size = |packet: &Value| packet["size"].as_str().unwrap().parse::<u64>().unwrap();
    let is_key = |packet: &&Value| packet["flags"].as_str().unwrap().starts_with('K');
    let structure = &ours["structure"];
    assert_eq!(structure["packets"], packets.len(), "{}", path.display());
    assert_eq!(structure["bytes"], packets.iter().map(size).sum::<u64>());
    assert_eq!(structure["keyframes"], packets.iter().filter(is_key).count());
    let starts: Vec<_> = (0..packets.len())
        .filter(|&at| is_key(&&packets[at]))
        .chain([packets.len()])
        .collect();
    let longest = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert_eq!(structure["gop_packets"]["max"], longest);
}

#[test]
fn facts_are_those_of_ffprobe() {
    let folder = TempDir::new().unwrap();
    let source = "testsrc2=size=320x180:rate=30000/1001:duration=2";
    let colours = [
        "-color_primaries",
        "bt709",
        "-color_trc",
        "bt709",
        "-colorspace",
        "bt709",
        "-color_range",
        "tv",
    ];
    let cases: [(&str, &[&str]); 4] = [
        (
            "avc.mp4",
            &["-c:v", "libx264", "-bf", "2", "-g", "25", "-pix_fmt", "yuv420p"],
        ),
        (
            "hevc.mkv",
            &[
                "-c:v",
                "libx265",
                "-x265-params",
                "log-level=none:keyint=20",
                "-pix_fmt",
                "yuv420p10le",
            ],
        ),
        (
            "vp9.webm",
            &[
                "-c:v",
                "libvpx-vp9",
                "-deadline",
                "realtime",
                "-cpu-used",
                "8",
                "-g",
                "15",
            ],
        ),
        (
            "mpeg2.ts",
            &[
                "-c:v",
                "mpeg2video",
                "-flags",
                "+ildct+ilme",
                "-top",
                "1",
                "-g",
                "12",
            ],
        ),
    ];
    for (name, options) in cases {
        let path = folder.path().join(name);
        encode(&path, source, &[options, &colours].concat()).unwrap();
        agree(&path);
    }
    let document = probe(&folder.path().join("avc.mp4"), &[]);
    let share = document["structure"]["droppable_share"].as_f64().unwrap();
    assert!(share > 0.25 && share < 0.75, "B-frames are dropped: {share}");
    assert_eq!(document["video"]["frame_rate"], "constant");
}

#[test]
fn rotation_pixel_shape_and_variable_rate_are_seen() {
    let folder = TempDir::new().unwrap();
    let (plain, turned) = (folder.path().join("plain.mp4"), folder.path().join("turned.mp4"));
    let source = "testsrc2=size=320x180:rate=25:duration=2,setsar=4/3,select='not(eq(mod(n,7),3))'";
    encode(
        &plain,
        source,
        &["-c:v", "libx264", "-vsync", "vfr", "-pix_fmt", "yuv420p"],
    )
    .unwrap();
    let copied = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&plain)
        .args(["-c", "copy", "-metadata:s:v", "rotate=90"])
        .arg(&turned)
        .status();
    assert!(copied.unwrap().success());
    let video = probe(&plain, &[])["video"].clone();
    assert_eq!(
        (&video["pixel_aspect"], &video["frame_rate"]),
        (&"4/3".into(), &"variable".into()),
        "{video}"
    );
    let video = probe(&turned, &[])["video"].clone();
    assert_eq!(
        (&video["width"], &video["height"]),
        (&180.into(), &320.into()),
        "{video}"
    );
    assert_eq!(
        video["pixel_aspect"], "3/4",
        "pixels turn with the picture: {video}"
    );
}

#[test]
fn the_plan_is_what_decoding_then_does() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("clip.mp4");
    let source = "testsrc2=size=320x180:rate=25:duration=4";
    encode(
        &path,
        source,
        &["-c:v", "libx264", "-g", "40", "-bf", "3", "-pix_fmt", "yuv420p"],
    )
    .unwrap();
    let name = path.display().to_string();
    let svg = folder.path().join("plot.svg");
    let rule = ["--count", "3", "--threads", "1"];
    let planned = probe(
        &path,
        &[&rule[..], &["--plot", &svg.display().to_string()]].concat(),
    )["plan"]
        .clone();
    let (_, done) = reelsight_json(&[&["frames", &name, "--json"], &rule[..]].concat()).unwrap();
    assert_eq!(
        planned["packets_decoded"], done["stats"]["packets_decoded"],
        "{planned}"
    );
    assert_eq!(planned["intervals"], done["stats"]["intervals"]);
    assert_eq!(planned["dropped"], done["stats"]["dropped"]);
    let times = |document: &Value| -> Vec<Value> {
        let frames = document["frames"].as_array().unwrap();
        frames.iter().map(|frame| frame["time"].clone()).collect()
    };
    assert_eq!(times(&planned), times(&done));
    let drawn = fs::read_to_string(&svg).unwrap();
    assert!(
        drawn.starts_with("<svg") && drawn.matches("l3.5").count() == 3,
        "one mark per frame"
    );
    let said = String::from_utf8(reelsight(&["probe", &name, "--every-keyframe"]).unwrap().stdout).unwrap();
    for word in [
        "h264, High",
        "320x180",
        "constant, 100 frames",
        "3 key frames",
        "selection   3 frames",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let (code, document) = reelsight_json(&["probe", &name, "--fps", "1", "--count", "2", "--json"]).unwrap();
    assert_eq!((code, &document["error"]["reason"]), (2, &"INVALID_USAGE".into()));
}
