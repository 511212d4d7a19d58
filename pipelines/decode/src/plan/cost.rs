//! How long a plan takes on so many workers, in the unit of its costs: bytes of packets that are decoded. Pure.

use super::DecodePlan;
use crate::index::PacketIndex;

/// When each interval ends, in the order of the intervals. Workers take them in order, and none begins one before the
/// consumer has taken all but the last `workers` before it, as the executor has it; the consumer takes no time.
fn ends(costs: &[u64], workers: usize) -> Vec<u64> {
    let mut free = vec![0_u64; workers.max(1)];
    let (mut ends, mut taken): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
    for (number, cost) in costs.iter().enumerate() {
        let Some(worker) = free.iter_mut().min() else {
            break;
        };
        let consumed = number
            .checked_sub(workers.max(1))
            .map_or(0, |before| taken[before]);
        *worker = (*worker).max(consumed) + cost;
        ends.push(*worker);
        // In order: an interval is taken when it and all before it have ended.
        taken.push(taken.last().copied().unwrap_or(0).max(*worker));
    }
    ends
}

impl PacketIndex {
    /// How many times sooner `workers` threads have decoded `frames`, increasing indices into the timeline, than one
    /// thread has; predicted from the bytes of each interval. 1 where there is nothing to decode.
    ///
    /// Below `workers` when intervals are few or uneven. A plan of one interval is decoded by threads inside the
    /// decoder, which this says nothing about.
    #[must_use]
    pub fn predicted_speedup(&self, frames: &[u64], workers: usize) -> f64 {
        let plan = DecodePlan::new(self, frames.to_vec(), workers);
        let costs: Vec<u64> = plan.intervals.iter().map(|interval| interval.cost).collect();
        let last = ends(&costs, workers).into_iter().max().unwrap_or(0);
        let total: u64 = costs.iter().sum();
        if last == 0 {
            1.0
        } else {
            total as f64 / last as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
        thread,
        time::{Duration, Instant},
    };

    use proptest::prelude::*;

    use super::*;

    fn last(costs: &[u64], workers: usize) -> u64 {
        ends(costs, workers).into_iter().max().unwrap_or(0)
    }

    #[test]
    fn even_intervals_scale_and_a_long_one_does_not() {
        assert_eq!(last(&[5; 32], 16), 10);
        assert_eq!(last(&[5; 32], 1), 160);
        assert_eq!(last(&[5; 3], 16), 5);
        assert_eq!(
            last(&[90, 5, 5, 5], 2),
            95,
            "the last waits until the consumer has the first"
        );
        assert_eq!(last(&[], 4), 0);
    }

    proptest! {
        #[test]
        fn lies_between_perfect_and_none(
            costs in prop::collection::vec(1_u64..1000, 1..80),
            workers in 1_usize..20,
        ) {
            let (total, longest) = (costs.iter().sum::<u64>(), costs.iter().copied().max().unwrap_or(0));
            let last = last(&costs, workers);
            prop_assert!(last <= total && last >= longest.max(total / workers as u64));
            prop_assert!(workers > 1 || last == total);
        }
    }

    /// Threads that sleep instead of decoding, under the executor's rule.
    fn simulated(costs: &[u64], workers: usize, unit: Duration) -> Duration {
        let (next, done) = (
            AtomicUsize::new(0),
            costs.iter().map(|_| AtomicU64::new(0)).collect::<Vec<_>>(),
        );
        let consumed = || done.iter().take_while(|done| done.load(SeqCst) == 1).count();
        let begun = Instant::now();
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some((number, &cost)) = costs.iter().enumerate().nth(next.fetch_add(1, SeqCst))
                    {
                        while number >= consumed() + workers {
                            thread::sleep(unit / 50);
                        }
                        thread::sleep(unit * u32::try_from(cost).unwrap());
                        done[number].store(1, SeqCst);
                    }
                });
            }
        });
        begun.elapsed()
    }

    #[test]
    fn sixteen_sleeping_workers_take_as_long_as_predicted() {
        let costs: Vec<u64> = (0..48_u64).map(|number| 1 + number * 7 % 5).collect();
        let unit = Duration::from_millis(8);
        for workers in [1, 4, 16] {
            let predicted = unit * u32::try_from(last(&costs, workers)).unwrap();
            let measured = simulated(&costs, workers, unit);
            // Sleeping takes longer on a busy machine, never shorter.
            assert!(
                measured >= predicted.mul_f64(0.95),
                "{workers}: {measured:?}, predicted {predicted:?}"
            );
            assert!(
                measured < predicted * 3,
                "{workers}: {measured:?}, predicted {predicted:?}"
            );
        }
    }
}
