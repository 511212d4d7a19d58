//! Queue, cancellation and deadlines: everything ends, and nothing stays behind.

mod support;

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use reelsight_engine::{AskJob, AskTarget, Engine, EngineError, EngineEvent, VideoPlan};
use reelsight_media::{CancelFlag, FrameError, FrameErrorKind, FrameSource, RgbFrame};
use support::{ask, config, eventually, frame, from_source, job, load, plan, threads, video, wait};

/// Gives `ready` frames and then waits until it is cancelled.
struct Stuck {
    frames: Vec<RgbFrame>,
    cancel: CancelFlag,
    _alive: mpsc::SyncSender<()>,
}

impl FrameSource for Stuck {
    fn next_frame(&mut self) -> Result<Option<RgbFrame>, FrameError> {
        if !self.frames.is_empty() {
            return Ok(Some(self.frames.remove(0)));
        }
        while !self.cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(FrameError {
            kind: FrameErrorKind::Cancelled,
            reason: "CANCELLED",
            message: "cancelled".into(),
        })
    }
}

/// A target that never ends, and a receiver that notices when its source is gone.
fn stuck(plan: &VideoPlan, ready: usize) -> (AskTarget, mpsc::Receiver<()>) {
    let (alive, gone) = mpsc::sync_channel(1);
    let frames = plan
        .frames
        .iter()
        .take(ready)
        .map(|&index| frame(1, index))
        .collect();
    let target = from_source(plan, move |cancel| {
        Box::new(Stuck {
            frames,
            cancel: cancel.clone(),
            _alive: alive,
        })
    });
    (target, gone)
}

fn is_gone(gone: &mpsc::Receiver<()>) -> bool {
    gone.try_recv() == Err(mpsc::TryRecvError::Disconnected)
}

