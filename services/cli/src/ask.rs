//! `reelsight ask`: one question, over the same gRPC path with and without a server.

use std::{io::Write as _, time::Duration};

use futures::StreamExt as _;
use indicatif::ProgressBar;
use reelsight_proto::v1::{
    AnswerOptions, AskRequest, AskResponse, AskResult, ChoiceScore, Citation, FinishReason, Progress,
    Sampling, SamplingReport, Stage, TokenLogprob, Usage, ask_request::Target, ask_response::Event,
};
use serde_json::{Value, json};

use crate::{
    args::AskArgs,
    client::{self, AskStream, Connection},
    exit::{Failure, FailureKind},
    terminal, trace,
};

pub(crate) fn run(args: &AskArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let connection = client::connect(args).await?;
        let outcome = tokio::select! {
            outcome = ask(&connection, args) => outcome,
            _interrupt = tokio::signal::ctrl_c() => {
                Err(Failure::new(FailureKind::Interrupted, "INTERRUPTED", "interrupted"))
            }
        };
        connection.close().await;
        outcome
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

async fn ask(connection: &Connection, args: &AskArgs) -> Result<(), Failure> {
    let mut stream = connection.ask(request(args)?, args).await?;
    let result = follow(&mut stream, args).await?;
    if let Some(path) = &args.trace {
        trace::write(path, &connection.trace())?;
    }
    if args.json {
        terminal::print_json(&document(&result));
    }
    Ok(())
}

/// The request without its source, which depends on the connection.
fn request(args: &AskArgs) -> Result<AskRequest, Failure> {
    Ok(AskRequest {
        request_id: String::new(),
        target: None::<Target>,
        question: args.question.clone(),
        sampling: Some(Sampling {
            fps: args.fps.unwrap_or_default(),
            max_frames: args.max_frames.unwrap_or_default(),
            ..Sampling::default()
        }),
        generation: Some(args.generation.config()?),
        options: Some(AnswerOptions {
            citations: true,
            ..AnswerOptions::default()
        }),
        keep_session: false,
    })
}

/// Shows the stream while it runs and returns its result.
#[expect(clippy::print_stderr, reason = "warnings are for the person")]
async fn follow(stream: &mut AskStream, args: &AskArgs) -> Result<AskResult, Failure> {
    let bar = terminal::progress(0, args.json);
    let mut screen = Screen {
        bar,
        streaming: !args.json,
        started: false,
    };
    while let Some(response) = stream.next().await {
        let AskResponse { event: Some(event) } = response? else {
            continue;
        };
        match event {
            Event::Accepted(accepted) => screen.plan(accepted.plan.as_ref()),
            Event::Progress(progress) => screen.progress(&progress),
            Event::Delta(delta) => screen.delta(&delta.text)?,
            Event::Warning(warning) => {
                screen
                    .bar
                    .suspend(|| eprintln!("warning: {} [{}]", warning.message, warning.reason));
            }
            Event::Citation(_) => {}
            Event::Result(result) => {
                screen.finish(&result)?;
                return Ok(result);
            }
        }
    }
    Err(Failure::new(
        FailureKind::Unavailable,
        "STREAM_ENDED",
        "the server ended the stream without a result; try again",
    ))
}

/// What a person sees: a bar, then the answer as it comes, then citations and timings.
struct Screen {
    bar: ProgressBar,
    streaming: bool,
    started: bool,
}

impl Screen {
    fn plan(&self, plan: Option<&SamplingReport>) {
        if let Some(plan) = plan {
            self.bar.set_length(plan.frames_used.into());
        }
    }

    fn progress(&self, progress: &Progress) {
        if progress.frames_total > 0 {
            self.bar.set_length(progress.frames_total);
        }
        self.bar.set_position(progress.frames_done);
        self.bar.set_message(stage_name(progress.stage()));
    }

    fn delta(&mut self, text: &str) -> Result<(), Failure> {
        if !self.streaming {
            return Ok(());
        }
        self.bar.finish_and_clear();
        self.started = true;
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    fn finish(&mut self, result: &AskResult) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        if !self.streaming {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        if self.started {
            writeln!(out)?;
        }
        for choice in &result.choices {
            writeln!(out, "  {:5.1} %  {}", choice.probability * 100.0, choice.text)?;
        }
        for citation in &result.citations {
            writeln!(out, "  {}", citation_line(citation))?;
        }
        writeln!(out, "  {}", timing_line(result))?;
        Ok(())
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Unspecified => "",
        Stage::Queued => "queued",
        Stage::Fetching => "fetching",
        Stage::Probing => "probing",
        Stage::Decoding => "decoding",
        Stage::Encoding => "encoding",
        Stage::Prefill => "reading",
        Stage::Generating => "answering",
        Stage::Verifying => "citing",
    }
}

fn citation_line(citation: &Citation) -> String {
    let (start, end) = range_secs(citation);
    format!(
        "[{} - {}] score {:.2}, {} frames",
        reelsight_media::label_from_secs(start),
        reelsight_media::label_from_secs(end),
        citation.grounding_score.unwrap_or_default(),
        citation.frame_ids.len()
    )
}

fn timing_line(result: &AskResult) -> String {
    let usage = result.usage.clone().unwrap_or_default();
    let millis = |time: Option<prost_types::Duration>| secs(time) * 1000.0;
    format!(
        "{} · {} prompt + {} answer tokens · decode {:.0} ms, encode {:.0} ms, prefill {:.0} ms, generate {:.0} ms, \
         first token after {:.0} ms, all in {:.0} ms",
        usage.model,
        usage.prompt_tokens,
        usage.completion_tokens,
        millis(usage.decode_time),
        millis(usage.encode_time),
        millis(usage.prefill_time),
        millis(usage.generate_time),
        millis(usage.first_token_time),
        millis(usage.wall_time),
    )
}

fn document(result: &AskResult) -> Value {
    let finish = FinishReason::try_from(result.finish_reason).unwrap_or_default();
    json!({
        "answer": result.answer,
        "finish_reason": finish.as_str_name().trim_start_matches("FINISH_REASON_"),
        "citations": result.citations.iter().map(citation_json).collect::<Vec<_>>(),
        "usage": result.usage.as_ref().map(usage_json),
        "sampling": result.sampling_report.as_ref().map(sampling_json),
        "session": (!result.session.is_empty()).then_some(&result.session),
        "structured": result.structured.is_some().then(|| structured(&result.answer)),
        "choices": (!result.choices.is_empty()).then(|| choices_json(&result.choices)),
        "confidence": result.confidence,
        "logprobs": (!result.logprobs.is_empty()).then(|| logprobs_json(&result.logprobs)),
    })
}

/// The answer itself keeps the order of fields and all digits, which the wire's values do not.
fn structured(answer: &str) -> Value {
    serde_json::from_str(answer).unwrap_or_default()
}

fn choices_json(choices: &[ChoiceScore]) -> Vec<Value> {
    let one = |choice: &ChoiceScore| {
        json!({
            "text": choice.text,
            "probability": choice.probability,
            "logprob": choice.logprob,
            "tokens": choice.tokens,
        })
    };
    choices.iter().map(one).collect()
}

fn logprobs_json(tokens: &[TokenLogprob]) -> Vec<Value> {
    let one = |token: &TokenLogprob| {
        json!({
            "id": token.token_id,
            "text": String::from_utf8_lossy(&token.token),
            "bytes": &token.token[..],
            "logprob": token.logprob,
        })
    };
    let with_others = |token: &TokenLogprob| {
        let mut entry = one(token);
        entry["alternatives"] = token.alternatives.iter().map(one).collect();
        entry
    };
    tokens.iter().map(with_others).collect()
}

fn citation_json(citation: &Citation) -> Value {
    let (start, end) = range_secs(citation);
    json!({
        "start_s": start,
        "end_s": end,
        "label": citation.label,
        "frames": citation.frame_ids,
        "score": citation.grounding_score,
        "text_start": citation.text_start,
        "text_end": citation.text_end,
    })
}

fn usage_json(usage: &Usage) -> Value {
    json!({
        "model": usage.model,
        "prompt_tokens": usage.prompt_tokens,
        "visual_tokens": usage.visual_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "queue_s": secs(usage.queue_time),
        "source_s": secs(usage.source_time),
        "decode_s": secs(usage.decode_time),
        "preprocess_s": secs(usage.preprocess_time),
        "encode_s": secs(usage.encode_time),
        "prefill_s": secs(usage.prefill_time),
        "generate_s": secs(usage.generate_time),
        "evidence_s": secs(usage.evidence_time),
        "first_token_s": secs(usage.first_token_time),
        "wall_s": secs(usage.wall_time),
    })
}

fn sampling_json(report: &SamplingReport) -> Value {
    json!({
        "frames_decoded": report.frames_decoded,
        "frames_used": report.frames_used,
        "visual_tokens": report.visual_tokens,
        "effective_fps": report.effective_fps,
        "media_duration_s": secs(report.media_duration),
        "reduced_to_fit": report.reduced_to_fit,
        "reduced_reason": report.reduced_reason,
    })
}

fn range_secs(citation: &Citation) -> (f64, f64) {
    use reelsight_proto::v1::time_range::{End, Start};
    let range = citation.range.unwrap_or_default();
    let start = if let Some(Start::StartOffset(offset)) = range.start {
        secs(Some(offset))
    } else {
        0.0
    };
    let end = if let Some(End::EndOffset(offset)) = range.end {
        secs(Some(offset))
    } else {
        start
    };
    (start, end)
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a video")]
fn secs(time: Option<prost_types::Duration>) -> f64 {
    time.map_or(0.0, |t| t.seconds as f64 + f64::from(t.nanos) / 1e9)
}
