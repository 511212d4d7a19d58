//! `reelsight frames` as a person uses it: selections, formats, names, sheets, statistics, wrong usage.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
};

use reelsight_tests::{binary, encode, python, reelsight, reelsight_json, skip};
use serde_json::Value;
use tempfile::TempDir;

const PATTERN: &str = "testsrc2=size=320x180:rate=25:duration=4";

fn made(folder: &TempDir, source: &str, options: &[&str]) -> String {
    let path = folder.path().join("clip.mp4");
    encode(&path, source, options).unwrap();
    path.display().to_string()
}

fn clip(folder: &TempDir) -> String {
    let options = ["-c:v", "libx264", "-bf", "3", "-g", "30", "-pix_fmt", "yuv420p"];
    made(folder, PATTERN, &options)
}

/// Three scenes of 2 s, 1.2 s and 1.8 s.
fn scenes(folder: &TempDir) -> String {
    let parts = "testsrc2=size=320x180:rate=25:duration=2[a];mandelbrot=size=320x180:rate=25,trim=duration=1.2[b];\
        smptehdbars=size=320x180:rate=25:duration=1.8[c];[a][b][c]concat=n=3";
    made(
        folder,
        parts,
        &["-c:v", "libx264", "-g", "40", "-pix_fmt", "yuv420p"],
    )
}

fn ok(args: &[&str]) -> Value {
    let (code, document) = reelsight_json(args).unwrap();
    assert_eq!(code, 0, "{args:?}: {document}");
    document
}

fn column(document: &Value, name: &str) -> Vec<Value> {
    let frames = document["frames"].as_array().unwrap();
    frames.iter().map(|frame| frame[name].clone()).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn in_python(script: &str, args: &[&str]) -> Option<Value> {
    let output = Command::new(python()?)
        .args(["-c", script])
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn named_times_take_the_frame_on_screen_and_say_so_exactly() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let document = ok(&["frames", &clip, "--at", "00:01.99,0.5,0:00:00.51,3", "--json"]);
    assert_eq!(column(&document, "index"), [12, 49, 75]);
    assert_eq!(column(&document, "time"), ["12/25", "49/25", "3/1"]);
    assert_eq!(
        column(&document, "samples"),
        [Value::from(2), Value::Null, Value::Null]
    );
    assert_eq!(document["stats"]["frames_duplicate"], 1);
    for frame in document["frames"].as_array().unwrap() {
        let (num, den) = frame["time_base"].as_str().unwrap().split_once('/').unwrap();
        let secs = frame["pts"].as_f64().unwrap() * num.parse::<f64>().unwrap() / den.parse::<f64>().unwrap();
        assert!((secs - frame["time_s"].as_f64().unwrap()).abs() < 1e-9, "{frame}");
    }
    let (code, document) = reelsight_json(&["frames", &clip, "--at", "1,4", "--json"]).unwrap();
    assert_eq!(
        (code, &document["error"]["reason"]),
        (3, &"INVALID_SAMPLING".into()),
        "{document}"
    );
}

#[test]
fn key_frames_are_those_that_ffprobe_sees() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v",
            "-show_entries",
            "packet=pts,flags",
            "-of",
            "csv=p=0",
            &clip,
        ])
        .output()
        .unwrap();
    let packets = String::from_utf8(probe.stdout).unwrap();
    let keys = packets.lines().filter_map(|line| line.split_once(",K"));
    let keys: Vec<i64> = keys.map(|(pts, _)| pts.parse().unwrap()).collect();
    assert!(keys.len() > 2, "{packets}");
    let document = ok(&["frames", &clip, "--every-keyframe", "--json"]);
    assert_eq!(column(&document, "pts"), keys);
}

