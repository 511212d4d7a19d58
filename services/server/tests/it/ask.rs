//! One question, from every kind of source.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reelsight_proto::v1::{
    AnswerOptions, AskUploadRequest, Sampling, TimeRange, UploadChunk,
    ask_request::Target,
    ask_response::Event,
    ask_upload_request::Payload,
    time_range::{End, Start},
    video_source::Source,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tonic::Code;

use crate::support::{Harness, SilentWeb, about, about_clip, clip, reason, trust_loopback};

#[tokio::test(flavor = "multi_thread")]
async fn accepted_comes_first_and_the_result_sums_up_the_stream() {
    let harness = Harness::start().await;
    let mut request = about_clip("what happens?");
    request.options = Some(AnswerOptions {
        citations: true,
        ..AnswerOptions::default()
    });
    let answer = harness.ask(request).await.unwrap();
    let Event::Accepted(accepted) = &answer.events[0] else {
        panic!("{:?}", answer.events[0])
    };
    let (plan, result) = (accepted.plan.clone().unwrap(), &answer.result);
    let report = result.sampling_report.clone().unwrap();
    assert_eq!(
        (plan.frames_used, plan.visual_tokens),
        (report.frames_used, report.visual_tokens)
    );
    assert!(
        report.frames_used > 0 && report.frames_decoded >= report.frames_used,
        "{report:?}"
    );
    assert_eq!(report.media_duration.unwrap().seconds, 4);
    assert_eq!(answer.deltas().trim(), result.answer.trim());
    let cited: Vec<_> = answer
        .events
        .iter()
        .filter(|event| matches!(event, Event::Citation(_)))
        .collect();
    assert_eq!(cited.len(), result.citations.len());
    for citation in &result.citations {
        assert_eq!(
            (citation.text_start, citation.text_end as usize),
            (0, result.answer.len())
        );
        assert!(
            !citation.frame_ids.is_empty()
                && citation.grounding_score.is_some()
                && !citation.label.is_empty()
        );
    }
    let usage = result.usage.clone().unwrap();
    assert_eq!(
        (usage.cached_tokens, usage.visual_tokens),
        (0, report.visual_tokens)
    );
    assert!(usage.prompt_tokens > usage.visual_tokens && usage.completion_tokens > 0);
    assert!(usage.wall_time.is_some() && !usage.model.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_source_gives_the_same_answer() {
    let harness = Harness::with(trust_loopback).await;
    let by_path = harness.ask(about_clip("what?")).await.unwrap().result.answer;
    let inline = about(Source::InlineContent(clip().into()), "what?");
    assert_eq!(harness.ask(inline).await.unwrap().result.answer, by_path);

    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/clip.mp4", web.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = web.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let _read = stream.read(&mut head).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", clip().len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&clip()).await.unwrap();
        stream
    };
    let (fetched, _stream) = tokio::join!(harness.ask(about(Source::Uri(uri), "what?")), serve);
    assert_eq!(fetched.unwrap().result.answer, by_path);

    let mut ask = about_clip("what?");
    ask.target = None;
    let mut messages = vec![AskUploadRequest {
        payload: Some(Payload::Ask(ask)),
    }];
    let mut offset = 0;
    for piece in clip().chunks(10_000) {
        let chunk = UploadChunk {
            offset,
            data: Bytes::copy_from_slice(piece),
            crc32c: crc32c::crc32c(piece),
        };
        offset += piece.len() as u64;
        messages.push(AskUploadRequest {
            payload: Some(Payload::Chunk(chunk)),
        });
    }
    let mut stream = harness
        .qa()
        .ask_upload(tokio_stream::iter(messages))
        .await
        .unwrap()
        .into_inner();
    let mut last = None;
    while let Some(wrapped) = stream.message().await.unwrap() {
        last = wrapped.response.unwrap().event;
    }
    let Some(Event::Result(result)) = last else {
        panic!("{last:?}")
    };
    assert_eq!(result.answer, by_path);
}

