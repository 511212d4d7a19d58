//! The binary as a person uses it: frames, exit codes, JSON, bad input.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use reelsight_tests::{encode, python, reelsight, reelsight_json, skip};
use serde_json::Value;
use tempfile::TempDir;

const PATTERN: &str = "testsrc2=size=320x180:rate=25:duration=4";

fn clip(folder: &TempDir) -> String {
    let path = folder.path().join("clip.mp4");
    encode(
        &path,
        PATTERN,
        &["-c:v", "libx264", "-bf", "3", "-g", "30", "-pix_fmt", "yuv420p"],
    )
    .unwrap();
    path.display().to_string()
}

/// sha256 of the RGB of every frame, by PTS, as PyAV decodes the file from its start.
fn pyav_digests(python: &Path, clip: &str) -> Value {
    const SCRIPT: &str = r"
import av, hashlib, json, sys
from av.video.reformatter import ColorRange, Colorspace
out = {}
with av.open(sys.argv[1]) as f:
    r = av.video.reformatter.VideoReformatter()
    for frame in f.decode(video=0):
        rgb = r.reformat(frame, format='rgb24', interpolation='FULL_CHR_H_INT', src_colorspace='ITU601',
                         src_color_range='MPEG', dst_color_range='JPEG')
        out[frame.pts] = hashlib.sha256(rgb.to_ndarray().tobytes()).hexdigest()
print(json.dumps(out))
";
    let output = Command::new(python).args(["-c", SCRIPT, clip]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn frames_equal_a_full_decode_by_pyav() {
    let Some(python) = python() else {
        return skip("frames_equal_a_full_decode_by_pyav", "no .venv");
    };
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let truth = pyav_digests(&python, &clip);
    let (code, document) = reelsight_json(&["frames", &clip, "--fps", "3", "--json"]).unwrap();
    assert_eq!(code, 0);
    let frames = document["frames"].as_array().unwrap();
    assert_eq!(frames.len(), 12);
    for frame in frames {
        assert_eq!(frame["sha256"], truth[frame["pts"].to_string()], "{frame}");
    }
}

#[test]
fn frames_are_written_as_png_and_raw() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let (raw, png) = (folder.path().join("frames.rgb"), folder.path().join("png"));
    let raw_arg = raw.display().to_string();
    let run = reelsight(&[
        "frames", &clip, "--count", "5", "--size", "64x48", "--raw", &raw_arg,
    ])
    .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let bytes = fs::read(&raw).unwrap();
    assert_eq!(bytes.len(), 5 * 64 * 48 * 3);

    let png_arg = png.display().to_string();
    let (_, document) = reelsight_json(&[
        "frames", &clip, "--count", "5", "--size", "64x48", "--out", &png_arg, "--json",
    ])
    .unwrap();
    for (i, frame) in document["frames"].as_array().unwrap().iter().enumerate() {
        let picture = image::open(frame["file"].as_str().unwrap()).unwrap().to_rgb8();
        assert_eq!(
            picture.as_raw()[..],
            bytes[i * 64 * 48 * 3..][..64 * 48 * 3],
            "frame {i}"
        );
    }
}

#[test]
fn a_range_is_respected_and_pipes_stay_clean() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let (_, document) = reelsight_json(&[
        "frames", &clip, "--fps", "5", "--start", "1", "--end", "2", "--json",
    ])
    .unwrap();
    let times: Vec<_> = document["frames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["time_s"].as_f64().unwrap())
        .collect();
    assert_eq!(times, [1.0, 1.2, 1.4, 1.6, 1.8]);
    let run = reelsight(&["frames", &clip, "--count", "2", "--json"]).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&run.stderr),
        "",
        "nothing but the document in a pipe"
    );
}

