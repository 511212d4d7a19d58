//! Byte for byte against Pillow, torchvision and transformers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say on stderr what they skip"
)]

#[path = "golden/families.rs"]
mod families;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use reelsight_media::{MediaTime, Pts, RgbFrame, TimeBase};
use reelsight_preprocess::{Filter, SmolVlmPreprocess, resize_rgb, resize_rgb_like_torch};
use sha2::{Digest as _, Sha256};

type Resize = fn(&[u8], (u32, u32), (u32, u32), Filter) -> Vec<u8>;

const FILTERS: [(&str, Filter); 5] = [
    ("box", Filter::Box),
    ("bilinear", Filter::Bilinear),
    ("hamming", Filter::Hamming),
    ("bicubic", Filter::Bicubic),
    ("lanczos", Filter::Lanczos),
];

/// Down, up, odd, one axis only, extreme, and unchanged.
const SIZES: [[u32; 4]; 17] = [
    [64, 48, 32, 24],
    [53, 37, 96, 96],
    [128, 96, 54, 96],
    [128, 96, 128, 31],
    [41, 33, 41, 80],
    [7, 5, 224, 224],
    [201, 3, 5, 200],
    [1, 1, 9, 4],
    [320, 180, 96, 54],
    [96, 54, 96, 96],
    [33, 33, 33, 33],
    [300, 200, 1, 1],
    // Around the place where Pillow turns the order of its passes.
    [500, 41, 504, 28],
    [48, 81, 31, 47],
    [48, 82, 31, 47],
    [84, 176, 43, 87],
    [57, 300, 32, 168],
];

/// The answers of `tests/golden/reference.py`; `None`, with a word, where a library that it needs is missing.
fn reference(needs: &str, requests: &[String]) -> Option<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../../.venv/bin/python");
    let has = Command::new(&python)
        .args(["-c", &format!("import {needs}")])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no {needs} in .venv to compare with (make setup-test installs it)");
        return None;
    }
    let mut child = Command::new(python)
        .arg(root.join("tests/golden/reference.py"))
        .env("TRANSFORMERS_VERBOSITY", "error")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(requests.join("\n").as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(answers.len(), requests.len());
    Some(answers)
}

/// The picture that the script makes of the same seed.
fn picture(width: u32, height: u32, seed: u64) -> Vec<u8> {
    let size = (width * height * 3) as usize;
    let mut state = seed;
    let sample = |at: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if (at / 3).is_multiple_of(5) {
            u8::try_from(at * 255 / size).unwrap()
        } else {
            state.to_be_bytes()[0]
        }
    };
    (0..size).map(sample).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn resize_equals(library: &str, needs: &str, filters: &[(&str, Filter)], ours: Resize) {
    let cases: Vec<_> = filters
        .iter()
        .flat_map(|filter| SIZES.map(|size| (filter, size)))
        .collect();
    let line = |((name, _), [w, h, tw, th]): &(&(&str, Filter), [u32; 4])| {
        format!("{library} {name} {w} {h} {tw} {th} {}", w * 1000 + h)
    };
    let requests: Vec<String> = cases.iter().map(line).collect();
    let Some(answers) = reference(needs, &requests) else {
        return;
    };
    for ((&(_, filter), [w, h, tw, th]), (request, answer)) in
        cases.into_iter().zip(requests.iter().zip(answers))
    {
        let out = ours(&picture(w, h, u64::from(w * 1000 + h)), (w, h), (tw, th), filter);
        assert_eq!(out.len(), (tw * th * 3) as usize);
        assert_eq!(sha256(&out), answer, "{request}");
    }
}

#[test]
fn resampling_equals_pillow() {
    resize_equals("pillow", "PIL", &FILTERS, resize_rgb);
}

#[test]
fn resampling_equals_torchvision() {
    let filters = [FILTERS[1], FILTERS[3], FILTERS[4]];
    resize_equals("torch", "torchvision", &filters, resize_rgb_like_torch);
}

#[test]
fn preprocessing_equals_the_smolvlm_video_processor() {
    let resample = [(1, Filter::Lanczos), (3, Filter::Bicubic), (2, Filter::Bilinear)];
    let sizes = [
        [320, 180],
        [180, 320],
        [96, 96],
        [33, 47],
        [500, 41],
        [1, 1],
        [200, 3],
    ];
    let edges = [(96, 96), (512, 512), (128, 64)];
    let mut cases = Vec::new();
    for (longest_edge, max_image_size) in edges {
        for (code, filter) in resample {
            for [width, height] in sizes {
                cases.push((longest_edge, max_image_size, code, filter, width, height));
            }
        }
    }
    let requests: Vec<String> = cases
        .iter()
        .map(|(edge, max, code, _, w, h)| format!("smolvlm {edge} {max} {code} {w} {h} 5"))
        .collect();
    let Some(answers) = reference("transformers, torchvision", &requests) else {
        return;
    };
    for ((longest_edge, max_image_size, _, filter, width, height), (request, answer)) in
        cases.into_iter().zip(requests.iter().zip(answers))
    {
        let processor = SmolVlmPreprocess {
            longest_edge,
            max_image_size,
            filter,
            ..SmolVlmPreprocess::default()
        };
        let time = MediaTime {
            pts: Pts(0),
            base: TimeBase::new(1, 25).unwrap(),
        };
        let data = picture(width, height, 5).into();
        let tensor = processor
            .preprocess(&RgbFrame {
                width,
                height,
                data,
                index: 0,
                time,
                damaged: false,
            })
            .unwrap();
        let side = max_image_size as usize;
        assert_eq!((tensor.shape, tensor.mask.len()), ([3, side, side], side * side));
        let bytes: Vec<u8> = tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(sha256(&bytes), answer, "{request}");
    }
}

#[test]
fn a_frame_that_is_none_is_refused() {
    let time = MediaTime {
        pts: Pts(0),
        base: TimeBase::new(1, 25).unwrap(),
    };
    for (width, height, bytes) in [(0, 4, 0), (4, 0, 0), (4, 4, 47), (4, 4, 49)] {
        let data = vec![0; bytes].into();
        let frame = RgbFrame {
            width,
            height,
            data,
            index: 0,
            time,
            damaged: false,
        };
        assert!(
            SmolVlmPreprocess::default().preprocess(&frame).is_err(),
            "{width}x{height}, {bytes} bytes"
        );
    }
    assert!(resize_rgb(&[1, 2, 3], (1, 1), (0, 5), Filter::Box).is_empty());
    assert!(resize_rgb(&[1, 2], (1, 1), (2, 2), Filter::Box).is_empty());
}
