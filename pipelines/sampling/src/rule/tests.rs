use proptest::prelude::*;
use reelsight_media::TimeBase;

use super::*;

/// Frames at the given hundredths of a second.
fn timeline(pts: &[i64], end: i64) -> Timeline {
    Timeline::new(TimeBase::new(1, 100).unwrap(), pts.to_vec(), end).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "calls read better")]
fn frames(timeline: &Timeline, rule: Rule, range_secs: Option<(f64, f64)>) -> Vec<u64> {
    sample(timeline, &rule, range_secs).unwrap().frames
}

/// Four seconds at 25 frames a second.
fn steady() -> Timeline {
    timeline(&(0..100).map(|frame| frame * 4).collect::<Vec<_>>(), 400)
}

#[test]
fn fps_samples_from_the_first_frame_to_below_the_end() {
    assert_eq!(frames(&steady(), Rule::Fps(1.0), None), [0, 25, 50, 75]);
    assert_eq!(frames(&steady(), Rule::Fps(0.1), None), [0]);
    // It begins where the video begins, not at zero.
    let late: Vec<i64> = (0..100).map(|frame| 70 + frame * 4).collect();
    assert_eq!(
        frames(&timeline(&late, 470), Rule::Fps(1.0), None),
        [0, 25, 50, 75]
    );
}

#[test]
fn count_takes_the_centres_of_equal_parts() {
    assert_eq!(frames(&steady(), Rule::Count(4), None), [12, 37, 62, 87]);
    assert_eq!(frames(&steady(), Rule::Count(1), None), [50]);
    assert_eq!(frames(&steady(), Rule::Count(100), None).len(), 100);
}

#[test]
fn times_decide_and_not_counts() {
    // Ten frames in the first second, one that stays for nine.
    let pts: Vec<i64> = (0..10).map(|frame| frame * 10).chain([100]).collect();
    let video = timeline(&pts, 1000);
    let sampled = sample(&video, &Rule::Fps(1.0), None).unwrap();
    assert_eq!((sampled.frames, sampled.duplicates), (vec![0, 10], 8));
    let sampled = sample(&video, &Rule::Count(5), None).unwrap();
    assert_eq!((sampled.frames, sampled.duplicates), (vec![10], 4));
}

#[test]
fn ranges_cut_the_clock() {
    assert_eq!(frames(&steady(), Rule::Fps(1.0), Some((1.0, 3.0))), [25, 50]);
    assert_eq!(frames(&steady(), Rule::Count(2), Some((1.0, 3.0))), [37, 62]);
    assert_eq!(
        frames(&steady(), Rule::Fps(1.0), Some((-5.0, 99.0))),
        [0, 25, 50, 75]
    );
    assert_eq!(
        frames(&steady(), Rule::Count(3), Some((1.001, 1.002))),
        [25],
        "the frame on screen"
    );
    let picked = frames(
        &steady(),
        Rule::SmolVlm {
            fps: 2.0,
            max_frames: 64,
        },
        Some((1.0, 3.0)),
    );
    assert_eq!(
        picked,
        [25, 41, 57, 74],
        "the family's rule over the frames in the range"
    );
}

#[test]
fn nonsense_is_refused() {
    let video = steady();
    let reason = |rule, range| sample(&video, &rule, range).unwrap_err();
    for fps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(
            matches!(reason(Rule::Fps(fps), None), SamplingError::InvalidFps { .. }),
            "{fps}"
        );
        let family = Rule::SmolVlm { fps, max_frames: 4 };
        assert!(
            matches!(reason(family, None), SamplingError::InvalidFps { .. }),
            "{fps}"
        );
    }
    assert_eq!(reason(Rule::Count(0), None), SamplingError::InvalidCount);
    for range in [(2.0, 2.0), (3.0, 1.0), (f64::NAN, 1.0), (0.0, f64::NAN)] {
        assert!(
            matches!(
                reason(Rule::Count(1), Some(range)),
                SamplingError::InvalidRange { .. }
            ),
            "{range:?}"
        );
    }
    for range in [(4.0, 5.0), (100.0, 200.0), (-3.0, -1.0), (-3.0, 0.0)] {
        assert!(
            matches!(
                reason(Rule::Count(1), Some(range)),
                SamplingError::OutsideVideo { .. }
            ),
            "{range:?}"
        );
    }
}

#[test]
fn named_times_take_what_is_on_screen() {
    let sampled = sample(&steady(), &Rule::At(vec![3.99, 1.0, 1.03, 0.0]), None).unwrap();
    assert_eq!(sampled.frames, [0, 25, 99]);
    assert_eq!((sampled.samples, sampled.duplicates), (vec![1, 2, 1], 1));
    for wrong in [4.0, -0.1, f64::NAN] {
        let error = sample(&steady(), &Rule::At(vec![1.0, wrong]), None).unwrap_err();
        assert!(matches!(error, SamplingError::InvalidTime { .. }), "{wrong}");
    }
    let late = timeline(&[50, 54, 58], 62);
    assert_eq!(
        frames(&late, Rule::At(vec![0.1]), None),
        [0],
        "the first one, before it"
    );
}

#[test]
fn listed_frames_are_cut_by_the_range() {
    let keys = || Rule::Frames(vec![0, 30, 60, 90]);
    assert_eq!(frames(&steady(), keys(), None), [0, 30, 60, 90]);
    assert_eq!(frames(&steady(), keys(), Some((1.2, 3.6))), [30, 60]);
    let none = sample(&steady(), &keys(), Some((0.1, 1.0))).unwrap_err();
    assert!(matches!(none, SamplingError::NoneInRange { .. }));
}

#[test]
fn rates_that_would_never_end_are_refused() {
    let dense = sample(&steady(), &Rule::Fps(1e12), None);
    assert!(
        matches!(dense, Err(SamplingError::InvalidFps { .. })),
        "{dense:?}"
    );
}

proptest! {
    #[test]
    fn samples_increase_and_lie_in_the_video(
        gaps in proptest::collection::vec(0_i64..50, 1..80),
        last in 0_i64..50,
        fps in 0.05_f64..60.0,
        count in 1_usize..100,
        max_frames in 1_usize..100,
        range in proptest::option::of((-5.0_f64..20.0, 0.01_f64..20.0)),
    ) {
        let pts: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let video = timeline(&pts, pts[pts.len() - 1] + last);
        let range = range.map(|(start, length)| (start, start + length));
        for rule in [Rule::Fps(fps), Rule::Count(count), Rule::SmolVlm { fps, max_frames }] {
            let Ok(Sampled { frames, duplicates, samples }) = sample(&video, &rule, range) else { continue };
            prop_assert!(!frames.is_empty());
            prop_assert_eq!(samples.len(), frames.len());
            prop_assert_eq!(samples.iter().sum::<usize>(), frames.len() + duplicates);
            prop_assert!(frames.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(frames.iter().all(|&frame| frame < pts.len() as u64));
            match rule {
                Rule::Count(count) => prop_assert_eq!(frames.len() + duplicates, count),
                Rule::SmolVlm { max_frames, .. } => prop_assert!(frames.len() <= max_frames),
                _ => {}
            }
        }
    }
}
