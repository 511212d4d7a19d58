//! `reelsight models import` and `check`: folders and a hub on loopback, whole, broken and interrupted.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use reelsight_tests::{binary, python, root, skip};
use serde_json::Value;
use tempfile::TempDir;

/// A hub with its repositories; ended when dropped.
struct Hub {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Hub {
    fn start(python: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        let mut process = Command::new(python)
            .arg(root().join("tests/it/hub.py"))
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            process,
            port: line.trim().parse().unwrap(),
            folder,
        }
    }

    /// A repository with the files of `model`.
    fn publish(&self, name: &str, model: &Path) -> PathBuf {
        let repository = self.folder.path().join(name);
        copy(model, &repository);
        repository
    }

    fn log(&self) -> Vec<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .write_all(b"GET /log HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body)
            .unwrap()
            .as_array()
            .unwrap()
            .clone()
    }

    fn import(&self, models: &Path, args: &[&str]) -> Output {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        models_command(models, &["import"])
            .args(args)
            .env("HF_ENDPOINT", endpoint)
            .output()
            .unwrap()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn models_command(models: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary().unwrap());
    command
        .arg("models")
        .args(args)
        .arg("--json")
        .arg("--model-root")
        .arg(models)
        .current_dir(root())
        .env("ORT_DYLIB_PATH", root().join(".onnxruntime/libonnxruntime.so"))
        .env_remove("HF_TOKEN");
    command
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

fn reason(output: &Output) -> String {
    assert!(!output.status.success(), "it went well");
    json(output)["error"]["reason"].as_str().unwrap().to_owned()
}

/// A small model in its published layout.
fn twin(python: &Path, family: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let done = Command::new(python)
        .args(["-m", "reelsight_twins.twins", family])
        .arg(folder.path())
        .env("PYTHONPATH", root().join("models/training"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder
}

fn listed(models: &Path) -> Vec<String> {
    let listed = json(&models_command(models, &["list"]).output().unwrap());
    let rows = listed["models"].as_array().unwrap();
    rows.iter()
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_folder_is_imported_checked_and_never_half() {
    let Some(python) = python() else {
        return skip("a_folder_is_imported_checked_and_never_half", "no .venv");
    };
    let models = TempDir::new().unwrap();
    for family in ["qwen2_5_vl", "llama"] {
        let model = twin(&python, family);
        let source = model.path().to_str().unwrap();
        let imported = models_command(models.path(), &["import", source, "--name", family])
            .output()
            .unwrap();
        let imported = json(&imported);
        assert_eq!(
            (&imported["name"], &imported["precision"]),
            (&family.into(), &"fp32".into())
        );
        let root = models.path().join(family);
        assert!(root.join("reelsight.json").is_file() && root.join("SHA256SUMS").is_file());

        let checked = json(
            &models_command(models.path(), &["check", family])
                .output()
                .unwrap(),
        );
        assert_eq!(checked["ok"], true, "{checked:#}");
        assert!(checked["run"]["decode_tokens_per_second"].as_f64().unwrap() > 0.0);
        assert!(checked["run"]["memory_bytes"].as_u64().unwrap() > 1_000_000);

        let again = models_command(models.path(), &["import", source, "--name", family])
            .output()
            .unwrap();
        assert_eq!(reason(&again), "MODEL_EXISTS");
        // A byte that changes afterwards is seen.
        let config = root.join("generation_config.json");
        let text = fs::read_to_string(&config).unwrap();
        fs::remove_file(&config).unwrap();
        fs::write(&config, format!("{text} ")).unwrap();
        let damaged = models_command(models.path(), &["check", family])
            .output()
            .unwrap();
        assert_eq!(damaged.status.code(), Some(5));

        fs::remove_file(model.path().join("tokenizer.json")).unwrap();
        let missing = models_command(models.path(), &["import", source, "--name", "half"])
            .output()
            .unwrap();
        assert_eq!(reason(&missing), "MODEL_INCOMPLETE");
    }
    assert_eq!(listed(models.path()), ["llama", "qwen2_5_vl"]);
}

#[test]
fn files_of_another_model_are_noticed_before_anything_is_made() {
    let Some(python) = python() else {
        return skip(
            "files_of_another_model_are_noticed_before_anything_is_made",
            "no .venv",
        );
    };
    let (models, model, other) = (
        TempDir::new().unwrap(),
        twin(&python, "qwen2"),
        twin(&python, "qwen2_vl"),
    );
    let source = model.path().to_str().unwrap();
    let import = || {
        models_command(models.path(), &["import", source, "--name", "mixed"])
            .output()
            .unwrap()
    };
    let decoder = "onnx/decoder_model_merged.onnx";
    let whole = fs::read(model.path().join(decoder)).unwrap();
    fs::copy(other.path().join(decoder), model.path().join(decoder)).unwrap();
    assert_eq!(reason(&import()), "MODEL_MIXED");
    fs::write(model.path().join(decoder), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(reason(&import()), "MODEL_DAMAGED");
    fs::write(model.path().join(decoder), whole).unwrap();
    fs::write(
        model.path().join("SHA256SUMS"),
        format!("{}  config.json\n", "0".repeat(64)),
    )
    .unwrap();
    assert_eq!(reason(&import()), "MODEL_DAMAGED");
    assert!(fs::read_dir(models.path()).unwrap().next().is_none());
}

#[test]
fn a_repository_is_brought_with_redirects_ranges_and_digests() {
    let Some(python) = python() else {
        return skip(
            "a_repository_is_brought_with_redirects_ranges_and_digests",
            "no .venv",
        );
    };
    let (hub, models, model) = (
        Hub::start(&python),
        TempDir::new().unwrap(),
        twin(&python, "qwen2"),
    );
    let published = hub.publish("org/tiny-ONNX", model.path());
    fs::create_dir_all(published.join("other")).unwrap();
    fs::write(published.join("other/large.bin"), [0; 9000]).unwrap();
    // Each large answer breaks off in the middle, once: the next attempt goes on from there.
    fs::write(published.join(".cut"), "").unwrap();
    let imported = json(&hub.import(models.path(), &["hf:org/tiny-ONNX"]));
    assert_eq!(imported["name"], "tiny-ONNX");
    assert_eq!(imported["license"], "apache-2.0");
    assert!(
        imported["source"]
            .as_str()
            .unwrap()
            .starts_with("hf:org/tiny-ONNX@0123")
    );
    let root = models.path().join("tiny-ONNX");
    for file in [
        "config.json",
        "onnx/embed_tokens.onnx",
        "onnx/decoder_model_merged.onnx",
    ] {
        let (here, there) = (
            fs::read(root.join(file)).unwrap(),
            fs::read(model.path().join(file)).unwrap(),
        );
        assert!(here == there, "{file}");
    }
    assert!(!root.join("other").exists());
    let log = hub.log();
    let ranged = log.iter().filter(|entry| entry["range"].is_string());
    assert!(ranged.count() >= 2, "{log:#?}");
    assert!(
        log.iter()
            .any(|entry| entry["path"].as_str().unwrap().starts_with("/cdn/"))
    );
}

#[test]
fn a_download_that_was_interrupted_goes_on_and_one_that_was_changed_does_not() {
    let Some(python) = python() else {
        return skip(
            "a_download_that_was_interrupted_goes_on_and_one_that_was_changed_does_not",
            "no .venv",
        );
    };
    let (hub, models, model) = (
        Hub::start(&python),
        TempDir::new().unwrap(),
        twin(&python, "llama"),
    );
    hub.publish("org/resumed", model.path());
    let graph = fs::read(model.path().join("onnx/model.onnx")).unwrap();
    let staging = models.path().join(".import-resumed/onnx");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("model.onnx.part"), &graph[..1000]).unwrap();
    assert!(listed(models.path()).is_empty());
    json(&hub.import(models.path(), &["hf:org/resumed"]))["path"]
        .as_str()
        .unwrap();
    assert!(hub.log().iter().any(|entry| entry["range"] == "bytes=1000-"));
    assert_eq!(listed(models.path()), ["resumed"]);

    // A server that knows no ranges sends all of it again.
    let slow = hub.publish("org/slow", model.path());
    fs::write(slow.join(".slow"), "").unwrap();
    let staging = models.path().join(".import-slow/onnx");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("model.onnx.part"), &graph[..1000]).unwrap();
    assert!(hub.import(models.path(), &["hf:org/slow"]).status.success());

    let wrong = hub.publish("org/wrong", model.path());
    fs::write(wrong.join(".wrong"), "").unwrap();
    let refused = hub.import(models.path(), &["hf:org/wrong"]);
    assert_eq!(reason(&refused), "HUB_ANSWER_INVALID");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("sha256"));
    assert_eq!(listed(models.path()), ["resumed", "slow"]);
}

#[test]
fn tokens_are_referred_to_and_stay_with_the_hub() {
    let Some(python) = python() else {
        return skip("tokens_are_referred_to_and_stay_with_the_hub", "no .venv");
    };
    let (hub, models, model) = (
        Hub::start(&python),
        TempDir::new().unwrap(),
        twin(&python, "llama"),
    );
    hub.publish("private/model", model.path());
    let without = hub.import(models.path(), &["hf:private/model"]);
    assert_eq!(reason(&without), "HUB_AUTH_FAILED");
    assert_eq!(
        reason(&hub.import(models.path(), &["hf:org/nothing"])),
        "HUB_NOT_FOUND"
    );
    let usage = hub.import(models.path(), &["hf:../etc"]);
    assert_eq!(usage.status.code(), Some(2));
    let file = models.path().join("token");
    fs::write(&file, "secret\n").unwrap();
    let with = hub.import(
        models.path(),
        &[
            "hf:private/model@main",
            "--token-file",
            file.to_str().unwrap(),
            "--name",
            "mine",
        ],
    );
    let said = String::from_utf8_lossy(&with.stdout).into_owned();
    assert!(with.status.success() && !said.contains("secret"), "{said}");
    assert_eq!(listed(models.path()), ["mine"]);
    let unset = hub.import(
        models.path(),
        &["hf:private/model", "--token-env", "NOT_SET_AT_ALL"],
    );
    assert_eq!(reason(&unset), "TOKEN_UNREADABLE");
}
