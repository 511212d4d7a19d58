//! `reelsight models check`: files, digests, graphs, and one run of the whole.

use reelsight_engine::ModelInfo;
use reelsight_ort::graph::for_serving;
use reelsight_registry::{Check, CheckReport, ModelFolder, Role};
use serde_json::json;

use crate::{
    exit::{Failure, FailureKind},
    models::self_test::SelfTest,
    terminal,
};

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(crate) fn run(folder: &ModelFolder, as_json: bool) -> Result<(), Failure> {
    let mut report: CheckReport = reelsight_registry::check(folder);
    report
        .checks
        .extend(folder.graph_path(Role::Decoder).map(|path| Check {
            what: "kv cache".into(),
            ok: true,
            detail: for_serving(path).cache,
        }));
    let loads = crate::serve::load_engine(folder, crate::serve::engine_defaults()).map(|engine| {
        let info = engine.info().clone();
        let run = SelfTest::run(&engine);
        engine.shutdown();
        (info, run)
    });
    if as_json {
        print_check_json(&report, &loads);
    } else {
        for check in &report.checks {
            let mark = if check.ok { "ok  " } else { "FAIL" };
            println!("{mark}  {}: {}", check.what, check.detail);
        }
        match &loads {
            Ok((info, run)) => {
                println!(
                    "ok    loads: {} ({}), {} tokens of context, up to {} per frame",
                    info.name, info.family, info.context_tokens, info.tokens_per_frame
                );
                match run {
                    Ok(run) => println!("ok    answers: {}", run.line()),
                    Err(_) => println!("FAIL  answers"),
                }
            }
            Err(_) => println!("FAIL  loads"),
        }
    }
    loads?.1?;
    if report.ok() {
        Ok(())
    } else {
        Err(Failure::new(
            FailureKind::Setup,
            "MODEL_DAMAGED",
            "the model folder failed its checks; fetch it again",
        ))
    }
}

fn print_check_json(report: &CheckReport, loads: &Result<(ModelInfo, Result<SelfTest, Failure>), Failure>) {
    let checks: Vec<_> = report
        .checks
        .iter()
        .map(|c| json!({"what": c.what, "ok": c.ok, "detail": c.detail}))
        .collect();
    let loaded = loads.as_ref().ok().map(|(info, _)| {
        json!({"name": info.name, "family": info.family, "precision": info.precision,
               "context_tokens": info.context_tokens, "tokens_per_frame": info.tokens_per_frame,
               "kv_bytes_per_token": info.kv_bytes_per_token, "sha256": info.sha256})
    });
    let run = loads.as_ref().ok().and_then(|(_, run)| run.as_ref().ok());
    let ok = report.ok() && run.is_some();
    let run = run.map(SelfTest::json);
    terminal::print_json(&json!({"ok": ok, "checks": checks, "loaded": loaded, "run": run}));
}
