//! What runs next: a pure function from what all asks want to one step.
//!
//! # Source
//! SARATHI (stall-free batching by time slices): at most one slice of prefill between two decode steps, so that running
//! answers never wait longer than one chunk. `GroupQueryAttention` on the CPU takes a batch only where each row has one
//! token, so slices and decode steps alternate instead of being fused.

use std::{cmp::Reverse, collections::BTreeMap};

/// What an ask wants of the decoder now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Has not begun: wants a place and its bytes.
    Queued,
    /// Had to give its place up: wants its bytes back.
    Parked,
    /// Nothing: waits for frames, for another ask's prefix or for its reader.
    Waiting,
    /// So many tokens of the prompt can be prefilled.
    Prefill(usize),
    /// Its next token.
    Decode,
    /// A pass over its answer that scores evidence, or another one that takes the decoder alone.
    Score,
}

impl Work {
    fn waits_for_place(self) -> bool {
        matches!(self, Self::Queued | Self::Parked)
    }

    /// Whether its rows can be taken away and given back later.
    fn can_park(self) -> bool {
        matches!(self, Self::Waiting | Self::Prefill(_) | Self::Decode)
    }
}

/// An ask as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: u64,
    /// Whose it is; tenants get equal shares of the decoder's tokens.
    pub(crate) tenant: u64,
    /// Higher runs first.
    pub(crate) priority: u8,
    /// When it came, in milliseconds.
    pub(crate) since: u64,
    /// Bytes of KV that it takes while it has a place.
    pub(crate) bytes: usize,
    /// The last step in which it took part; 0 for never.
    pub(crate) turn: u64,
    pub(crate) work: Work,
}

/// What bounds the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Tokens of one slice of prefill.
    pub(crate) chunk: usize,
    /// Answers that are decoded in one step.
    pub(crate) batch: usize,
    /// Asks with a place.
    pub(crate) active: usize,
    /// Bytes of KV of all asks with a place.
    pub(crate) kv_bytes: usize,
    /// Waiting so many milliseconds is worth one level of priority.
    pub(crate) age_ms: u64,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Give a queued ask its place.
    Admit(u64),
    /// Save an ask's KV and take its place away.
    Park(u64),
    /// Give a parked ask its place back.
    Resume(u64),
    /// Prefill so many tokens of one ask.
    Prefill(u64, usize),
    /// One pass that scores.
    Score(u64),
    /// One token for each of these.
    Decode(Vec<u64>),
    /// Nothing can be done before something changes.
    Idle,
}

/// The planner: its memory is only what fairness needs.
#[derive(Debug, Clone)]
pub(crate) struct Planner {
    bounds: Bounds,
    /// Tokens that each tenant with work has got.
    served: BTreeMap<u64, u64>,
    /// Whether the last step that used the decoder was a slice.
    sliced: bool,
}

