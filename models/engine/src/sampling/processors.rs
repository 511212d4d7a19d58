//! Pure functions over one row of logits. A token that is ruled out has the logit `-inf`.
//!
//! # Source
//! transformers 5.23 `generation/logits_process.py`, each function named below; golden tests in
//! `tests/golden/sampling.json`. Penalties by frequency and presence are those of `OpenAI`'s API reference.

/// Top-h looks at this many of the likeliest tokens, as the reference does.
const TOP_H_TOKENS: usize = 100;

/// Makes tokens that occur in `seen` less likely: logits are divided by `penalty` when positive, multiplied otherwise.
///
/// # Source
/// `RepetitionPenaltyLogitsProcessor`: prompt and answer count, each token once.
pub(crate) fn repetition_penalty<'i>(row: &mut [f32], seen: impl IntoIterator<Item = &'i u32>, penalty: f32) {
    let mut done = vec![false; row.len()];
    for &id in seen {
        let id = id as usize;
        if id < row.len() && !std::mem::replace(&mut done[id], true) {
            row[id] = if row[id] < 0.0 {
                row[id] * penalty
            } else {
                row[id] / penalty
            };
        }
    }
}

/// Takes `frequency` off a token's logit for each time that it occurs in `generated`, and `presence` once.
///
/// # Source
/// `OpenAI` API reference, "frequency and presence penalties"; the prompt does not count.
pub(crate) fn count_penalties(row: &mut [f32], generated: &[u32], frequency: f32, presence: f32) {
    let mut done = vec![false; row.len()];
    for &id in generated {
        let id = id as usize;
        if id < row.len() {
            row[id] -= frequency;
            if !std::mem::replace(&mut done[id], true) {
                row[id] -= presence;
            }
        }
    }
}

/// # Source
/// `TemperatureLogitsWarper`.
pub(crate) fn temperature(row: &mut [f32], temperature: f32) {
    for logit in row {
        *logit /= temperature;
    }
}

/// Keeps the likeliest tokens whose part of the entropy adds up to at most `alpha` of the whole, at least one.
///
/// # Source
/// `TopHLogitsWarper` (Top-H Decoding, `NeurIPS` 2025): entropy of the 100 likeliest tokens, summed from the likeliest.
pub(crate) fn top_h(row: &mut [f32], alpha: f32) {
    let top = super::logprobs::likeliest(row, TOP_H_TOKENS);
    let largest = f64::from(top.first().map_or(0.0, |&id| row[id as usize]));
    let weights: Vec<f64> = top
        .iter()
        .map(|&id| (f64::from(row[id as usize]) - largest).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    let terms: Vec<f64> = weights
        .iter()
        .map(|weight| weight / sum)
        .map(|p| if p > 0.0 { -p * p.ln() } else { 0.0 })
        .collect();
    let limit = terms.iter().sum::<f64>() * f64::from(alpha);
    let mut total = 0.0;
    let keep = terms.iter().take_while(|&&term| {
        total += term;
        total <= limit
    });
    let keep = keep.count().max(1);
    let kept: Vec<(u32, f32)> = top.iter().take(keep).map(|&id| (id, row[id as usize])).collect();
    row.fill(f32::NEG_INFINITY);
    for (id, logit) in kept {
        row[id as usize] = logit;
    }
}

/// Keeps the `count` likeliest tokens, and those as likely as the last of them.
///
/// # Source
/// `TopKLogitsWarper`.
pub(crate) fn top_k(row: &mut [f32], count: usize) {
    if count == 0 || count >= row.len() {
        return;
    }
    let mut sorted = row.to_vec();
    let (_, &mut least, _) = sorted.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    rule_out(row, |logit| logit < least);
}

/// Keeps the smallest set of likeliest tokens whose probability reaches `mass`, at least one.
///
/// # Source
/// `TopPLogitsWarper`: leaves out the unlikeliest tokens while their sum is at most `1 - mass`.
pub(crate) fn top_p(row: &mut [f32], mass: f32) {
    if mass >= 1.0 {
        return;
    }
    let probabilities = softmax(row);
    let rest = 1.0 - f64::from(mass);
    // Tokens below this are left out whatever the others are: all of them together do not exceed the rest. That
    // leaves few to be sorted.
    let hopeless = rest / row.len() as f64;
    let mut below = 0.0;
    let mut candidates: Vec<usize> = Vec::new();
    for (id, &probability) in probabilities.iter().enumerate() {
        if probability > hopeless {
            candidates.push(id);
        } else {
            below += probability;
        }
    }
    candidates.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]).then(b.cmp(&a)));
    let mut keep = vec![false; row.len()];
    for (at, &id) in candidates.iter().enumerate() {
        below += probabilities[id];
        keep[id] = below > rest || at + 1 == candidates.len();
    }
    for (logit, keep) in row.iter_mut().zip(keep) {
        if !keep {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// Keeps tokens that are at least `share` as likely as the likeliest.
///
/// # Source
/// `MinPLogitsWarper`.
pub(crate) fn min_p(row: &mut [f32], share: f32) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let least = f64::from(largest) + f64::from(share).ln();
    rule_out(row, |logit| f64::from(logit) < least);
}

/// Probabilities of the tokens of a row; those that are ruled out have 0.
pub(crate) fn softmax(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<f64> = row
        .iter()
        .map(|&logit| (f64::from(logit) - f64::from(largest)).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    for weight in &mut weights {
        *weight /= sum;
    }
    weights
}

fn rule_out(row: &mut [f32], which: impl Fn(f32) -> bool) {
    for logit in row {
        if which(*logit) {
            *logit = f32::NEG_INFINITY;
        }
    }
}
