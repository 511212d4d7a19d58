//! `reelsight frames` on everything that is not a finished file on a disk, and the cache of packet indices.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use reelsight_tests::{binary, encode, root, skip};
use serde_json::Value;
use tempfile::TempDir;

const PATTERN: &str = "testsrc2=size=320x180:rate=25:duration=8";
const H264: [&str; 6] = ["-c:v", "libx264", "-g", "25", "-pix_fmt", "yuv420p"];

/// A clip that nobody has touched for a while.
fn clip(folder: &TempDir, name: &str) -> String {
    let path = folder.path().join(name);
    encode(&path, PATTERN, &H264).unwrap();
    settle(&path);
    path.display().to_string()
}

fn settle(path: &Path) {
    let file = OpenOptions::new().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_mins(1))
        .unwrap();
}

/// `reelsight frames ARGUMENTS --count 4 --json` with a cache in `folder`.
fn frames(folder: &TempDir, arguments: &[&str], stdin: Stdio) -> (i32, Value) {
    let output = Command::new(binary().unwrap())
        .arg("frames")
        .args(arguments)
        .args(["--count", "4", "--json"])
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .env_remove("REELSIGHT_INDEX_CACHE")
        .env_remove("REELSIGHT_S3_CONFIG")
        .stdin(stdin)
        .output()
        .unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), document)
}

fn file(folder: &TempDir, name: &str, more: &[&str]) -> Value {
    let (code, document) = frames(folder, &[&[name], more].concat(), Stdio::null());
    assert_eq!(code, 0, "{document}");
    document
}

fn is_cached(document: &Value) -> bool {
    document["stats"]["index"]["from_cache"].as_bool().unwrap()
}

fn has_warning(document: &Value, reason: &str) -> bool {
    let warnings = document["warnings"].as_array().unwrap();
    warnings.iter().any(|warning| warning["reason"] == reason)
}

#[test]
fn a_file_is_read_through_once() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder, "a.mp4");
    let first = file(&folder, &clip, &[]);
    assert!(!is_cached(&first));
    let second = file(&folder, &clip, &[]);
    assert!(is_cached(&second));
    assert_eq!(first["frames"], second["frames"]);
    assert!(!is_cached(&file(&folder, &clip, &["--no-index-cache"])));

    let kept = folder.path().join("cache/reelsight/index");
    let entry = fs::read_dir(&kept).unwrap().next().unwrap().unwrap().path();
    fs::write(&entry, b"RSIX\x01\0\0\0damage").unwrap();
    assert!(!is_cached(&file(&folder, &clip, &[])), "damage is found");
    assert!(is_cached(&file(&folder, &clip, &[])), "and mended");

    // One byte is another, and the time is as it was.
    let modified = fs::metadata(&clip).unwrap().modified().unwrap();
    let mut bytes = fs::read(&clip).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&clip, bytes).unwrap();
    OpenOptions::new()
        .append(true)
        .open(&clip)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    assert!(!is_cached(&file(&folder, &clip, &[])));
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder, "a.mp4");
    let expected = file(&folder, &clip, &["--no-index-cache"]);
    let (code, redirected) = frames(&folder, &["-"], File::open(&clip).unwrap().into());
    assert_eq!((code, &redirected["frames"]), (0, &expected["frames"]));

    // The tables of this file are at its end.
    let mut cat = Command::new("cat")
        .arg(&clip)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (code, piped) = frames(&folder, &["-"], cat.stdout.take().unwrap().into());
    cat.wait().unwrap();
    assert_eq!((code, &piped["frames"]), (0, &expected["frames"]));
    let mut cat = Command::new("cat")
        .arg(&clip)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (_, again) = frames(&folder, &["-"], cat.stdout.take().unwrap().into());
    cat.wait().unwrap();
    assert!(is_cached(&again), "the same bytes");

    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (source, target) = (clip.clone(), pipe.clone());
    let writer = std::thread::spawn(move || fs::write(target, fs::read(source).unwrap()));
    let (code, named) = frames(&folder, &[pipe.to_str().unwrap()], Stdio::null());
    writer.join().unwrap().unwrap();
    assert_eq!((code, &named["frames"]), (0, &expected["frames"]));

    let (code, empty) = frames(&folder, &["-"], Stdio::null());
    assert_ne!(code, 0, "{empty}");
    assert!(empty["error"]["reason"].is_string());
}

#[test]
fn a_growing_file_gives_what_is_there() {
    let folder = TempDir::new().unwrap();
    for name in ["a.ts", "a.mkv"] {
        let clip = clip(&folder, name);
        let whole = file(&folder, &clip, &[]);
        let bytes = fs::read(&clip).unwrap();
        let path = folder.path().join(format!("growing-{name}"));
        let growing = path.to_str().unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let half = file(&folder, growing, &[]);
        assert!(
            has_warning(&half, "MEDIA_GROWING"),
            "{name}: {}",
            half["warnings"]
        );
        let mut end = OpenOptions::new().append(true).open(&path).unwrap();
        end.write_all(&bytes[bytes.len() / 2..]).unwrap();
        drop(end);
        let now = file(&folder, growing, &[]);
        assert!(!is_cached(&now), "{name}: nothing is kept of a growing file");
        assert_eq!(now["frames"], whole["frames"], "{name}");
        let last = |document: &Value| document["frames"][3]["time_s"].as_f64().unwrap();
        assert!(last(&half) < last(&now), "{name}");
        settle(&path);
        let settled = file(&folder, growing, &[]);
        assert!(!has_warning(&settled, "MEDIA_GROWING"), "{name}");
        assert!(is_cached(&file(&folder, growing, &[])), "{name}");
    }
}