impl Planner {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            served: BTreeMap::new(),
            sliced: false,
        }
    }

    /// The next step for `items` at `now`. Calling it changes nothing but the account of who was served.
    pub(crate) fn next(&mut self, items: &[Item], now: u64) -> Step {
        self.greet(items);
        let step = self
            .make_room(items, now)
            .unwrap_or_else(|| self.work(items, now));
        self.note(&step, items);
        step
    }

    /// Drops tenants that have left; one that comes starts level with the least served, not ahead of everybody.
    fn greet(&mut self, items: &[Item]) {
        self.served
            .retain(|tenant, _| items.iter().any(|item| item.tenant == *tenant));
        let least = self.served.values().min().copied().unwrap_or(0);
        for item in items {
            self.served.entry(item.tenant).or_insert(least);
        }
    }

    fn note(&mut self, step: &Step, items: &[Item]) {
        let mut serve = |id: u64, tokens: usize| {
            if let Some(item) = items.iter().find(|item| item.id == id) {
                *self.served.entry(item.tenant).or_default() += tokens as u64;
            }
        };
        match step {
            Step::Prefill(id, tokens) => serve(*id, *tokens),
            Step::Score(id) => serve(*id, 1),
            Step::Decode(ids) => ids.iter().for_each(|&id| serve(id, 1)),
            Step::Admit(_) | Step::Park(_) | Step::Resume(_) | Step::Idle => return,
        }
        self.sliced = !matches!(step, Step::Decode(_));
    }

    /// First comes first: priority with its age, then the tenant that got least, then who came first.
    fn rank(&self, item: &Item, now: u64) -> (Reverse<u64>, u64, u64, u64) {
        let age = now.saturating_sub(item.since) / self.bounds.age_ms.max(1);
        let served = self.served.get(&item.tenant).copied().unwrap_or(0);
        (
            Reverse(u64::from(item.priority).saturating_add(age)),
            served,
            item.since,
            item.id,
        )
    }

    /// Who gets a place, or who has to give one up. The first in rank is never overtaken by a smaller one, so large
    /// asks do not starve.
    fn make_room(&self, items: &[Item], now: u64) -> Option<Step> {
        let wanting = items.iter().filter(|item| item.work.waits_for_place());
        let first = wanting.min_by_key(|item| self.rank(item, now))?;
        let placed = || items.iter().filter(|item| !item.work.waits_for_place());
        let used: usize = placed().map(|item| item.bytes).sum();
        if placed().count() < self.bounds.active && used + first.bytes <= self.bounds.kv_bytes {
            return Some(match first.work {
                Work::Parked => Step::Resume(first.id),
                _ => Step::Admit(first.id),
            });
        }
        // Only a lower priority gives way, so nobody is pushed out by an equal; and only one that would not be the first
        // to get its place back, for then the two would push each other out for ever.
        let rank = self.rank(first, now);
        let gives_way = |item: &Item| item.priority < first.priority && self.rank(item, now) > rank;
        let victims: Vec<_> = placed()
            .filter(|item| item.work.can_park() && gives_way(item))
            .collect();
        let freed: usize = victims.iter().map(|item| item.bytes).sum();
        let enough = placed().count() - victims.len() < self.bounds.active
            && (used - freed).saturating_add(first.bytes) <= self.bounds.kv_bytes;
        let last = victims
            .into_iter()
            .max_by_key(|item| (Reverse(item.priority), item.since, item.id))?;
        enough.then_some(Step::Park(last.id))
    }

    fn work(&self, items: &[Item], now: u64) -> Step {
        let mut decoding: Vec<_> = items.iter().filter(|item| item.work == Work::Decode).collect();
        let slice = items
            .iter()
            .filter(|item| matches!(item.work, Work::Prefill(_) | Work::Score))
            .min_by_key(|item| self.rank(item, now));
        match slice {
            Some(item) if decoding.is_empty() || !self.sliced => match item.work {
                Work::Prefill(ready) => Step::Prefill(item.id, ready.min(self.bounds.chunk.max(1))),
                _ => Step::Score(item.id),
            },
            _ if decoding.is_empty() => Step::Idle,
            _ => {
                // More than fit in one step take turns.
                decoding.sort_by_key(|item| (Reverse(item.priority), item.turn, item.id));
                decoding.truncate(self.bounds.batch.max(1));
                Step::Decode(decoding.into_iter().map(|item| item.id).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        chunk: 100,
        batch: 2,
        active: 3,
        kv_bytes: 10,
        age_ms: 1000,
    };

    fn item(id: u64, work: Work) -> Item {
        Item {
            id,
            tenant: 0,
            priority: 1,
            since: id,
            bytes: 3,
            turn: 0,
            work,
        }
    }

    #[test]
    fn slices_and_decode_steps_take_turns() {
        let mut planner = Planner::new(BOUNDS);
        let items = [item(1, Work::Prefill(250)), item(2, Work::Decode)];
        let steps: Vec<_> = (0..4).map(|_| planner.next(&items, 0)).collect();
        let (slice, decode) = (Step::Prefill(1, 100), Step::Decode(vec![2]));
        assert_eq!(steps, [slice.clone(), decode.clone(), slice, decode]);
        assert_eq!(planner.next(&[item(1, Work::Prefill(7))], 0), Step::Prefill(1, 7));
        assert_eq!(planner.next(&[item(1, Work::Waiting)], 0), Step::Idle);
    }

    #[test]
    fn places_and_bytes_are_kept_to_and_the_first_is_not_overtaken() {
        let mut planner = Planner::new(BOUNDS);
        let mut items = vec![
            item(1, Work::Waiting),
            item(2, Work::Waiting),
            item(3, Work::Queued),
        ];
        assert_eq!(planner.next(&items, 0), Step::Admit(3));
        items[2].bytes = 5;
        items.push(Item {
            bytes: 1,
            ..item(4, Work::Queued)
        });
        assert_eq!(
            planner.next(&items, 0),
            Step::Idle,
            "4 would fit, but 3 was first"
        );
        items[2].priority = 0;
        assert_eq!(planner.next(&items, 0), Step::Admit(4));
    }

    #[test]
    fn a_higher_priority_takes_the_place_of_the_youngest_lower_one() {
        let mut planner = Planner::new(BOUNDS);
        let mut items = vec![
            item(1, Work::Decode),
            item(2, Work::Decode),
            item(3, Work::Score),
            Item {
                priority: 2,
                ..item(4, Work::Queued)
            },
        ];
        assert_eq!(planner.next(&items, 0), Step::Park(2));
        items[1].work = Work::Parked;
        assert_eq!(planner.next(&items, 0), Step::Admit(4));
        items[3].work = Work::Decode;
        assert_eq!(planner.next(&items, 0), Step::Score(3));
        assert_eq!(planner.next(&items, 0), Step::Decode(vec![4, 1]));
        items[3].bytes = 100;
        items[3].work = Work::Queued;
        items[1].work = Work::Decode;
        assert_ne!(planner.next(&items, 0), Step::Park(2), "it would not help");
    }

    #[test]
    fn waiting_is_worth_priority_and_tenants_share() {
        let mut planner = Planner::new(Bounds { active: 1, ..BOUNDS });
        let old = Item {
            priority: 0,
            ..item(1, Work::Queued)
        };
        let young = Item {
            since: 1500,
            ..item(2, Work::Queued)
        };
        assert_eq!(planner.next(&[old.clone(), young.clone()], 500), Step::Admit(2));
        assert_eq!(planner.next(&[old, young], 2600), Step::Admit(1));

        let mut planner = Planner::new(BOUNDS);
        let mine = item(1, Work::Prefill(1000));
        let theirs = Item {
            tenant: 7,
            ..item(2, Work::Prefill(1000))
        };
        let steps: Vec<_> = (0..4)
            .map(|_| planner.next(&[mine.clone(), theirs.clone()], 0))
            .collect();
        let by = |id| {
            steps
                .iter()
                .filter(|step| **step == Step::Prefill(id, 100))
                .count()
        };
        assert_eq!((by(1), by(2)), (2, 2));
    }

    fn works() -> impl Strategy<Value = Work> {
        prop_oneof![
            Just(Work::Queued),
            Just(Work::Parked),
            Just(Work::Waiting),
            (1..300_usize).prop_map(Work::Prefill),
            Just(Work::Decode),
            Just(Work::Score),
        ]
    }

    /// Plays asks to their ends; gives the number of steps, or `None` when they do not come to one.
    fn play(mut left: Vec<(Item, usize, usize)>) -> Option<usize> {
        let mut planner = Planner::new(Bounds { age_ms: 40, ..BOUNDS });
        let mut now = 0;
        for turn in 1..20_000 {
            let coming = left.iter().filter(|(item, _, _)| item.since <= now);
            let items: Vec<_> = coming.map(|(item, _, _)| item.clone()).collect();
            let step = planner.next(&items, now);
            let mut find = |ids: &[u64], change: &mut dyn FnMut(&mut (Item, usize, usize))| {
                left.iter_mut()
                    .filter(|(item, ..)| ids.contains(&item.id))
                    .for_each(change);
            };
            let ready = |prompt: usize| {
                if prompt > 0 {
                    Work::Prefill(prompt)
                } else {
                    Work::Decode
                }
            };
            // Time passes where the decoder works.
            now += u64::from(matches!(step, Step::Prefill(..) | Step::Decode(_) | Step::Idle)) * 7;
            match step {
                Step::Admit(id) | Step::Resume(id) => {
                    find(&[id], &mut |(item, prompt, _)| item.work = ready(*prompt));
                }
                Step::Park(id) => find(&[id], &mut |(item, ..)| item.work = Work::Parked),
                Step::Prefill(id, tokens) => find(&[id], &mut |(item, prompt, _)| {
                    *prompt -= tokens;
                    item.work = ready(*prompt);
                }),
                Step::Decode(ids) => find(&ids, &mut |(item, _, answer)| {
                    item.turn = turn;
                    *answer -= 1;
                }),
                Step::Score(_) | Step::Idle => {}
            }
            left.retain(|(_, _, answer)| *answer > 0);
            if left.is_empty() {
                return Some(usize::try_from(turn).unwrap());
            }
        }
        None
    }

    proptest! {
        #[test]
        fn all_asks_come_to_their_end(
            asks in prop::collection::vec((0..3_u64, 0..3_u8, 1..=10_usize, 0..400_u64, 1..400_usize, 1..40_usize), 1..12),
        ) {
            let steps: usize = asks.iter().map(|&(.., prompt, answer)| prompt.div_ceil(BOUNDS.chunk) + answer).sum();
            let left: Vec<_> = asks.iter().enumerate().map(|(at, &(tenant, priority, bytes, since, prompt, answer))| {
                (Item { id: at as u64, tenant, priority, bytes, since, turn: 0, work: Work::Queued }, prompt, answer)
            }).collect();
            let played = play(left);
            // Coming, going and waiting for the next one take steps, too.
            prop_assert!(played.is_some_and(|played| played <= 4 * steps + 200), "{:?} of {}", played, steps);
        }

        #[test]
        fn a_step_is_always_possible_and_idle_means_that_none_is(
            works in prop::collection::vec((works(), 0..3_u64, 0..3_u8, 0..5_usize, 0..4000_u64), 0..12), now in 0..9000_u64,
        ) {
            let items: Vec<_> = works.iter().enumerate().map(|(at, &(work, tenant, priority, bytes, since))| {
                Item { id: at as u64, tenant, priority, since, bytes, turn: 0, work }
            }).collect();
            let mut planner = Planner::new(BOUNDS);
            let step = planner.next(&items, now);
            let of = |id: u64| items[usize::try_from(id).unwrap()].work;
            let placed = || items.iter().filter(|item| !item.work.waits_for_place());
            match &step {
                Step::Admit(id) | Step::Resume(id) => {
                    prop_assert_eq!(of(*id), if matches!(step, Step::Admit(_)) { Work::Queued } else { Work::Parked });
                    let bytes = items[usize::try_from(*id).unwrap()].bytes;
                    prop_assert!(placed().count() < BOUNDS.active);
                    prop_assert!(placed().map(|item| item.bytes).sum::<usize>() + bytes <= BOUNDS.kv_bytes);
                }
                Step::Park(id) => prop_assert!(of(*id).can_park()),
                Step::Prefill(id, tokens) => {
                    prop_assert!(matches!(of(*id), Work::Prefill(ready) if *tokens == ready.min(BOUNDS.chunk)));
                }
                Step::Score(id) => prop_assert_eq!(of(*id), Work::Score),
                Step::Decode(ids) => {
                    prop_assert!(!ids.is_empty() && ids.len() <= BOUNDS.batch);
                    prop_assert!(ids.iter().all(|&id| of(id) == Work::Decode));
                }
                Step::Idle => prop_assert!(items.iter().all(|item| item.work.waits_for_place() || item.work == Work::Waiting)),
            }
        }
    }
}
