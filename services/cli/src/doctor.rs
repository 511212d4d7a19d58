//! `reelsight doctor`: what is installed, what really loads, and the command that fixes the rest.

use reelsight_decode::{DecodeLimits, Gpu};
use reelsight_worker::{WorkerOptions, WorkerPool};
use serde_json::{Value, json};

use crate::{
    args::DoctorArgs,
    exit::{Failure, FailureKind},
    models, terminal,
};

/// One line of the report.
struct Finding {
    what: &'static str,
    state: State,
    detail: String,
    fix: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// The product works without it.
    Optional,
    Missing,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Optional => "absent",
            Self::Missing => "MISSING",
        }
    }
}

pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut findings = vec![ffmpeg(), codecs(), hardware()];
    findings.extend(sandbox());
    findings.extend(onnx_runtime());
    findings.push(embedded_model());
    findings.push(shot_detector());
    print(&findings, args.json);
    if findings.iter().any(|f| f.state == State::Missing) {
        return Err(Failure::new(
            FailureKind::Setup,
            "NOT_INSTALLED",
            "something is missing; see the fixes above",
        ));
    }
    Ok(())
}

fn ffmpeg() -> Finding {
    Finding {
        what: "FFmpeg",
        state: State::Ok,
        detail: reelsight_decode::ffmpeg_version(),
        fix: None,
    }
}

/// Whether a GPU could decode, and why not.
fn hardware() -> Finding {
    let (state, detail) = match Gpu::open() {
        Ok(_) => {
            let codecs = reelsight_decode::hardware_codecs().join(", ");
            let detail = format!("CUDA, for {codecs}; used with --hardware auto, outside of the sandbox");
            (State::Ok, detail)
        }
        Err(why) => (State::Optional, format!("the CPU decodes: {why}")),
    };
    Finding {
        what: "hardware decoding",
        state,
        detail,
        fix: None,
    }
}

/// The decoders that people's files need; the whole list is long.
fn codecs() -> Finding {
    const WANTED: [&str; 8] = [
        "h264",
        "hevc",
        "av1",
        "vp8",
        "vp9",
        "mpeg2video",
        "mpeg4",
        "mjpeg",
    ];
    let known = reelsight_decode::codecs();
    let absent: Vec<_> = WANTED
        .into_iter()
        .filter(|name| !known.iter().any(|codec| codec == name))
        .collect();
    if absent.is_empty() {
        Finding {
            what: "decoders",
            state: State::Ok,
            detail: WANTED.join(", "),
            fix: None,
        }
    } else {
        let detail = format!("FFmpeg was built without {}", absent.join(", "));
        Finding {
            what: "decoders",
            state: State::Missing,
            detail,
            fix: Some("install FFmpeg from Debian: make setup"),
        }
    }
}

/// What decode workers cannot do, tried by one of them.
fn sandbox() -> Vec<Finding> {
    const FIX: &str = "allow seccomp in the container's profile; until then `serve` takes files of its media roots only, \
                       unless --allow-unsandboxed says otherwise";
    let pool = WorkerPool::start(WorkerOptions::default());
    let checks = pool.and_then(|pool| pool.self_test(&DecodeLimits::default()));
    let finding = |holds, detail| Finding {
        what: "sandbox",
        state: if holds { State::Ok } else { State::Missing },
        detail,
        fix: (!holds).then_some(FIX),
    };
    match checks {
        Ok(checks) => checks
            .into_iter()
            .map(|check| finding(check.holds, format!("{}: {}", check.what, check.detail)))
            .collect(),
        Err(error) => vec![finding(false, error.to_string())],
    }
}

fn onnx_runtime() -> Vec<Finding> {
    let runtime = match reelsight_ort::runtime(None) {
        Ok(runtime) => runtime,
        Err(error) => {
            let detail = error.to_string();
            return vec![Finding {
                what: "ONNX Runtime",
                state: State::Missing,
                detail,
                fix: Some("make setup"),
            }];
        }
    };
    let detail = format!("{} ({})", runtime.version(), runtime.path().display());
    let mut findings = vec![Finding {
        what: "ONNX Runtime",
        state: State::Ok,
        detail,
        fix: None,
    }];
    for provider in runtime.execution_providers_that_really_load() {
        let (state, fix) = match provider.problem {
            None => (State::Ok, None),
            Some(_) => (
                State::Optional,
                Some("optional: put the files of the onnxruntime-gpu wheel beside libonnxruntime.so"),
            ),
        };
        let detail = match provider.problem {
            None => format!("{} loads", provider.name),
            Some(problem) => format!("{}: {problem}", provider.name),
        };
        findings.push(Finding {
            what: "execution provider",
            state,
            detail,
            fix,
        });
    }
    findings
}

/// The network for `frames --scene`, which works without it.
fn shot_detector() -> Finding {
    let installed = crate::frames::installed_network(&models::roots(&[]));
    let (state, detail, fix) = match installed {
        Some(folder) => (State::Ok, folder.display().to_string(), None),
        None => (
            State::Optional,
            "frames --scene compares pictures".to_owned(),
            Some("make shots"),
        ),
    };
    Finding {
        what: "shot detector TransNetV2",
        state,
        detail,
        fix,
    }
}

fn embedded_model() -> Finding {
    let opened = models::open("reelsight-tiny", &models::roots(&[]));
    match opened {
        Ok(folder) => {
            let detail = format!("{} ({})", folder.name(), folder.root().display());
            Finding {
                what: "embedded model",
                state: State::Ok,
                detail,
                fix: None,
            }
        }
        Err(_) => Finding {
            what: "embedded model",
            state: State::Missing,
            detail: "models/zoo/reelsight-tiny was not found beside the binary or above the current folder"
                .to_owned(),
            fix: Some("run inside the repository, or name the folder with --model-root"),
        },
    }
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn print(findings: &[Finding], as_json: bool) {
    if as_json {
        let rows: Vec<Value> = findings
            .iter()
            .map(|f| json!({"what": f.what, "state": f.state.as_str(), "detail": f.detail, "fix": f.fix}))
            .collect();
        return terminal::print_json(&json!({"version": env!("CARGO_PKG_VERSION"), "findings": rows}));
    }
    for finding in findings {
        println!(
            "{:8} {}: {}",
            finding.state.as_str(),
            finding.what,
            finding.detail
        );
        if let Some(fix) = finding.fix {
            println!("         fix: {fix}");
        }
    }
}
