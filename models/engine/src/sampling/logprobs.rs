//! How likely tokens were to the model itself.
//!
//! Taken from the logits as the model gives them, before masks, penalties, temperature and truncation: they say what
//! the model believed, not what the sampler left over, and they can be compared between requests with different
//! settings. The drawn token is always among them, whatever its rank.

use crate::TokenLogprob;

/// Natural logarithm of the sum of all exponentials.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

/// Natural logarithm of the probability of token `id`.
pub(crate) fn log_probability(logits: &[f32], id: u32) -> f64 {
    let logit = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
    f64::from(logit) - log_sum_exp(logits)
}

/// The drawn token `id` and the `count` likeliest ones, likeliest first.
pub(crate) fn report(logits: &[f32], id: u32, count: usize) -> TokenLogprob {
    let normaliser = log_sum_exp(logits);
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm for people")]
    let of = |logit: f32| (f64::from(logit) - normaliser) as f32;
    TokenLogprob {
        id,
        logprob: of(logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY)),
        top: likeliest(logits, count)
            .into_iter()
            .map(|id| (id, of(logits[id as usize])))
            .collect(),
    }
}

/// Ids of the `count` largest logits, largest first; the lower id of equals first.
pub(crate) fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(count + 1);
    if count == 0 {
        return Vec::new();
    }
    for (id, &logit) in (0_u32..).zip(logits) {
        if best.len() == count && logit <= best[count - 1].0 {
            continue;
        }
        let at = best.partition_point(|&(other, _)| other >= logit);
        best.insert(at, (logit, id));
        best.truncate(count);
    }
    best.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_sum_to_one() {
        let logits = [1.0, -2.0, 300.0, 299.0];
        let sum: f64 = (0..4).map(|id| log_probability(&logits, id).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_drawn_token_and_the_likeliest_are_reported() {
        // Probabilities .5, .2, .3.
        let logits = [0.5_f32.ln(), 0.2_f32.ln(), 0.3_f32.ln()];
        let report = report(&logits, 1, 2);
        assert!((report.logprob - 0.2_f32.ln()).abs() < 1e-6);
        assert_eq!(report.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 2]);
        assert!((report.top[1].1 - 0.3_f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn the_likeliest_are_found_in_one_pass() {
        let logits = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0];
        assert_eq!(likeliest(&logits, 4), [5, 7, 4, 8]);
        assert_eq!(likeliest(&logits, 0), [0_u32; 0]);
        assert_eq!(likeliest(&logits[..2], 5), [0, 1]);
    }
}
