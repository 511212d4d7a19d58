//! Models on the command line: a smaller one that still works, and clear words when Python or a GPU is not ready.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use reelsight_tests::{binary, python, reelsight_json, root, skip};
use serde_json::Value;

#[test]
fn a_quantised_model_is_smaller_close_to_its_origin_and_loads() {
    if python().is_none() {
        return skip("quantize", "make setup-test has not run");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tiny-q8");
    let out = out.to_str().unwrap();
    let words = [
        "models",
        "quantize",
        "reelsight-tiny",
        "--to",
        "q8",
        "--out",
        out,
        "--json",
    ];
    let (code, report) = reelsight_json(&words).unwrap();
    assert_eq!(code, 0, "{report}");
    assert_eq!(
        (&report["precision"], &report["folder"]),
        (&"q8".into(), &out.into())
    );
    let bytes = &report["bytes"]["decoder_model_merged"];
    assert!(
        bytes["after"].as_f64().unwrap() < bytes["before"].as_f64().unwrap() / 2.5,
        "{report}"
    );
    assert!(report["kl_mean"].as_f64().unwrap() < 0.01, "{report}");
    assert!(report["argmax_equal"].as_f64().unwrap() > 0.9, "{report}");
    let (code, checked) = reelsight_json(&["models", "check", out, "--json"]).unwrap();
    assert_eq!(
        (code, &checked["loaded"]["precision"]),
        (0, &"q8".into()),
        "{checked}"
    );
    let cache = checked["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["what"] == "kv cache");
    assert_eq!(cache.unwrap()["detail"], "written in place as published");
    let (code, again) = reelsight_json(&words).unwrap();
    assert_eq!((code, &again["error"]["reason"]), (3, &"OUTPUT_EXISTS".into()));
}

#[test]
fn python_without_packages_is_told_with_the_command_that_installs_them() {
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python");
    fs::write(&python, "#!/bin/sh\ncat >/dev/null\nexit 3\n").unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let out = folder.path().join("out");
    let run = |python: &std::path::Path| {
        let output = Command::new(binary().unwrap())
            .args([
                "models",
                "quantize",
                "reelsight-tiny",
                "--to",
                "q4",
                "--json",
                "--out",
            ])
            .arg(&out)
            .current_dir(root())
            .env("REELSIGHT_PYTHON", python)
            .output()
            .unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), document["error"].clone())
    };
    for python in [python, folder.path().join("nowhere")] {
        let (code, error) = run(&python);
        assert_eq!(
            (code, &error["reason"]),
            (Some(5), &"PYTHON_NOT_READY".into()),
            "{error}"
        );
        assert!(
            error["message"].as_str().unwrap().contains("-m pip install"),
            "{error}"
        );
        assert!(!out.exists());
    }
}

#[test]
fn a_provider_that_does_not_load_is_said_before_anything_is_decoded() {
    let (_, doctor) = reelsight_json(&["doctor", "--json"]).unwrap();
    if doctor.to_string().contains("CUDA loads") {
        return skip("provider", "there is a GPU");
    }
    let words = [
        "ask",
        "nothing.mp4",
        "What moves?",
        "--provider",
        "cuda",
        "--json",
    ];
    let (code, error) = reelsight_json(&words).unwrap();
    assert_eq!(
        (code, &error["error"]["reason"]),
        (5, &"PROVIDER_UNAVAILABLE".into()),
        "{error}"
    );
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("--provider cpu"),
        "{error}"
    );
}