#[test]
fn shots_are_cut_where_they_were_joined() {
    let folder = TempDir::new().unwrap();
    let clip = scenes(&folder);
    let run = reelsight(&["frames", &clip, "--scene", "--scene-model", "content", "--jsonl"]).unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let lines: Vec<Value> = String::from_utf8(run.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (rest, frames) = lines.split_last().unwrap();
    let cuts: Vec<_> = rest["cuts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cut| (&cut["index"], &cut["kind"]))
        .collect();
    assert_eq!(cuts, [(&50.into(), &"cut".into()), (&80.into(), &"cut".into())]);
    let frames: Vec<_> = frames
        .iter()
        .map(|frame| frame["index"].as_u64().unwrap())
        .collect();
    assert_eq!(frames, [24, 64, 102], "the middle of each shot");
    assert_eq!(rest["shots"][1]["end_s"], 3.2);

    let part = ok(&[
        "frames",
        &clip,
        "--scene",
        "0.6",
        "--scene-model",
        "content",
        "--start",
        "2.5",
        "--json",
    ]);
    assert_eq!(column(&part, "index").len(), 2, "one cut lies in the range");
    let absent = folder.path().join("no-models");
    let missing = [
        "frames",
        &clip,
        "--scene",
        "--scene-model",
        "transnetv2",
        "--model-root",
        &text(&absent),
        "--json",
    ];
    let (code, document) = reelsight_json(&missing).unwrap();
    assert_eq!(
        (code, &document["error"]["reason"]),
        (5, &"MODEL_NOT_LOADED".into()),
        "{document}"
    );
}

/// Compares pictures as Pillow reads them.
const COMPARE: &str = r"
import json, sys, numpy as np
from PIL import Image
load = lambda p: np.asarray(Image.open(p).convert('RGB')).astype(int)
png, jpeg, webp, small = (load(p) for p in sys.argv[1:])
psnr = lambda a: 10 * np.log10(255 ** 2 / max(((a - png) ** 2).mean(), 1e-9))
print(json.dumps({'shape': png.shape, 'webp': bool((webp == png).all()), 'jpeg': psnr(jpeg), 'small': psnr(small)}))
";

#[test]
fn pictures_are_what_other_programs_read() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let out = |name: &str| text(&folder.path().join(name));
    let (png, jpeg, webp, small) = (out("png"), out("jpeg"), out("webp"), out("small"));
    let base = ["frames", &clip, "--count", "2", "--json"];
    let with = |more: &[&str]| ok(&[&base[..], more].concat());
    with(&["--out", &png, "--name", "{number:3}_{time}"]);
    assert!(
        folder.path().join("png/000_00-00-01.000.png").is_file(),
        "{:?}",
        fs::read_dir(&png).unwrap().collect::<Vec<_>>()
    );
    with(&[
        "--out",
        &jpeg,
        "--name",
        "{index}",
        "--format",
        "jpeg",
        "--quality",
        "95",
    ]);
    with(&[
        "--out",
        &small,
        "--name",
        "{index}",
        "--format",
        "jpeg",
        "--quality",
        "20",
    ]);
    with(&["--out", &webp, "--name", "{index}", "--format", "webp"]);
    let files = [
        format!("{png}/000_00-00-01.000.png"),
        format!("{jpeg}/25.jpg"),
        format!("{webp}/25.webp"),
        format!("{small}/25.jpg"),
    ];
    let Some(seen) = in_python(COMPARE, &files.each_ref().map(String::as_str)) else {
        return skip("pictures_are_what_other_programs_read", "no .venv");
    };
    assert_eq!(seen["shape"], serde_json::json!([180, 320, 3]));
    assert_eq!(seen["webp"], true, "WebP is lossless");
    assert!(
        seen["jpeg"].as_f64().unwrap() > 35.0 && seen["small"].as_f64() < seen["jpeg"].as_f64(),
        "{seen}"
    );
}

#[test]
fn a_contact_sheet_has_room_for_every_frame() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let sheet = folder.path().join("sheet.jpg");
    let run = reelsight(&[
        "frames",
        &clip,
        "--count",
        "5",
        "--contact-sheet",
        &text(&sheet),
        "--columns",
        "3",
        "--tile-width",
        "160",
    ])
    .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let picture = image::open(&sheet).unwrap().to_rgb8();
    // Tiles of 160x90 with a label of 8 + 16 and gaps of 8.
    assert_eq!(picture.dimensions(), (3 * 168 + 8, 2 * (90 + 24) + 8));
    let bright = |x0: u32, y0: u32| {
        (0..160 * 90).any(|at| {
            picture
                .get_pixel(x0 + at % 160, y0 + at / 160)
                .0
                .iter()
                .any(|&v| v > 150)
        })
    };
    assert!(bright(8 + 168, 8 + 114), "the fifth frame");
    assert!(!bright(8 + 336, 8 + 114), "and no sixth");
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "the clip and the sheet: {names:?}");
    let many = [
        "frames",
        &clip,
        "--fps",
        "25",
        "--contact-sheet",
        &text(&sheet),
        "--tile-width",
        "4096",
        "--json",
    ];
    let (code, document) = reelsight_json(&many).unwrap();
    assert_eq!(
        (code, &document["error"]["reason"]),
        (3, &"CONTACT_SHEET_TOO_LARGE".into()),
        "{document}"
    );
}

