//! Many asks at once: whatever the scheduler does with them, each is answered as if it were alone.

mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};
use reelsight_engine::{
    AskJob, AskTarget, Engine, EngineConfig, EngineError, EngineEvent, GenerationOptions, KvTier, Priority,
    SessionKv, VideoPlan,
};
use reelsight_media::{CancelFlag, IterSource};
use support::{ask, config, eventually, frame, job, load, plan, wait};

const QUESTION: &str = "What moves?";

/// Room for about three of the asks below at a time.
fn tight() -> EngineConfig {
    EngineConfig {
        max_active: 4,
        max_queued: 64,
        max_batch: 3,
        prefill_chunk: 48,
        kv_bytes: 3 * 512 * load(&config()).info().kv_bytes_per_token,
        priority_age: Duration::from_millis(50),
        ..config()
    }
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| load(&tight()))
}

/// One ask of a run; equal ones have equal answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wish {
    seed: u64,
    /// Tokens of the prompt, or a video with this many frames.
    prompt: Result<usize, u32>,
    max_tokens: usize,
    sampled: bool,
}

/// When it comes, how important it is, whose it is, and when it is cancelled.
#[derive(Debug, Clone)]
struct Arrival {
    wish: Wish,
    after_ms: u64,
    priority: Priority,
    tenant: u8,
    cancel_after_ms: Option<u64>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let prompt = prop_oneof![3 => (2..300_usize).prop_map(Ok), 1 => (25..200_u32).prop_map(Err)];
    (0..6_u64, prompt, 1..24_usize, any::<bool>()).prop_map(|(seed, prompt, max_tokens, sampled)| Wish {
        seed,
        prompt,
        max_tokens,
        sampled,
    })
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let priority = prop_oneof![
        Just(Priority::Background),
        Just(Priority::Normal),
        Just(Priority::Urgent)
    ];
    let cancel = prop_oneof![3 => Just(None), 1 => (0..60_u64).prop_map(Some)];
    (wish(), 0..15_u64, priority, 0..3_u8, cancel).prop_map(
        |(wish, after_ms, priority, tenant, cancel_after_ms)| Arrival {
            wish,
            after_ms,
            priority,
            tenant,
            cancel_after_ms,
        },
    )
}

fn target(wish: &Wish, key: bool) -> AskTarget {
    match wish.prompt {
        Ok(len) => {
            let ids = (0..len as u64).map(|at| 3 + (wish.seed * 37 + at * 11 + at * at % 7) % 90);
            AskTarget::Tokens(ids.filter_map(|id| u32::try_from(id).ok()).collect())
        }
        Err(frames) => keyed(
            wish.seed,
            &plan(engine(), frames, QUESTION),
            key.then(Arc::default),
        ),
    }
}

/// A video whose openings are counted, with a key when they are.
fn keyed(seed: u64, plan: &VideoPlan, opened: Option<Arc<AtomicUsize>>) -> AskTarget {
    let frames: Vec<_> = plan.frames.iter().map(|&index| frame(seed, index)).collect();
    AskTarget::Video {
        plan: plan.clone(),
        key: opened.as_ref().map(|_| format!("made/{seed}")),
        open: Box::new(move |_: &CancelFlag| {
            opened.map(|opened| opened.fetch_add(1, Ordering::Relaxed));
            Ok(Box::new(IterSource::new(frames)))
        }),
    }
}

fn job_of(wish: &Wish, key: bool) -> AskJob {
    let question = if wish.prompt.is_ok() { "" } else { QUESTION };
    AskJob {
        generation: GenerationOptions {
            max_tokens: wish.max_tokens,
            temperature: if wish.sampled { 1.0 } else { 0.0 },
            seed: Some(wish.seed),
            ..GenerationOptions::default()
        },
        ..AskJob::new(target(wish, key), question)
    }
}

/// What the ask is answered when nothing else runs and nothing is cached.
fn alone(wish: &Wish) -> Vec<u32> {
    static KNOWN: Mutex<Option<HashMap<Wish, Vec<u32>>>> = Mutex::new(None);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ids) = known().get_or_insert_default().get(wish) {
        return ids.clone();
    }
    let ids = ask(engine(), job_of(wish, false)).token_ids;
    known().get_or_insert_default().insert(wish.clone(), ids.clone());
    ids
}

