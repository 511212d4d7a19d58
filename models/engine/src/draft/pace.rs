//! How many tokens to guess, and whether to guess at all.

use std::time::Duration;

use super::Outcome;

/// Guessed tokens to begin with.
const START: usize = 3;
/// Passes that are looked at before guessing can be found not to pay.
const TRIALS: u32 = 5;
/// Tokens without guesses after which it is tried again; doubled each time that it fails again.
const REST: u32 = 64;
const LONGEST_REST: u32 = 4096;
/// Weight of the newest measurement.
const NEWEST: f64 = 0.2;

/// Grows the guess by two when all of it was right, halves it when none was, and compares the time per token with that of
/// plain steps.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    longest: usize,
    length: usize,
    /// Seconds of a step with one token.
    plain: Option<f64>,
    /// Seconds per token of a pass over guesses.
    guessed: Option<f64>,
    passes: u32,
    /// Tokens until the next try, while guessing does not pay.
    resting: u32,
    next_rest: u32,
}

impl Pace {
    /// Guesses of up to `longest` tokens.
    pub(crate) fn new(longest: usize) -> Self {
        Self {
            longest,
            length: START.min(longest),
            plain: None,
            guessed: None,
            passes: 0,
            resting: 0,
            next_rest: REST,
        }
    }

    /// Tokens to guess now; 0 for none. The first step is plain, so that there is something to compare with.
    pub(crate) fn length(&self) -> usize {
        if self.resting > 0 || self.plain.is_none() {
            0
        } else {
            self.length
        }
    }

    /// A step without guesses took so long.
    pub(crate) fn plain(&mut self, took: Duration) {
        self.plain = Some(blend(self.plain, took.as_secs_f64()));
        if self.resting > 0 {
            self.resting -= 1;
            if self.resting == 0 {
                (self.passes, self.guessed) = (0, None);
            }
        }
    }

    /// A pass over guesses is over.
    pub(crate) fn guessed(&mut self, outcome: Outcome) {
        let Outcome {
            proposed,
            accepted,
            took,
        } = outcome;
        if accepted == proposed {
            self.length = (self.length + 2).min(self.longest);
        } else if accepted == 0 {
            self.length = self.length.div_ceil(2).max(1);
        }
        // The row after the last right guess gives a token, too.
        self.guessed = Some(blend(self.guessed, took.as_secs_f64() / (accepted + 1) as f64));
        self.passes += 1;
        if self.passes < TRIALS {
            return;
        }
        if self.pays() {
            self.next_rest = REST;
        } else {
            self.resting = self.next_rest;
            self.next_rest = (self.next_rest * 2).min(LONGEST_REST);
            self.length = START.min(self.longest);
        }
    }

    fn pays(&self) -> bool {
        match (self.plain, self.guessed) {
            (Some(plain), Some(guessed)) => guessed < plain,
            _ => true,
        }
    }
}

/// Below this part of right guesses a source costs more than it brings.
const TRUSTED: f64 = 0.3;
/// What trust grows by each time that a source is passed over: it is asked again later.
const FORGIVEN: f64 = 0.004;

/// Which part of a source's guesses is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust(f64);

impl Default for Trust {
    fn default() -> Self {
        Self(0.6)
    }
}

impl Trust {
    /// Whether the source may guess now.
    pub(super) fn allows(&mut self) -> bool {
        let trusted = self.0 >= TRUSTED;
        if !trusted {
            self.0 += FORGIVEN;
        }
        trusted
    }

    /// Of `length` guessed tokens `accepted` were right.
    pub(super) fn learn(&mut self, accepted: usize, length: usize) {
        self.0 = blend(Some(self.0), accepted as f64 / length.max(1) as f64);
    }
}

fn blend(old: Option<f64>, new: f64) -> f64 {
    old.map_or(new, |old| old + (new - old) * NEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(proposed: usize, accepted: usize, millis: u64) -> Outcome {
        Outcome {
            proposed,
            accepted,
            took: Duration::from_millis(millis),
        }
    }

    fn begun() -> Pace {
        let mut pace = Pace::new(10);
        assert_eq!(pace.length(), 0);
        pace.plain(Duration::from_millis(10));
        pace
    }

    #[test]
    fn guesses_grow_while_they_are_right_and_shrink_when_none_is() {
        let mut pace = begun();
        let mut lengths = Vec::new();
        for accepted in [3, 5, 7, 9, 10, 3, 0, 0, 0, 0, 0] {
            pace.guessed(outcome(pace.length(), accepted, 1));
            lengths.push(pace.length());
        }
        assert_eq!(lengths, [5, 7, 9, 10, 10, 10, 5, 3, 2, 1, 1]);
    }

    #[test]
    fn guessing_rests_when_it_does_not_pay_and_is_tried_again_later() {
        let mut pace = begun();
        for _ in 0..TRIALS {
            assert!(pace.length() > 0);
            // Fifteen milliseconds for one token, where a plain step takes ten.
            pace.guessed(outcome(4, 0, 15));
        }
        for rest in [REST, 2 * REST] {
            for _ in 0..rest {
                assert_eq!(pace.length(), 0);
                pace.plain(Duration::from_millis(10));
            }
            for _ in 0..TRIALS {
                assert!(pace.length() > 0);
                pace.guessed(outcome(4, 0, 15));
            }
        }
        assert_eq!(pace.length(), 0);
    }

    #[test]
    fn guessing_goes_on_where_it_pays() {
        let mut pace = begun();
        for _ in 0..100 {
            // Fifteen milliseconds for three tokens.
            pace.guessed(outcome(3, 2, 15));
            assert_eq!(pace.length(), START);
        }
    }
}