#[tokio::test(flavor = "multi_thread")]
async fn sampling_and_ranges_are_honoured_and_reductions_are_told() {
    let harness = Harness::start().await;
    let mut request = about_clip("what?");
    request.sampling = Some(Sampling {
        fps: 25.0,
        max_frames: 3,
        ..Sampling::default()
    });
    let answer = harness.ask(request.clone()).await.unwrap();
    let report = answer.result.sampling_report.clone().unwrap();
    assert!(report.frames_used <= 3 && report.reduced_to_fit, "{report:?}");
    assert_eq!(report.reduced_reason, "MAX_FRAMES");
    assert!(answer.warnings().contains(&"SAMPLING_REDUCED"));
    if let Some(Target::Source(source)) = &mut request.target {
        let secs = |seconds| prost_types::Duration { seconds, nanos: 0 };
        let (start, end) = (Start::StartOffset(secs(1)), End::EndOffset(secs(2)));
        source.range = Some(TimeRange {
            start: Some(start),
            end: Some(end),
        });
    }
    request.options = Some(AnswerOptions {
        citations: true,
        ..AnswerOptions::default()
    });
    let result = harness.ask(request).await.unwrap().result;
    assert_eq!(result.sampling_report.unwrap().media_duration.unwrap().seconds, 1);
    for frame in result.citations.iter().flat_map(|citation| &citation.frame_ids) {
        assert!(
            (25..50).contains(frame),
            "frame {frame} is not in the second second"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_and_progress_do_not_wait_for_a_slow_source() {
    let (harness, web) = (Harness::with(trust_loopback).await, SilentWeb::start().await);
    let mut request = about(Source::Uri(web.uri.clone()), "what?");
    let every = prost_types::Duration {
        seconds: 0,
        nanos: 100_000_000,
    };
    request.options = Some(AnswerOptions {
        progress_interval: Some(every),
        ..AnswerOptions::default()
    });
    let began = Instant::now();
    let mut stream = harness.qa().ask(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(first, Event::Accepted(accepted) if accepted.plan.is_none()));
    assert!(began.elapsed() < Duration::from_secs(2));
    for _ in 0..3 {
        let next = stream.message().await.unwrap().unwrap().event.unwrap();
        assert!(
            matches!(next, Event::Progress(progress) if progress.stage().as_str_name() == "STAGE_FETCHING")
        );
    }
    web.until_open(1).await;
    drop(stream);
    web.until_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_ask_frees_the_engine() {
    let harness = Harness::start().await;
    for events in 1..4 {
        let mut request = about_clip("what?");
        request.generation.as_mut().unwrap().max_tokens = 400;
        let mut stream = harness.qa().ask(request).await.unwrap().into_inner();
        for _ in 0..events {
            stream.message().await.unwrap();
        }
        drop(stream);
        harness.idle().await;
    }
    harness.ask(about_clip("still there?")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_counts_from_the_call_and_is_typed() {
    let (harness, web) = (Harness::with(trust_loopback).await, SilentWeb::start().await);
    let mut request = tonic::Request::new(about(Source::Uri(web.uri.clone()), "what?"));
    request.set_timeout(Duration::from_millis(400));
    let mut stream = harness.qa().ask(request).await.unwrap().into_inner();
    let status = loop {
        match stream.message().await {
            Ok(Some(_event)) => {}
            Ok(None) => panic!("ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::DeadlineExceeded, "DEADLINE_BEFORE_START")
    );
    web.until_open(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_id_gives_the_same_answer_once() {
    let harness = Harness::start().await;
    let mut request = about_clip("what?");
    request.request_id = "once".into();
    request.generation.as_mut().unwrap().temperature = Some(1.5);
    let first = harness.ask(request.clone()).await.unwrap();
    let second = harness.ask(request.clone()).await.unwrap();
    assert_eq!(first.result, second.result);
    assert_eq!(second.deltas(), second.result.answer);
    request.question = "something else?".into();
    let status = harness.ask(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::AlreadyExists, "REQUEST_ID_REUSED")
    );
}