proptest! {
    #![proptest_config(Config { cases: 12, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..Config::default() })]

    #[test]
    fn whatever_comes_when_each_is_answered_as_if_alone(arrivals in prop::collection::vec(arrival(), 2..14)) {
        let expected: Vec<_> = arrivals.iter().map(|arrival| alone(&arrival.wish)).collect();
        let answers: Vec<_> = std::thread::scope(|scope| {
            let waiting: Vec<_> = arrivals.iter().map(|arrival| {
                std::thread::sleep(Duration::from_millis(arrival.after_ms));
                let job = AskJob {
                    priority: arrival.priority,
                    tenant: arrival.tenant.to_string(),
                    ..job_of(&arrival.wish, true)
                };
                let cancel = job.cancel.clone();
                let handle = engine().submit(job).unwrap();
                let after = arrival.cancel_after_ms;
                scope.spawn(move || {
                    if let Some(after) = after {
                        std::thread::sleep(Duration::from_millis(after));
                        cancel.cancel();
                    }
                    wait(handle)
                })
            }).collect();
            waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for ((arrival, expected), answer) in arrivals.iter().zip(expected).zip(answers) {
            match answer {
                Ok((outcome, _)) => prop_assert_eq!(outcome.token_ids, expected, "{:?}", arrival),
                Err(error) => {
                    prop_assert!(matches!(*error, EngineError::Cancelled), "{:?}: {}", arrival, error);
                    prop_assert!(arrival.cancel_after_ms.is_some());
                }
            }
        }
        eventually("the end of all asks", || engine().active() + engine().queued() == 0);
        let metrics = engine().metrics();
        prop_assert_eq!((metrics.kv_running_bytes, metrics.kv_reserved_bytes), (0, 0));
    }
}

#[test]
fn an_urgent_ask_takes_the_place_of_others_which_go_on_later() {
    let engine = load(&EngineConfig {
        max_active: 2,
        priority_age: Duration::from_mins(1),
        ..tight()
    });
    let long = |seed| Wish {
        seed,
        prompt: Ok(200),
        max_tokens: 120,
        sampled: false,
    };
    let short = Wish {
        max_tokens: 3,
        ..long(5)
    };
    let expected: Vec<_> = [long(1), long(2)]
        .iter()
        .map(|wish| ask(&engine, job_of(wish, false)).token_ids)
        .collect();
    let mut running: Vec<_> = [long(1), long(2)]
        .iter()
        .map(|wish| engine.submit(job_of(wish, false)).unwrap())
        .collect();
    for handle in &mut running {
        assert!(matches!(
            handle.events.blocking_recv(),
            Some(Ok(EngineEvent::Delta(_)))
        ));
    }
    let urgent = AskJob {
        priority: Priority::Urgent,
        ..job_of(&short, false)
    };
    let (outcome, _) = wait(engine.submit(urgent).unwrap()).unwrap();
    assert_eq!(outcome.completion_tokens, 3);
    assert_eq!(engine.metrics().preemptions, 1);
    for (handle, expected) in running.into_iter().zip(expected) {
        assert_eq!(wait(handle).unwrap().0.token_ids, expected);
    }
}

#[test]
fn questions_about_one_video_share_its_prefix() {
    let engine = load(&EngineConfig {
        max_active: 4,
        ..config()
    });
    let plan = plan(&engine, 200, QUESTION);
    let expected = ask(&engine, job(keyed(3, &plan, None), QUESTION));
    let opened = Arc::<AtomicUsize>::default();
    let submit = || {
        engine
            .submit(job(keyed(3, &plan, Some(Arc::clone(&opened))), QUESTION))
            .unwrap()
    };
    let handles: Vec<_> = (0..4).map(|_| submit()).collect();
    let outcomes: Vec<_> = handles
        .into_iter()
        .map(|handle| wait(handle).unwrap().0)
        .collect();
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.token_ids == expected.token_ids)
    );
    assert_eq!(opened.load(Ordering::Relaxed), 1, "the video was opened once");
    let cached: Vec<_> = outcomes.iter().map(|outcome| outcome.cached_tokens).collect();
    assert_eq!(cached[0], 0);
    assert!(
        cached[1..].iter().all(|&tokens| tokens >= plan.visual_tokens),
        "{cached:?}"
    );
    assert_eq!(outcomes[1].cached_in, Some(KvTier::Host));
    assert_eq!(
        (outcomes[1].frames_used, outcomes[1].prompt_tokens),
        (8, expected.prompt_tokens)
    );
    let metrics = engine.metrics();
    assert_eq!((metrics.prefix_lookups, metrics.prefix_hits), (4, 3));

    // Four sessions hold the video once.
    let sessions: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.session.unwrap())
        .collect();
    let before = metrics.kv_host_bytes;
    for (at, session) in sessions.iter().enumerate() {
        engine.keep(&format!("sessions/{at}"), session);
    }
    let tails: usize = sessions.iter().map(SessionKv::tokens).sum::<usize>() - 4 * cached[1];
    let grown = engine.metrics().kv_host_bytes - before;
    assert_eq!(grown, tails * engine.info().kv_bytes_per_token);
    // Another plan, or another content, is another prefix.
    let other = ask(&engine, job(keyed(4, &plan, Some(Arc::clone(&opened))), QUESTION));
    assert_eq!((other.cached_tokens, opened.load(Ordering::Relaxed)), (0, 2));
}

