//! Questions with a known set of answers: the likeliest one is taken, nothing is written and nothing parsed.
//!
//! Each candidate is scored as the model would write it: the logarithm of the probability of its tokens after the shared
//! prompt. For multiple choice the end of the turn belongs to the candidate, so that "a car" and "a car on a road" are
//! different events; their sum favours short texts, which `per_token` undoes by comparing means. For yes and no the
//! question is how the answer begins: all spellings of one side are added up and P(yes) is a softmax over the sides.
//! How far the best is ahead of the next is the confidence.
//!
//! # Source
//! Scoring options by sequence log-probabilities on a shared prefix, as lm-evaluation-harness does for multiple choice
//! (`acc` and `acc_norm`).

use crate::{AnswerForm, ChoiceScore};

/// The two sides of a yes/no question, each with its spellings; the first is what the user reads.
const SIDES: [&[&str]; 2] = [&["Yes", "yes", "YES"], &["No", "no", "NO"]];

/// A text that is scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) text: String,
    /// The choice that it speaks for.
    pub(crate) choice: usize,
    /// Whether the end of the turn is part of it.
    pub(crate) ends: bool,
}

/// What is scored for `form`; nothing for answers that are written.
pub(crate) fn candidates(form: &AnswerForm) -> Vec<Candidate> {
    match form {
        AnswerForm::Text | AnswerForm::Json(_) => Vec::new(),
        AnswerForm::OneOf { choices, .. } => choices
            .iter()
            .enumerate()
            .map(|(choice, text)| Candidate {
                text: text.trim().to_owned(),
                choice,
                ends: true,
            })
            .collect(),
        AnswerForm::YesNo => SIDES
            .iter()
            .enumerate()
            .flat_map(|(choice, spellings)| {
                spellings.iter().map(move |&text| Candidate {
                    text: text.to_owned(),
                    choice,
                    ends: false,
                })
            })
            .collect(),
    }
}

/// A candidate's tokens as the model would write them, and how likely they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    pub(crate) choice: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) logprob: f64,
}

/// The choices in the order of the request, and which of `scored` the answer is. `None` when the model's scores are no
/// numbers.
pub(crate) fn decide(form: &AnswerForm, scored: &[Scored]) -> Option<(Vec<ChoiceScore>, usize)> {
    let texts: Vec<&str> = match form {
        AnswerForm::Text | AnswerForm::Json(_) => return None,
        AnswerForm::OneOf { choices, .. } => choices.iter().map(|choice| choice.trim()).collect(),
        AnswerForm::YesNo => SIDES.iter().map(|spellings| spellings[0]).collect(),
    };
    let per_token = matches!(form, AnswerForm::OneOf { per_token: true, .. });
    let of = |choice: usize| {
        scored
            .iter()
            .enumerate()
            .filter(move |(_, one)| one.choice == choice)
    };
    let best_of = |choice: usize| of(choice).max_by(|(_, a), (_, b)| a.logprob.total_cmp(&b.logprob));
    let sums: Vec<f64> = (0..texts.len())
        .map(|choice| log_sum_exp(of(choice).map(|(_, one)| one.logprob)))
        .collect();
    let lengths: Vec<usize> = (0..texts.len())
        .map(|choice| best_of(choice).map_or(0, |(_, one)| one.ids.len()))
        .collect();
    let compared: Vec<f64> = sums
        .iter()
        .zip(&lengths)
        .map(|(sum, &length)| {
            if per_token {
                sum / length.max(1) as f64
            } else {
                *sum
            }
        })
        .collect();
    let whole = log_sum_exp(compared.iter().copied());
    if !whole.is_finite() || sums.iter().any(|sum| sum.is_nan()) {
        return None;
    }
    let choices: Vec<ChoiceScore> = texts
        .iter()
        .enumerate()
        .map(|(choice, text)| ChoiceScore {
            text: (*text).to_owned(),
            logprob: sums[choice],
            tokens: lengths[choice],
            probability: (compared[choice] - whole).exp(),
        })
        .collect();
    // The first of equals.
    let mut winner = 0;
    for (choice, score) in choices.iter().enumerate() {
        if score.probability > choices[winner].probability {
            winner = choice;
        }
    }
    let (answer, _) = best_of(winner)?;
    Some((choices, answer))
}

