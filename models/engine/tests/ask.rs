//! Asks from submission to outcome on a model with random weights.

mod support;

use reelsight_engine::{EngineEvent, Finish};
use support::{ask, engine, job, plan, video, wait};

#[test]
fn a_video_and_a_question_give_an_answer_and_an_account_of_it() {
    let engine = engine();
    let plan = plan(&engine, 200, "What moves?");
    assert_eq!(plan.frames.len(), 8);
    let (outcome, events) = wait(engine.submit(job(video(1, &plan), "What moves?")).unwrap()).unwrap();
    let streamed: String = events
        .iter()
        .filter_map(|event| {
            if let EngineEvent::Delta(text) = event {
                Some(text.as_str())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(streamed, outcome.answer);
    assert!(
        matches!(events.first(), Some(EngineEvent::Frames { done: 4, total: 8 })),
        "{events:?}"
    );
    assert!(outcome.completion_tokens > 0 && outcome.token_ids.len() == outcome.completion_tokens);
    assert_eq!(
        (outcome.frames_used, outcome.frames_damaged, outcome.cached_tokens),
        (8, 0, 0)
    );
    assert_eq!(outcome.visual_tokens, plan.visual_tokens);
    assert!(matches!(outcome.finish, Finish::Stop | Finish::Length));
    println!("{outcome:?}");
}
