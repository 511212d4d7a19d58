//! The families' rules, index for index, against transformers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say on stderr what they skip"
)]

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use reelsight_media::{TimeBase, Timeline};
use reelsight_sampling::{Rule, sample};

/// The answers of `tests/golden/reference.py`; `None`, with a word, where transformers is missing.
fn reference(requests: &[String]) -> Option<Vec<Vec<u64>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../../.venv/bin/python");
    let has = Command::new(&python)
        .args(["-c", "import transformers, torchvision"])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no transformers in .venv to compare with (make setup-test installs it)");
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
    let lines = requests.join("\n");
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let indices = |line: &str| {
        line.split_whitespace()
            .map(|index| index.parse().unwrap())
            .collect()
    };
    Some(text.lines().map(indices).collect())
}

#[test]
fn the_smolvlm_rule_equals_transformers() {
    let mut cases = Vec::new();
    for total in [
        1, 2, 3, 7, 10, 25, 31, 60, 61, 100, 250, 899, 1000, 1501, 3000, 9001, 123_457,
    ] {
        for (num, den) in [(1, 25), (1, 30), (1001, 30_000), (1, 10), (1, 60), (1, 1), (3, 2)] {
            for (fps, max_frames) in [
                (1.0, 64),
                (1.0, 32),
                (2.0, 8),
                (0.5, 16),
                (3.7, 128),
                (1.0, 1),
                (24.0, 500),
            ] {
                cases.push((total, num, den, fps, max_frames));
            }
        }
    }
    let timeline = |&(total, num, den, ..): &(i64, u32, u32, f64, usize)| {
        Timeline::new(TimeBase::new(num, den).unwrap(), (0..total).collect(), total).unwrap()
    };
    let line = |case: &(i64, u32, u32, f64, usize)| {
        let timeline = timeline(case);
        let (fps, secs) = (timeline.average_fps(), timeline.duration_secs());
        format!("smolvlm {} {fps} {secs} {} {}", case.0, case.3, case.4)
    };
    let requests: Vec<String> = cases.iter().map(line).collect();
    let Some(answers) = reference(&requests) else {
        return;
    };
    assert_eq!(answers.len(), cases.len());
    for (case, (request, answer)) in cases.iter().zip(requests.iter().zip(answers)) {
        let rule = Rule::SmolVlm {
            fps: case.3,
            max_frames: case.4,
        };
        assert_eq!(
            sample(&timeline(case), &rule, None).unwrap().frames,
            answer,
            "{request}"
        );
    }
}

fn whole(total: i64, fps: u32) -> Timeline {
    Timeline::new(TimeBase::new(1, fps).unwrap(), (0..total).collect(), total).unwrap()
}

#[test]
fn the_rules_of_qwen_and_of_equal_distances_equal_transformers() {
    let mut cases = Vec::new();
    for total in [2, 3, 4, 5, 9, 30, 61, 100, 333, 899, 1501, 9001] {
        for video_fps in [1, 10, 24, 25, 30, 60] {
            for (fps, min_frames, max_frames) in [(2.0, 4, 768), (1.0, 4, 32), (0.5, 8, 16), (30.0, 4, 101)] {
                let rule = Rule::QwenVl {
                    fps,
                    min_frames,
                    max_frames,
                    group: 2,
                };
                let request = format!("qwen {total} {video_fps} {fps} {min_frames} {max_frames}");
                cases.push((total, video_fps, rule, request));
            }
        }
    }
    let odd = [(1000, 7), (9001, 32), (100_000, 301), (777, 776)];
    let few = (1..130).flat_map(|total| [1, 2, 5, 8, 13, 32].map(|frames| (total, frames)));
    for (total, frames) in few.chain(odd) {
        if i64::try_from(frames).unwrap() <= total {
            let request = format!("uniform {total} {frames}");
            cases.push((total, 25, Rule::Uniform { frames }, request));
        }
    }
    let requests: Vec<_> = cases.iter().map(|(.., request)| request.clone()).collect();
    let Some(answers) = reference(&requests) else {
        return;
    };
    assert_eq!(answers.len(), cases.len());
    for ((total, fps, rule, request), answer) in cases.iter().zip(answers) {
        let frames = sample(&whole(*total, *fps), rule, None).unwrap().frames;
        // The reference names a frame beyond the end now and then, and fails to read it.
        let readable = |index: &u64| i64::try_from(*index).unwrap() < *total;
        let answer: Vec<_> = answer.into_iter().filter(readable).collect();
        assert_eq!(frames, answer, "{request}");
    }
}