#[test]
fn square_pixels_and_sizes() {
    let folder = TempDir::new().unwrap();
    let source = "testsrc2=size=360x240:rate=25:duration=1,setsar=8/9";
    let clip = made(&folder, source, &["-c:v", "libx264", "-pix_fmt", "yuv420p"]);
    let size = |more: &[&str]| {
        let document = ok(&[&["frames", &clip, "--count", "1", "--json"], more].concat());
        (
            document["frames"][0]["width"].clone(),
            document["frames"][0]["height"].clone(),
        )
    };
    assert_eq!(
        size(&[]),
        (360.into(), 240.into()),
        "as stored, unless asked otherwise"
    );
    assert_eq!(size(&["--square"]), (320.into(), 240.into()));
    assert_eq!(size(&["--size", "100x50"]), (100.into(), 50.into()));
}

#[test]
fn scaling_in_yuv_is_close_and_not_the_same() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let raw = |more: &[&str]| {
        let path = folder.path().join("raw");
        let run = reelsight(
            &[
                &[
                    "frames",
                    &clip,
                    "--count",
                    "2",
                    "--size",
                    "160x90",
                    "--raw",
                    &text(&path),
                ],
                more,
            ]
            .concat(),
        );
        assert!(run.unwrap().status.success());
        fs::read(path).unwrap()
    };
    let (exact, fast) = (raw(&[]), raw(&["--scale-in-yuv"]));
    assert_eq!(exact.len(), fast.len());
    let squares: f64 = exact
        .iter()
        .zip(&fast)
        .map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2))
        .sum();
    let psnr = 10.0 * (255.0_f64.powi(2) * exact.len() as f64 / squares.max(1.0)).log10();
    assert!(psnr > 28.0 && exact != fast, "{psnr} dB");
}

#[test]
fn statistics_account_for_every_packet() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let stats = ok(&["frames", &clip, "--at", "1.15,2.95", "--json"])["stats"].clone();
    let dropped: u64 = stats["dropped"]
        .as_object()
        .unwrap()
        .values()
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(stats["packets"], 100);
    assert_eq!(
        stats["packets_decoded"].as_u64().unwrap() + dropped,
        100,
        "{stats}"
    );
    for reason in ["non_reference", "after_last_wanted", "outside_intervals"] {
        assert!(
            stats["dropped"][reason].as_u64().unwrap() > 0,
            "{reason}: {stats}"
        );
    }
    let run = reelsight(&["frames", &clip, "--at", "1.3", "--stats", "--raw", "/dev/null"]).unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    for line in ["index ", "packets ", "left out ", "CPU ", "wall "] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn wrong_usage_is_told_apart_and_writes_nothing() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let sheet = text(&folder.path().join("sheet.gif"));
    let wrong: [&[&str]; 14] = [
        &[],
        &["--fps", "1", "--count", "2"],
        &["--every-keyframe", "--scene"],
        &["--at", "1:75"],
        &["--at", "1,,2"],
        &["--at", "1", "--start", "1"],
        &["--scene", "27"],
        &["--fps", "1", "--scene-model", "content"],
        &["--fps", "1", "--quality", "80"],
        &["--fps", "1", "--raw", "-"],
        &["--fps", "1", "--name", "same"],
        &["--fps", "1", "--columns", "3"],
        &["--fps", "1", "--square", "--size", "3x3"],
        &["--fps", "1", "--contact-sheet", &sheet],
    ];
    for args in wrong {
        let all = [&["frames", &clip], args, &["--json"]].concat();
        let (code, document) = reelsight_json(&all).unwrap();
        assert_eq!(
            (code, &document["error"]["reason"]),
            (2, &"INVALID_USAGE".into()),
            "{args:?}: {document}"
        );
        assert!(
            document["error"]["message"].as_str().unwrap().len() > 20,
            "{document}"
        );
    }
    let broken = folder.path().join("broken.mp4");
    fs::write(&broken, "no video\n".repeat(100)).unwrap();
    let raw = folder.path().join("frames.rgb");
    let run = reelsight(&["frames", &text(&broken), "--fps", "1", "--raw", &text(&raw)]).unwrap();
    assert_eq!(run.status.code(), Some(3));
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["broken.mp4", "clip.mp4"], "nothing half-written is left");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    for args in [&["--raw", "-"][..], &["--jsonl"]] {
        let mut child = Command::new(binary().unwrap())
            .args(["frames", &clip, "--fps", "25"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 64];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{args:?}: {ended:?}");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{args:?}");
    }
}