/// A server of one folder that knows no ranges, from Python's standard library.
const SERVER: &str = "
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.HTTPServer(('127.0.0.1', 0), handler)
print(server.server_port, flush=True)
server.serve_forever()
";

#[test]
fn a_url_is_fetched_under_the_policy() {
    let folder = TempDir::new().unwrap();
    let clip = clip(&folder, "a.mp4");
    let expected = file(&folder, &clip, &[]);
    let mut server = Command::new("python3")
        .args(["-c", SERVER, folder.path().to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    let mut lines = std::io::BufReader::new(server.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut port).unwrap();
    let url = format!("http://127.0.0.1:{}/a.mp4", port.trim());
    let (_, refused) = frames(&folder, &[&url], Stdio::null());
    let (code, fetched) = frames(&folder, &[&url, "--url-allow", "127.0.0.1"], Stdio::null());
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(refused["error"]["reason"], "SOURCE_BLOCKED_BY_POLICY");
    assert_eq!((code, &fetched["frames"]), (0, &expected["frames"]));
}

/// moto's S3 with one object in one bucket, put there by boto3, until its standard input ends.
const BUCKET: &str = "
import sys, boto3
from moto.server import ThreadedMotoServer
answers, sys.stdout = sys.stdout, sys.stderr
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0)
server.start()
_, port = server.get_host_and_port()
keys = {'aws_access_key_id': 'reader', 'aws_secret_access_key': 'not so secret', 'region_name': 'us-east-1'}
s3 = boto3.client('s3', endpoint_url=f'http://127.0.0.1:{port}', **keys)
s3.create_bucket(Bucket='videos')
s3.upload_file(sys.argv[1], 'videos', 'clips/a b.mp4')
print(port, file=answers, flush=True)
sys.stdin.read()
server.stop()
";

#[test]
fn an_object_of_a_bucket_gives_the_frames_of_the_file() {
    let uri = "s3://videos/clips/a%20b.mp4";
    let folder = TempDir::new().unwrap();
    let (code, unknown) = frames(&folder, &[uri], Stdio::null());
    assert_eq!(
        (code, &unknown["error"]["reason"]),
        (3, &"SOURCE_BLOCKED_BY_POLICY".into())
    );
    let message = unknown["error"]["message"].as_str().unwrap();
    assert!(message.contains("--s3-config"), "{message}");
    let config = folder.path().join("stores.toml");
    fs::write(&config, "[nas]\nsecret_key = \"hunter2\"\n").unwrap();
    let config = config.to_str().unwrap();
    let (code, wrong) = frames(&folder, &[uri, "--s3-config", config], Stdio::null());
    assert_eq!(
        (code, &wrong["error"]["reason"]),
        (3, &"INVALID_S3_CONFIG".into())
    );
    assert!(!wrong.to_string().contains("hunter2"), "{wrong}");

    let Some(python) = moto() else {
        skip(
            "s3",
            "no moto in .venv (pip install 'moto[server]'), or beside $MOTO_SERVER",
        );
        return;
    };
    let clip = clip(&folder, "a.mp4");
    let expected = file(&folder, &clip, &["--no-index-cache"]);
    let mut server = Command::new(python)
        .args(["-c", BUCKET, &clip])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    let mut lines = std::io::BufReader::new(server.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut port).unwrap();
    let port: u16 = port.trim().parse().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "not so secret\n").unwrap();
    let stores = format!(
        "[nas]\nbuckets = [\"videos\"]\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\n\
         access_key = {{ env = \"CARGO_PKG_NAME\" }}\nsecret_key = {{ file = \"{}\" }}\n",
        port,
        secret.display()
    );
    fs::write(config, stores).unwrap();
    let (_, refused) = frames(&folder, &[uri, "--s3-config", config], Stdio::null());
    let open = ["--s3-config", config, "--url-allow", "127.0.0.1"];
    let (code, fetched) = frames(&folder, &[&[uri], &open[..]].concat(), Stdio::null());
    let (_, again) = frames(&folder, &[&[uri], &open[..]].concat(), Stdio::null());
    let (_, none) = frames(
        &folder,
        &[&["s3://videos/none.mp4"], &open[..]].concat(),
        Stdio::null(),
    );
    drop(server.stdin.take());
    server.wait().unwrap();
    assert_eq!(refused["error"]["reason"], "SOURCE_BLOCKED_BY_POLICY");
    assert_eq!((code, &fetched["frames"]), (0, &expected["frames"]), "{fetched}");
    assert!(
        !is_cached(&fetched) && is_cached(&again),
        "the index is kept by version"
    );
    assert_eq!(none["error"]["reason"], "SOURCE_UNREACHABLE");
}

/// A Python with moto's server.
fn moto() -> Option<PathBuf> {
    let python = match std::env::var_os("MOTO_SERVER") {
        Some(program) => Path::new(&program).with_file_name("python"),
        None => root().join(".venv/bin/python"),
    };
    let found = Command::new(&python)
        .args(["-c", "import boto3, moto.server"])
        .stderr(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success()).then_some(python)
}