/// Each kind of unusable file has its own reason, on `frames` and on `ask`.
#[test]
fn bad_input_has_typed_reasons_and_exit_codes() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("empty.mp4"), b"").unwrap();
    fs::write(path("text.mp4"), "not a video at all\n".repeat(100)).unwrap();
    encode(&path("audio.mp4"), "sine=duration=1", &["-c:a", "aac"]).unwrap();
    encode(
        &path("photo.jpg"),
        "testsrc2=size=64x64:rate=1:duration=1",
        &["-frames:v", "1"],
    )
    .unwrap();
    fs::rename(path("photo.jpg"), path("photo.mp4")).unwrap();
    fs::create_dir(path("folder.mp4")).unwrap();
    let clip_path = clip(&folder);
    let whole = fs::read(&clip_path).unwrap();
    fs::write(path("headless.mp4"), &whole[..whole.len() / 2]).unwrap(); // The index is at the end: nothing is left.
    fs::write(path("secret.mp4"), &whole).unwrap();
    fs::set_permissions(path("secret.mp4"), fs::Permissions::from_mode(0o000)).unwrap();

    let mut cases = vec![
        ("empty.mp4", "MEDIA_EMPTY"),
        ("text.mp4", "NOT_A_VIDEO"),
        ("audio.mp4", "NO_VIDEO_TRACK"),
        ("photo.mp4", "NOT_A_VIDEO"),
        ("folder.mp4", "SOURCE_IS_DIRECTORY"),
        ("missing.mp4", "SOURCE_NOT_FOUND"),
        ("headless.mp4", "MEDIA_CORRUPT"),
    ];
    if fs::File::open(path("secret.mp4")).is_err() {
        cases.push(("secret.mp4", "SOURCE_UNREADABLE"));
    } else {
        skip("unreadable file", "this user may read everything");
    }
    for (name, reason) in cases {
        let file = path(name).display().to_string();
        for args in [
            vec!["frames", &file, "--count", "1", "--json"],
            vec!["ask", &file, "What is shown?", "--json"],
        ] {
            let (code, document) = reelsight_json(&args).unwrap();
            assert_eq!(document["error"]["reason"], reason, "{args:?}: {document}");
            assert_eq!(code, 3, "{args:?}");
            assert!(
                document["error"]["message"].as_str().unwrap().len() > 10,
                "{document}"
            );
        }
    }
}

#[test]
fn a_header_that_claims_100k_pixels_is_refused_before_decoding() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("wide.y4m");
    fs::write(&path, b"YUV4MPEG2 W100000 H16 F25:1 Ip A1:1 C420jpeg\nFRAME\n").unwrap();
    let (code, document) =
        reelsight_json(&["frames", &path.display().to_string(), "--count", "1", "--json"]).unwrap();
    assert_eq!(
        (code, &document["error"]["reason"]),
        (3, &Value::from("RESOLUTION_LIMIT")),
        "{document}"
    );
}

#[test]
fn wrong_usage_is_exit_code_2_and_unknown_models_say_what_is_known() {
    let run = reelsight(&["frames", "x.mp4", "--fps", "-1"]).unwrap();
    assert_eq!(run.status.code(), Some(2));
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let (code, document) =
        reelsight_json(&["ask", &clip, "What?", "--model", "no-such-model", "--json"]).unwrap();
    assert_eq!(
        (code, &document["error"]["reason"]),
        (3, &Value::from("MODEL_NOT_FOUND"))
    );
    assert!(
        document["error"]["message"]
            .as_str()
            .unwrap()
            .contains("reelsight-tiny"),
        "{document}"
    );
    for question in ["", &"why ".repeat(10_000)] {
        let (code, document) = reelsight_json(&["ask", &clip, question, "--json"]).unwrap();
        assert_eq!(code, 3, "{document}");
    }
}

#[test]
fn doctor_and_models_speak_json() {
    let (code, report) = reelsight_json(&["doctor", "--json"]).unwrap();
    assert_eq!(code, 0, "{report}");
    let (code, list) = reelsight_json(&["models", "list", "--json"]).unwrap();
    assert_eq!(code, 0);
    assert!(
        list["models"]
            .as_array()
            .unwrap()
            .iter()
            .any(|m| m["name"] == "reelsight-tiny"),
        "{list}"
    );
    let (code, check) = reelsight_json(&["models", "check", "--json"]).unwrap();
    assert_eq!((code, &check["ok"]), (0, &Value::from(true)), "{check}");
}

#[test]
fn ask_prints_one_document_with_citations_usage_and_sampling() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder);
    let (code, document) = reelsight_json(&["ask", &clip, "How many objects are shown?", "--json"]).unwrap();
    assert_eq!(code, 0, "{document}");
    assert!(!document["answer"].as_str().unwrap().is_empty(), "{document}");
    assert_eq!(document["sampling"]["frames_used"], 4, "4 s at 1 fps: {document}");
    assert!(document["usage"]["visual_tokens"].as_u64().unwrap() > 0);
    for citation in document["citations"].as_array().unwrap() {
        let (start, end) = (
            citation["start_s"].as_f64().unwrap(),
            citation["end_s"].as_f64().unwrap(),
        );
        assert!(0.0 <= start && start < end && end <= 4.0 + 1e-6, "{citation}");
    }
}
