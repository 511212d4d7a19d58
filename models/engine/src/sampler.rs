//! From logits to the next token.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{EngineError, GenerationOptions};

/// Draws tokens as [`GenerationOptions`] say.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f32,
    top_p: f32,
    rng: StdRng,
}

impl Sampler {
    pub(crate) fn new(options: &GenerationOptions) -> Self {
        // Without a seed any number will do that is another one each time.
        let seed = options
            .seed
            .unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Self {
            temperature: options.temperature,
            top_p: options.top_p,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// The next token after a row of logits.
    pub(crate) fn next(&mut self, logits: &[f32]) -> Result<u32, EngineError> {
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(EngineError::Internal {
                message: "the model's logits are not numbers".into(),
            });
        }
        let index = if self.temperature <= 0.0 {
            argmax(logits)
        } else {
            self.draw(logits)
        };
        u32::try_from(index).map_err(|error| EngineError::Internal {
            message: error.to_string(),
        })
    }

    /// # Source
    /// transformers 5.23 `TemperatureLogitsWarper` and `TopPLogitsWarper`: the smallest set of likeliest tokens whose
    /// probability reaches `top_p`, at least one.
    fn draw(&mut self, logits: &[f32]) -> usize {
        let mut likely = probabilities(logits, self.temperature);
        likely.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut mass = 0.0;
        let mut nucleus = 0;
        while nucleus < likely.len() && (nucleus == 0 || mass < f64::from(self.top_p)) {
            mass += likely[nucleus].1;
            nucleus += 1;
        }
        let mut point = self.rng.random::<f64>() * mass;
        for &(index, probability) in &likely[..nucleus] {
            point -= probability;
            if point < 0.0 {
                return index;
            }
        }
        likely[nucleus - 1].0
    }
}

/// Index of the largest; the first of equals.
fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best
}

fn probabilities(logits: &[f32], temperature: f32) -> Vec<(usize, f64)> {
    let scaled = |logit: f32| f64::from(logit) / f64::from(temperature);
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits
        .iter()
        .map(|&logit| (scaled(logit) - scaled(largest)).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights
        .into_iter()
        .map(|weight| weight / sum)
        .enumerate()
        .collect()
}

/// Natural logarithm of the probability of token `id`.
pub(crate) fn log_probability(logits: &[f32], id: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    let logit = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    f64::from(logit - largest) - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(temperature: f32, top_p: f32, seed: u64) -> GenerationOptions {
        GenerationOptions {
            temperature,
            top_p,
            seed: Some(seed),
            ..GenerationOptions::default()
        }
    }

    fn draws(options: &GenerationOptions, logits: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(options);
        (0..count).map(|_| sampler.next(logits).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(draws(&options(0.0, 1.0, 1), &[0.5, 2.0, 2.0, -1.0], 3), [1, 1, 1]);
    }

    #[test]
    fn a_seed_repeats_itself_and_another_does_not() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
        let first = draws(&options(1.0, 1.0, 7), &logits, 100);
        assert_eq!(first, draws(&options(1.0, 1.0, 7), &logits, 100));
        assert_ne!(first, draws(&options(1.0, 1.0, 8), &logits, 100));
    }

    #[test]
    fn draws_follow_the_temperature_and_stay_in_the_nucleus() {
        // Probabilities .5, .3, .2.
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        let share =
            |draws: &[u32], id| draws.iter().filter(|&&draw| draw == id).count() as f64 / draws.len() as f64;
        let plain = draws(&options(1.0, 1.0, 3), &logits, 20_000);
        assert!((share(&plain, 0) - 0.5).abs() < 0.02 && (share(&plain, 2) - 0.2).abs() < 0.02);
        // At temperature 1/2 probabilities are squared: .25, .09, .04 of .38.
        let cold = draws(&options(0.5, 1.0, 3), &logits, 20_000);
        assert!((share(&cold, 0) - 0.25 / 0.38).abs() < 0.02);
        let nucleus = draws(&options(1.0, 0.6, 3), &logits, 20_000);
        assert!(share(&nucleus, 2) == 0.0 && (share(&nucleus, 1) - 0.375).abs() < 0.02);
    }

    #[test]
    fn refuses_logits_that_are_not_numbers() {
        assert!(
            Sampler::new(&options(0.0, 1.0, 1))
                .next(&[0.0, f32::NAN])
                .is_err()
        );
    }

    #[test]
    fn log_probabilities_sum_to_one() {
        let logits = [1.0, -2.0, 300.0, 299.0];
        let sum: f64 = (0..4).map(|id| log_probability(&logits, id).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }
}