#[test]
fn whoever_follows_a_cancelled_ask_reads_the_video_itself() {
    let engine = load(&config());
    let plan = plan(&engine, 200, QUESTION);
    let (alive, gone) = std::sync::mpsc::sync_channel::<()>(1);
    let first = AskJob::new(
        AskTarget::Video {
            plan: plan.clone(),
            key: Some("made/1".into()),
            open: Box::new(move |cancel: &CancelFlag| {
                while !cancel.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                drop(alive);
                Ok(Box::new(IterSource::new(Vec::new())))
            }),
        },
        QUESTION,
    );
    let first = engine.submit(first).unwrap();
    eventually("the first ask runs", || engine.active() == 1);
    let opened = Arc::<AtomicUsize>::default();
    let second = engine
        .submit(job(keyed(1, &plan, Some(Arc::clone(&opened))), QUESTION))
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(
        (engine.active(), opened.load(Ordering::Relaxed)),
        (1, 0),
        "it waits for the first one's prefix"
    );
    drop(first);
    let outcome = wait(second).unwrap().0;
    assert_eq!((outcome.cached_tokens, opened.load(Ordering::Relaxed)), (0, 1));
    assert_eq!(gone.recv(), Err(std::sync::mpsc::RecvError));
}

#[test]
fn running_answers_go_on_while_a_long_prompt_is_prefilled() {
    let engine = load(&EngineConfig {
        prefill_chunk: 32,
        ..config()
    });
    let wish = |len, max_tokens| Wish {
        seed: 1,
        prompt: Ok(len),
        max_tokens,
        sampled: false,
    };
    let mut first = engine
        .submit(AskJob {
            trace: true,
            ..job_of(&wish(20, 200), false)
        })
        .unwrap();
    assert!(matches!(
        first.events.blocking_recv(),
        Some(Ok(EngineEvent::Delta(_)))
    ));
    let second = engine
        .submit(AskJob {
            trace: true,
            ..job_of(&wish(1500, 2), false)
        })
        .unwrap();
    let second = wait(second).unwrap().0;
    let slices = second.trace.iter().filter(|span| span.name == "prefill").count();
    assert_eq!(slices, 1500_usize.div_ceil(32));
    let first = wait(first).unwrap().0;
    assert_eq!(first.completion_tokens, first.token_ids.len());
    // At least as many tokens as slices came out while the second one was prefilled, or the answer ended before.
    let decoded = engine.metrics().decode_steps;
    assert!(
        usize::try_from(decoded).unwrap() >= slices.min(first.completion_tokens - 1),
        "{decoded} steps, {slices} slices"
    );
    assert!(second.trace.windows(2).all(|pair| pair[0].start <= pair[1].start));
}

#[test]
fn what_can_never_fit_is_refused_and_what_cannot_be_in_time_is_not_begun() {
    let per_token = load(&config()).info().kv_bytes_per_token;
    let engine = load(&EngineConfig {
        kv_bytes: 300 * per_token,
        ..config()
    });
    let wish = |len| Wish {
        seed: 1,
        prompt: Ok(len),
        max_tokens: 4,
        sampled: false,
    };
    assert!(matches!(
        *wait(engine.submit(job_of(&wish(500), false)).unwrap()).unwrap_err(),
        EngineError::DeviceMemory { .. }
    ));
    ask(&engine, job_of(&wish(200), false));
    let late = AskJob {
        deadline: Some(std::time::Instant::now() + Duration::from_micros(100)),
        ..job_of(&wish(250), false)
    };
    assert!(matches!(
        *wait(engine.submit(late).unwrap()).unwrap_err(),
        EngineError::DeadlineExceeded { started: false }
    ));
}