/// One test at a time: they count this process's threads.
fn alone() -> impl Drop {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An engine that has run an ask, so that pools which last for the process are there.
fn warm() -> (Engine, VideoPlan) {
    let engine = load(&config());
    let plan = plan(&engine, 200, "What moves?");
    ask(&engine, job(video(1, &plan), "What moves?"));
    (engine, plan)
}

fn long(target: AskTarget) -> AskJob {
    let mut job = job(target, "What moves?");
    job.generation.max_tokens = 3000;
    job
}

#[test]
fn a_cancel_in_the_middle_of_decoding_frees_source_and_threads() {
    let _alone = alone();
    let (engine, plan) = warm();
    let (target, gone) = stuck(&plan, 5);
    let ask = job(target, "What moves?");
    let cancel = ask.cancel.clone();
    let mut handle = engine.submit(ask).unwrap();
    assert!(matches!(
        handle.events.blocking_recv(),
        Some(Ok(EngineEvent::Frames { done: 4, .. }))
    ));
    // Those named pixels-* may be workers of the process-wide pool, which takes the name of whoever starts it.
    let stages = || {
        threads()
            .into_iter()
            .filter(|name| name.starts_with("frames-") || name.starts_with("encode-"))
    };
    assert_eq!(stages().count(), 2);
    let start = Instant::now();
    cancel.cancel();
    assert!(matches!(*wait(handle).unwrap_err(), EngineError::Cancelled));
    assert!(start.elapsed() < Duration::from_secs(1));
    eventually("the end of the source", || is_gone(&gone));
    eventually("the end of the ask", || engine.active() == 0);
    eventually("the end of the stages", || stages().count() == 0);
}

#[test]
fn a_dropped_handle_ends_generation_and_the_next_ask_runs() {
    let _alone = alone();
    let (engine, plan) = warm();
    let mut handle = engine.submit(long(video(1, &plan))).unwrap();
    let delta = |event: &Option<Result<EngineEvent, _>>| matches!(event, Some(Ok(EngineEvent::Delta(_))));
    while !delta(&handle.events.blocking_recv()) {}
    assert_eq!(engine.active(), 1);
    drop(handle);
    eventually("the end of the ask", || engine.active() == 0);
    assert_eq!(ask(&engine, job(video(1, &plan), "What moves?")).frames_used, 8);
}

#[test]
fn the_surplus_is_refused_at_once_and_the_queue_moves_up() {
    let _alone = alone();
    let (engine, plan) = warm();
    let hang = || {
        let (target, gone) = stuck(&plan, 0);
        let ask = job(target, "What moves?");
        (ask.cancel.clone(), engine.submit(ask), gone)
    };
    let running = [hang(), hang()];
    eventually("two asks run", || engine.active() == 2);
    let (_, first, _) = hang();
    let (_, second, _) = hang();
    let (mut first, mut second) = (first.unwrap(), second.unwrap());
    let position = |event| match event {
        Some(Ok(EngineEvent::Queued { position })) => position,
        other => panic!("{other:?}"),
    };
    assert_eq!(position(first.events.blocking_recv()), 0);
    assert_eq!(position(second.events.blocking_recv()), 1);
    assert_eq!((engine.active(), engine.queued()), (2, 2));
    match hang().1 {
        Err(EngineError::QueueFull {
            limit: 4,
            retry_after,
        }) => assert!(retry_after > Duration::ZERO),
        other => panic!("{other:?}"),
    }
    running[0].0.cancel();
    assert_eq!(position(second.events.blocking_recv()), 0);
}

#[test]
fn time_in_the_queue_counts_against_the_deadline() {
    let _alone = alone();
    let (engine, plan) = warm();
    let deadline = || Some(Instant::now() + Duration::from_millis(150));
    let running: Vec<_> = (0..2)
        .map(|_| {
            let (target, gone) = stuck(&plan, 4);
            (
                engine.submit(AskJob {
                    deadline: deadline().map(|at| at + Duration::from_millis(250)),
                    ..job(target, "?")
                }),
                gone,
            )
        })
        .collect();
    let late = engine
        .submit(AskJob {
            deadline: deadline(),
            ..job(video(1, &plan), "?")
        })
        .unwrap();
    assert!(matches!(
        *wait(late).unwrap_err(),
        EngineError::DeadlineExceeded { started: false }
    ));
    assert_eq!(engine.active(), 2);
    for (handle, gone) in running {
        assert!(matches!(
            *wait(handle.unwrap()).unwrap_err(),
            EngineError::DeadlineExceeded { started: true }
        ));
        eventually("the end of the source", || is_gone(&gone));
    }
}

#[test]
fn shutdown_cancels_what_runs_and_what_waits_and_joins_its_threads() {
    let _alone = alone();
    let none = threads()
        .iter()
        .filter(|name| name.starts_with("sched-") || name.starts_with("ort-"))
        .count();
    let (engine, plan) = warm();
    let handles: Vec<_> = (0..4)
        .map(|_| engine.submit(job(stuck(&plan, 1).0, "?")).unwrap())
        .collect();
    engine.shutdown();
    for handle in handles {
        assert!(matches!(*wait(handle).unwrap_err(), EngineError::Cancelled));
    }
    assert!(matches!(
        engine.submit(job(video(1, &plan), "?")),
        Err(EngineError::Cancelled)
    ));
    drop(engine);
    let left = threads()
        .iter()
        .filter(|name| name.starts_with("sched-") || name.starts_with("ort-"))
        .count();
    assert_eq!(left, none, "{:?}", threads());
}

#[test]
fn a_source_that_fails_or_panics_fails_its_ask_alone() {
    struct Failing(bool);
    impl FrameSource for Failing {
        fn next_frame(&mut self) -> Result<Option<RgbFrame>, FrameError> {
            assert!(!self.0, "a bug in a source");
            Err(FrameError {
                kind: FrameErrorKind::Media,
                reason: "MEDIA_CORRUPT",
                message: "bad".into(),
            })
        }
    }
    let _alone = alone();
    let (engine, plan) = warm();
    let failed = |panics| {
        let ask = job(from_source(&plan, move |_| Box::new(Failing(panics))), "?");
        wait(engine.submit(ask).unwrap()).unwrap_err()
    };
    assert!(matches!(&*failed(false), EngineError::Frames(error) if error.reason == "MEDIA_CORRUPT"));
    assert!(matches!(&*failed(true), EngineError::Internal { .. }));
    assert_eq!(ask(&engine, job(video(1, &plan), "?")).frames_used, 8);
}

#[test]
fn asks_of_many_threads_answer_as_if_each_were_alone() {
    let _alone = alone();
    let (engine, plan) = warm();
    let engine = Arc::new(engine);
    let alone: Vec<_> = (0..4)
        .map(|seed| ask(&engine, job(video(seed, &plan), "What moves?")).token_ids)
        .collect();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (engine, plan, alone) = (&engine, &plan, &alone);
            scope.spawn(move || {
                let together = ask(engine, job(video(seed, plan), "What moves?"));
                assert_eq!(together.token_ids, alone[usize::try_from(seed).unwrap()]);
            });
        }
    });
}
