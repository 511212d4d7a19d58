//! Decode workers that die, stand still or cannot be locked in, as a client sees it.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use bytes::Bytes;
use reelsight_proto::v1::{AskRequest, Sampling, video_source::Source};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use tonic::{Code, Status};

use crate::support::{AS_WORKER, Harness, about, about_clip, clip, reason};

/// Processes that were started with `mark` in their environment.
fn workers_of(mark: &str) -> Vec<u32> {
    let marked = format!("{AS_WORKER}={mark}\0");
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&marked)
        })
        .collect()
}

fn signal(pids: &[u32], signal: &str) {
    for pid in pids {
        let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

/// A server whose workers carry `mark`, and that waits `wall` for them.
async fn marked(mark: &'static str, wall: Duration) -> Harness {
    Harness::with(|config| {
        config.workers.environment = vec![(AS_WORKER.into(), mark.into())];
        config.sources.index_time = wall;
        config.sources.decode.max_wall = wall;
    })
    .await
}

/// Asks while the server's worker stands still, and does `then` to it.
async fn ask_a_stopped_worker(
    harness: &Harness,
    mark: &str,
    request: AskRequest,
    then: Option<&str>,
) -> Status {
    let workers = workers_of(mark);
    signal(&workers, "-STOP");
    let ending = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if let Some(end) = then {
            signal(&workers, end);
        }
    };
    let (answer, ()) = tokio::join!(harness.ask(request), ending);
    answer.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_its_ask_and_nothing_else() {
    let harness = marked("killed", Duration::from_mins(1)).await;
    // The first ask is indexing; the second, whose index is known, reads frames that no cache has.
    let other_frames = AskRequest {
        sampling: Some(Sampling {
            max_frames: 2,
            ..Sampling::default()
        }),
        ..about_clip("what?")
    };
    for (stage, request) in [("index", about_clip("what?")), ("frames", other_frames)] {
        let status = ask_a_stopped_worker(&harness, "killed", request, Some("-KILL")).await;
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unavailable, "DECODER_CRASHED"),
            "{stage}: {status:?}"
        );
        harness.ask(about_clip("what?")).await.unwrap();
    }
    let before = workers_of("killed");
    assert!(!before.is_empty());
    harness.server.shutdown().await;
    assert!(workers_of("killed").is_empty(), "workers end with their server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stands_still_is_not_waited_for() {
    let harness = marked("still", Duration::from_secs(2)).await;
    let status = ask_a_stopped_worker(&harness, "still", about_clip("what?"), None).await;
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "DECODER_TIMEOUT"),
        "{status:?}"
    );
}

#[test]
fn without_a_sandbox_strangers_are_refused_unless_the_operator_says_otherwise() {
    // A thread on which seccomp() fails, as in a container that forbids it; what it starts inherits that.
    std::thread::spawn(|| {
        let denied = BTreeMap::from([(libc::SYS_seccomp, Vec::new())]);
        let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(denied, SeccompAction::Allow, refuse, arch).unwrap();
        let program: BpfProgram = filter.try_into().unwrap();
        apply_filter(&program).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let inline = || about(Source::InlineContent(Bytes::from(clip())), "what?");
            let harness = Harness::start().await;
            let status = harness.ask(inline()).await.unwrap_err();
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::PermissionDenied, "SANDBOX_UNAVAILABLE")
            );
            harness.ask(about_clip("what?")).await.unwrap();
            let harness = Harness::with(|config| config.allow_unsandboxed = true).await;
            harness.ask(inline()).await.unwrap();
        });
    })
    .join()
    .unwrap();
}