/// How far the likeliest of `scores` is ahead of the next, 0 to 1.
pub(crate) fn margin(scores: &[ChoiceScore]) -> f64 {
    let mut sorted: Vec<f64> = scores.iter().map(|score| score.probability).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    match sorted[..] {
        [first, second, ..] => first - second,
        _ => 1.0,
    }
}

fn log_sum_exp(logs: impl Iterator<Item = f64>) -> f64 {
    let logs: Vec<f64> = logs.collect();
    if logs.iter().any(|log| log.is_nan()) {
        return f64::NAN;
    }
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    largest + logs.iter().map(|log| (log - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(choice: usize, length: u32, logprob: f64) -> Scored {
        Scored {
            choice,
            ids: (0..length).collect(),
            logprob,
        }
    }

    fn one_of(choices: &[&str], per_token: bool) -> AnswerForm {
        AnswerForm::OneOf {
            choices: choices.iter().map(ToString::to_string).collect(),
            per_token,
        }
    }

    #[test]
    fn the_likeliest_text_wins_and_the_margin_is_the_confidence() {
        let form = one_of(&["red", " blue "], false);
        let (scores, answer) =
            decide(&form, &[scored(0, 2, 0.2_f64.ln()), scored(1, 2, 0.6_f64.ln())]).unwrap();
        assert_eq!(answer, 1);
        assert_eq!(scores[1].text, "blue");
        assert!((scores[0].probability - 0.25).abs() < 1e-12 && (margin(&scores) - 0.5).abs() < 1e-12);
        assert!((scores[0].logprob - 0.2_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn length_decides_only_when_it_may() {
        let all = [scored(0, 2, -3.0), scored(1, 10, -5.0)];
        assert_eq!(decide(&one_of(&["a", "long"], false), &all).unwrap().1, 0);
        let (scores, answer) = decide(&one_of(&["a", "long"], true), &all).unwrap();
        assert_eq!((answer, scores[1].tokens), (1, 10));
        // softmax(-1.5, -0.5)
        assert!((scores[1].probability - 1.0 / (1.0 + (-1.0_f64).exp())).abs() < 1e-12);
    }

    #[test]
    fn spellings_of_a_side_add_up() {
        let logs = [0.10_f64, 0.25, 0.05, 0.30, 0.05, 0.05];
        let all: Vec<Scored> = candidates(&AnswerForm::YesNo)
            .iter()
            .zip(logs)
            .map(|(candidate, p)| scored(candidate.choice, 1, p.ln()))
            .collect();
        let (scores, answer) = decide(&AnswerForm::YesNo, &all).unwrap();
        // "No" alone is the likeliest spelling, yet both sides have 0.4: the first of equals, by its best spelling.
        assert!((scores[0].probability - 0.5).abs() < 1e-12);
        assert_eq!((scores[0].text.as_str(), scores[1].text.as_str()), ("Yes", "No"));
        assert!(answer < 6);
        assert!((scores.iter().map(|score| score.probability).sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn scores_that_are_no_numbers_decide_nothing() {
        let form = one_of(&["a", "b"], false);
        assert!(decide(&form, &[scored(0, 1, f64::NAN), scored(1, 1, -1.0)]).is_none());
        let never = f64::NEG_INFINITY;
        assert!(decide(&form, &[scored(0, 1, never), scored(1, 1, never)]).is_none());
        assert_eq!(
            decide(&form, &[scored(0, 1, never), scored(1, 1, -1.0)])
                .unwrap()
                .1,
            1
        );
    }
}
