//! Against transformers' processors, and the draws against the probabilities.

use serde_json::Value;

use super::*;

#[expect(clippy::cast_possible_truncation, reason = "a logit or a setting")]
fn narrow(number: f64) -> f32 {
    number as f32
}

fn floats(value: &Value) -> Vec<f32> {
    let number = |value: &Value| value.as_f64().map_or(f32::NEG_INFINITY, narrow);
    value.as_array().unwrap().iter().map(number).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    value.as_array().unwrap().iter().map(id).collect()
}

fn options(settings: &Value) -> GenerationOptions {
    let number = |name: &str, neutral: f32| settings[name].as_f64().map_or(neutral, narrow);
    GenerationOptions {
        temperature: number("temperature", 1.0),
        top_p: number("top_p", 1.0),
        top_k: settings["top_k"]
            .as_u64()
            .map_or(0, |count| usize::try_from(count).unwrap()),
        min_p: number("min_p", 0.0),
        top_h: number("top_h", 0.0),
        repetition_penalty: number("repetition_penalty", 1.0),
        frequency_penalty: number("frequency_penalty", 0.0),
        presence_penalty: number("presence_penalty", 0.0),
        ..GenerationOptions::default()
    }
}

#[test]
fn rows_come_out_as_transformers_leaves_them() {
    let golden = golden();
    let cases = golden["rows"].as_array().unwrap();
    assert!(cases.len() >= 30);
    for case in cases {
        let (prompt, generated) = (ids(&case["prompt"]), ids(&case["generated"]));
        let state = SequenceState {
            prompt: &prompt,
            generated: &generated,
        };
        let logits = floats(&golden["logits"][case["logits"].as_str().unwrap()]);
        let ours = Sampler::new(&options(&case["settings"]))
            .processed(&logits, &state, None)
            .into_owned();
        let theirs = floats(&case["scores"]);
        assert_eq!(ours.len(), theirs.len());
        for (id, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let ruled_out = |logit: &f32| *logit == f32::NEG_INFINITY;
            let close = (ours - theirs).abs() <= 2e-5 * theirs.abs().max(1.0);
            let same = close || ruled_out(ours) && ruled_out(theirs);
            assert!(same, "{}: token {id}: {ours} and {theirs}", case["settings"]);
        }
    }
}

fn seeded(temperature: f32, seed: u64) -> GenerationOptions {
    GenerationOptions {
        temperature,
        seed: Some(seed),
        ..GenerationOptions::default()
    }
}

/// One draw at each of `count` places.
fn draws(options: &GenerationOptions, logits: &[f32], count: u32) -> Vec<u32> {
    let sampler = Sampler::new(options);
    let mut generated = Vec::new();
    for _ in 0..count {
        let state = SequenceState {
            prompt: &[],
            generated: &generated,
        };
        let id = sampler.next(logits, &state, None).unwrap().id;
        generated.push(id);
    }
    generated
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    assert_eq!(draws(&seeded(0.0, 1), &[0.5, 2.0, 2.0, -1.0], 3), [1, 1, 1]);
}

#[test]
fn a_draw_depends_on_seed_and_place_alone() {
    let logits: Vec<f32> = (0..50_u8).map(|i| (f32::from(i) * 0.7).sin()).collect();
    let first = draws(&seeded(1.0, 7), &logits, 100);
    assert_eq!(first, draws(&seeded(1.0, 7), &logits, 100));
    assert_ne!(first, draws(&seeded(1.0, 8), &logits, 100));
    // Any place can be drawn first, as after a preemption.
    let sampler = Sampler::new(&seeded(1.0, 7));
    for place in [99, 3, 57] {
        let state = SequenceState {
            prompt: &[],
            generated: &first[..place],
        };
        assert_eq!(sampler.next(&logits, &state, None).unwrap().id, first[place]);
    }
}

/// Pearson's statistic of `draws` against `probabilities`.
fn chi_square(draws: &[u32], probabilities: &[f64]) -> f64 {
    let total = draws.len() as f64;
    (0_u32..)
        .zip(probabilities)
        .filter(|(_, probability)| **probability > 0.0)
        .map(|(id, probability)| {
            let seen = draws.iter().filter(|&&draw| draw == id).count() as f64;
            (seen - total * probability).powi(2) / (total * probability)
        })
        .sum()
}

#[test]
fn draws_follow_the_probabilities() {
    let logits: Vec<f32> = (0..12_u8).map(|i| (f32::from(i) * 1.3).sin() * 2.0).collect();
    let cases = [
        seeded(1.0, 11),
        seeded(0.6, 12),
        GenerationOptions {
            top_p: 0.8,
            ..seeded(1.0, 13)
        },
        GenerationOptions {
            top_k: 5,
            ..seeded(1.4, 14)
        },
        GenerationOptions {
            min_p: 0.2,
            ..seeded(1.0, 15)
        },
        GenerationOptions {
            top_h: 0.7,
            ..seeded(1.0, 16)
        },
    ];
    for options in cases {
        let state = SequenceState {
            prompt: &[],
            generated: &[],
        };
        let row = Sampler::new(&options)
            .processed(&logits, &state, None)
            .into_owned();
        let probabilities = processors::softmax(&row);
        let drawn = draws(&options, &logits, 20_000);
        assert!(drawn.iter().all(|&id| probabilities[id as usize] > 0.0));
        // 11 degrees of freedom at most: 31.3 is exceeded once in a thousand seeds, and the seeds are fixed.
        let chi = chi_square(&drawn, &probabilities);
        assert!(chi < 31.3, "{options:?}: {chi}");
    }
}

#[test]
fn a_mask_rules_out_whatever_the_logits_say() {
    let mask = TokenMask(vec![0b0110]);
    let state = SequenceState {
        prompt: &[],
        generated: &[],
    };
    for temperature in [0.0, 1.0, 2.0] {
        let sampler = Sampler::new(&seeded(temperature, 3));
        let id = sampler
            .next(&[90.0, 1.0, 80.0, 99.0], &state, Some(&mask))
            .unwrap()
            .id;
        assert_eq!(id, 2);
    }
    let nothing = Sampler::new(&seeded(1.0, 3)).next(&[1.0, 2.0], &state, Some(&TokenMask(vec![0])));
    assert!(matches!(nothing, Err(EngineError::BadLogits { position: 0 })));
}

#[test]
fn logits_that_are_no_numbers_are_refused_with_their_place() {
    let generated = [4, 5];
    let state = SequenceState {
        prompt: &[],
        generated: &generated,
    };
    let none = [f32::NEG_INFINITY; 3];
    for logits in [&[0.0, f32::NAN][..], &[0.0, f32::INFINITY], &none, &[]] {
        for temperature in [0.0, 1.0] {
            let drawn = Sampler::new(&seeded(temperature, 1)).next(logits, &state, None);
            assert!(
                matches!(drawn, Err(EngineError::BadLogits { position: 2 })),
                "{logits:?}"
            );
        }
    }
    let one_left = [f32::NEG_INFINITY, 3.0];
    assert_eq!(
        Sampler::new(&seeded(1.0, 1))
            .next(&one_left, &state, None)
            .unwrap()
            .id,
        1
    );
}
