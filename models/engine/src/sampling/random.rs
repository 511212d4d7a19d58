//! Random numbers that depend on the seed and on the place in the answer, and on nothing else.
//!
//! A generator with a state gives other numbers when a sequence is preempted, batched with others or drafted ahead.
//! A counter-based one does not: the number at a place is a pure function of seed and place.
//!
//! # Source
//! Philox 4x64-10, Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011; compared with
//! `numpy.random.Philox` in the tests.

const MULTIPLIERS: [u64; 2] = [0xD2E7_470E_E14C_6C93, 0xCA5A_8263_9512_1157];
const WEYL: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xBB67_AE85_84CA_A73B];
const ROUNDS: usize = 10;

/// What a number is for: streams of one seed do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// The choice of a token.
    Token,
}

/// A number in `[0, 1)` with 53 random bits, for place `position` of `stream`.
pub(crate) fn uniform(seed: u64, stream: Stream, position: u64) -> f64 {
    let [bits, ..] = philox([position, 0, 0, 0], [seed, stream as u64]);
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

fn philox(mut counter: [u64; 4], mut key: [u64; 2]) -> [u64; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let (high0, low0) = product(MULTIPLIERS[0], counter[0]);
        let (high1, low1) = product(MULTIPLIERS[1], counter[2]);
        counter = [
            high1 ^ counter[1] ^ key[0],
            low1,
            high0 ^ counter[3] ^ key[1],
            low0,
        ];
    }
    counter
}

fn product(a: u64, b: u64) -> (u64, u64) {
    let whole = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a product")]
    let halves = ((whole >> 64) as u64, whole as u64);
    halves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::golden;

    #[test]
    fn the_numbers_are_those_of_numpy() {
        for case in golden()["philox"].as_array().unwrap() {
            let words = |name: &str| -> Vec<u64> {
                let all = case[name].as_array().unwrap();
                all.iter()
                    .map(|word| word.as_str().unwrap().parse().unwrap())
                    .collect()
            };
            let counter: [u64; 4] = words("counter").try_into().unwrap();
            let key: [u64; 2] = words("key").try_into().unwrap();
            assert_eq!(philox(counter, key).to_vec(), words("words"));
        }
    }

    #[test]
    fn numbers_fill_the_unit_interval_evenly() {
        let mut counts = [0_u32; 20];
        for position in 0..20_000 {
            let number = uniform(7, Stream::Token, position);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 19")]
            let bin = (number * 20.0) as usize;
            counts[bin] += 1;
        }
        let chi: f64 = counts
            .iter()
            .map(|&count| (f64::from(count) - 1000.0).powi(2) / 1000.0)
            .sum();
        // 19 degrees of freedom: 43.8 is exceeded once in a thousand seeds, and this seed is fixed.
        assert!(chi < 43.8, "{chi}");
    }
}
