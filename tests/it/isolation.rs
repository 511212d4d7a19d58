//! The binary and its decode worker: who dies with whom, and what the person is told.
#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reelsight_tests::{binary, encode, reelsight_json};

/// `reelsight frames` that has begun to write pixels into a pipe that nobody empties.
struct Stuck {
    child: Child,
    worker: u32,
}

impl Stuck {
    fn start(folder: &Path) -> Self {
        let clip = folder.join("clip.mp4");
        let options = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"];
        encode(&clip, "testsrc2=size=1280x720:rate=25:duration=8", &options).unwrap();
        let mut child = Command::new(binary().unwrap())
            .arg("frames")
            .arg(&clip)
            .args(["--fps", "25", "--raw", "-"])
            .env("XDG_CACHE_HOME", folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 4096]).unwrap();
        let [worker] = children(child.id())[..] else {
            panic!("one worker")
        };
        Self { child, worker }
    }

    fn signal(pid: u32, signal: &str) {
        let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Empties the pipe; gives the exit code and what was said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut stdout = self.child.stdout.take().unwrap();
        let emptied = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let mut said = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        emptied.join().unwrap().unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

/// Processes whose parent is `pid`.
fn children(pid: u32) -> Vec<u32> {
    let parent = |child: u32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&child| parent(child) == Some(pid))
        .collect()
}

fn is_gone(pid: u32) -> bool {
    let begun = Instant::now();
    while Path::new(&format!("/proc/{pid}")).is_dir() {
        if begun.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn a_crashed_decoder_is_told_and_trying_again_may_help() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::start(folder.path());
    Stuck::signal(stuck.worker, "-ABRT");
    let (code, said) = stuck.end();
    assert_eq!(code, Some(4), "{said}");
    assert!(
        said.contains("[DECODER_CRASHED]") && said.contains("signal: 6"),
        "{said}"
    );
}

#[test]
fn an_interrupted_command_takes_its_worker_along() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::start(folder.path());
    let worker = stuck.worker;
    Stuck::signal(stuck.child.id(), "-INT");
    let (code, said) = stuck.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(is_gone(worker));
}

#[test]
fn no_worker_outlives_a_killed_command() {
    let folder = tempfile::tempdir().unwrap();
    let mut stuck = Stuck::start(folder.path());
    Stuck::signal(stuck.child.id(), "-KILL");
    stuck.child.wait().unwrap();
    assert!(is_gone(stuck.worker));
}

#[test]
fn doctor_lets_a_worker_try_its_sandbox() {
    let (_code, document) = reelsight_json(&["doctor", "--json"]).unwrap();
    let rows: Vec<_> = document["findings"].as_array().unwrap().iter().collect();
    for what in [
        "network",
        "files",
        "programs",
        "processes",
        "signals",
        "code",
        "memory",
        "threads",
    ] {
        let of = |row: &&&serde_json::Value| {
            let detail = row["detail"].as_str().unwrap_or_default();
            row["what"] == "sandbox" && detail.starts_with(&format!("{what}: "))
        };
        let row = rows.iter().find(of);
        let row = row.unwrap_or_else(|| panic!("no row about {what} in {document}"));
        assert_eq!(row["state"], "ok", "{row}");
    }
}
