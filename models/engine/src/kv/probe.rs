//! What a decoder graph can do, tried on a few tokens at load.
//!
//! Whether a graph updates its cache in place, how it tells the lengths of a batch's rows apart and whether zeros in the
//! middle of its mask hide is decided by operators whose inputs exporters wire in different ways. The answers here are
//! compared with those of plain runs on exact tensors, which every graph must get right.

use std::time::Instant;

use reelsight_ort::Element;

use super::rows::{Append, Cost, Layout, Next, Ragged, Rows};
use crate::{
    EngineError,
    graphs::{Decoder, Tokens},
};

/// Two sequences of different lengths.
const PROMPTS: [&[u32]; 2] = [&[3, 9, 4, 7, 5, 8, 6], &[8, 2, 6, 3]];
/// Room for either.
const ROOM: usize = 16;
/// Largest difference of logits that rounding explains, as a part of the largest logit.
const ROUNDING: f32 = 1e-3;
/// The same for 16-bit caches.
const ROUNDING_F16: f32 = 2e-2;
/// Rows of the timed batch.
const BATCH: usize = 4;
/// Timed runs, of which the fastest counts.
const REPEATS: usize = 3;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Traits {
    pub(crate) layout: Layout,
    /// Whether a zero anywhere in the mask hides a token. Where it does not, hiding means leaving out of the cache.
    pub(crate) masks_hide: bool,
    pub(crate) cost: Cost,
}

/// Tries `decoder`, whose vocabulary begins with some ordinary tokens; `embed` is its way from ids to input. Gives it
/// back in a form for up to `rows` sequences of up to `context` tokens.
pub(crate) fn probe(
    decoder: Decoder,
    rows: usize,
    context: usize,
    embed: &dyn Fn(&[u32]) -> Result<Tokens, EngineError>,
) -> Result<(Rows, Traits), EngineError> {
    let f16 = decoder.planes().iter().any(|plane| plane.element == Element::F16);
    let rounding = if f16 { ROUNDING_F16 } else { ROUNDING };
    let free = Cost { run: 0.0, row: 1.0 };
    let mut trial = Trial {
        rows: Rows::new(decoder, Layout::Tensors, free, rows, context),
        embed,
        rounding,
    };
    let alone = trial.alone()?;
    let last_only = trial.last_only()?;
    trial.rounding = trial.rounding.max(2.0 * trial.noise(&alone)?);
    let masks_hide = trial.masks_hide()?;
    let layout = trial.layout(&alone);
    trial.rows.set(layout, free);
    let cost = match layout {
        Layout::Slabs(Ragged::Sums | Ragged::Columns) if rows > 1 => trial.cost(rows.min(BATCH))?,
        _ => free,
    };
    let mut rows = trial.rows;
    rows.set(layout, cost);
    rows.set_last_only(last_only);
    let traits = Traits {
        layout,
        masks_hide,
        cost,
    };
    tracing::debug!(?traits, "decoder graph tried");
    Ok((rows, traits))
}

struct Trial<'e> {
    rows: Rows,
    embed: &'e dyn Fn(&[u32]) -> Result<Tokens, EngineError>,
    rounding: f32,
}

impl Trial<'_> {
    /// The logits after each prompt, each run alone on exact tensors.
    fn alone(&mut self) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut logits = Vec::new();
        for (at, prompt) in PROMPTS.iter().enumerate() {
            let id = at as u64;
            // In the same pieces as `together`.
            let before = &prompt[..prompt.len() - 1];
            self.fill(id, before)?;
            self.last(id, before)?;
            logits.push(self.last(id, prompt)?);
            self.rows.close(id);
        }
        Ok(logits)
    }

    /// How far the logits move when nothing but the pieces of the prompts change, as a part of the largest logit. Graphs
    /// that round activations to 8 bits make much of differences that others do not show.
    fn noise(&mut self, alone: &[Vec<f32>]) -> Result<f32, EngineError> {
        let mut noise = 0.0_f32;
        for (at, (prompt, alone)) in PROMPTS.iter().zip(alone).enumerate() {
            let id = at as u64;
            self.fill(id, prompt)?;
            let logits = self.last(id, prompt)?;
            self.rows.close(id);
            let largest = alone.iter().fold(1.0_f32, |most, logit| most.max(logit.abs()));
            let differences = alone.iter().zip(&logits).map(|(a, b)| (a - b).abs() / largest);
            noise = differences.fold(noise, f32::max);
        }
        Ok(noise)
    }

    /// Whether the graph gives one row of logits where two are wanted.
    fn last_only(&mut self) -> Result<bool, EngineError> {
        let prompt = PROMPTS[0];
        self.rows.open(0, ROOM)?;
        let positions: Vec<_> = (0..prompt.len()).map(position).collect();
        let new = Append {
            tokens: (self.embed)(prompt)?,
            positions: &positions,
            shown: None,
            keep: 2,
            states: false,
        };
        let rows = self.rows.append(0, new)?.rows();
        self.rows.close(0);
        Ok(rows < 2)
    }

    fn layout(&mut self, alone: &[Vec<f32>]) -> Layout {
        if !self.rows.decoder.has_plain_cache() {
            return Layout::Tensors;
        }
        let free = Cost { run: 1.0, row: 0.0 };
        self.rows.set(Layout::Slabs(Ragged::Alone), free);
        // A graph that cannot do it fails, or is wrong; both mean no.
        if !self.matches(Ragged::Alone, alone) {
            return Layout::Tensors;
        }
        let ways = [Ragged::Sums, Ragged::Columns];
        let way = ways.into_iter().find(|&way| {
            self.rows.set(Layout::Slabs(way), free);
            self.matches(way, alone)
        });
        Layout::Slabs(way.unwrap_or(Ragged::Alone))
    }

    /// Whether decoding both prompts together gives what each gives alone.
    fn matches(&mut self, way: Ragged, alone: &[Vec<f32>]) -> bool {
        let together = self.together();
        for id in 0..PROMPTS.len() {
            self.rows.close(id as u64);
        }
        match together {
            Ok(together) => alone
                .iter()
                .zip(&together)
                .all(|(alone, together)| self.equal(alone, together)),
            Err(error) => {
                tracing::debug!(?way, %error, "the decoder cannot do that");
                false
            }
        }
    }

    /// The logits after two tokens of each, so that a first token in a wrong place is seen by the second.
    fn together(&mut self) -> Result<Vec<Vec<f32>>, EngineError> {
        for (at, prompt) in PROMPTS.iter().enumerate() {
            self.fill(at as u64, &prompt[..prompt.len() - 1])?;
        }
        let mut found = vec![Vec::new(); PROMPTS.len()];
        for back in [2, 1] {
            let mut next = Vec::new();
            for (at, prompt) in PROMPTS.iter().enumerate() {
                let place = prompt.len() - back;
                next.push(Next {
                    sequence: at as u64,
                    token: (self.embed)(&prompt[place..=place])?,
                    position: position(place),
                });
            }
            self.rows.decode(next, |id, logits| {
                if let Some(found) = usize::try_from(id).ok().and_then(|id| found.get_mut(id)) {
                    *found = logits.to_vec();
                }
            })?;
        }
        Ok(found)
    }

    /// Prefills all but the last token of `prompt`.
    fn fill(&mut self, id: u64, prompt: &[u32]) -> Result<(), EngineError> {
        self.rows.open(id, ROOM)?;
        self.append(id, &prompt[..prompt.len() - 1], None).map(drop)
    }

    fn last(&mut self, id: u64, prompt: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.append(id, &prompt[prompt.len() - 1..], None)
    }

    fn append(&mut self, id: u64, ids: &[u32], shown: Option<&[bool]>) -> Result<Vec<f32>, EngineError> {
        let from = self.rows.len(id);
        let positions: Vec<_> = (from..from + ids.len()).map(position).collect();
        let new = Append {
            tokens: (self.embed)(ids)?,
            positions: &positions,
            shown,
            keep: 1,
            states: false,
        };
        Ok(self.rows.append(id, new)?.row(0).to_vec())
    }

    /// Whether hiding a token in the middle is the same as leaving its keys and values out.
    fn masks_hide(&mut self) -> Result<bool, EngineError> {
        if !self.rows.decoder.takes_positions() {
            // Nothing to compare with: without its token, what follows would stand elsewhere.
            return Ok(true);
        }
        let prompt = PROMPTS[1];
        let (hidden, cached) = (1, prompt.len() - 1);
        self.fill(0, prompt)?;
        let segment = self.rows.save(0, 0..cached)?;
        let mut shown = vec![true; cached];
        shown[hidden] = false;
        let masked = self.append(0, &prompt[cached..], Some(&shown));
        self.rows.close(0);
        let mut pages = super::Pages::default();
        pages.push(segment, cached);
        self.rows.open(0, ROOM)?;
        self.rows
            .load_parts(0, &pages, &[0..hidden, hidden + 1..cached])?;
        let new = Append {
            tokens: (self.embed)(&prompt[cached..])?,
            positions: &[position(cached)],
            shown: None,
            keep: 1,
            states: false,
        };
        let without = self.rows.append(0, new)?.row(0).to_vec();
        self.rows.close(0);
        Ok(masked.is_ok_and(|masked| self.equal(&masked, &without)))
    }

    /// Seconds of a run and of a row, from steps with one row and with `rows`.
    fn cost(&mut self, rows: usize) -> Result<Cost, EngineError> {
        let one = self.step_secs(1)?;
        let many = self.step_secs(rows)?;
        let row = ((many - one) / (rows - 1) as f64).max(0.0);
        Ok(Cost { run: one - row, row })
    }

    fn step_secs(&mut self, rows: usize) -> Result<f64, EngineError> {
        // Whatever the costs are, these rows are to go together.
        self.rows.set(self.rows.layout(), Cost { run: 1.0, row: 0.0 });
        let ids = 0..rows as u64;
        for id in ids.clone() {
            self.fill(id, PROMPTS[0])?;
        }
        let mut fastest = f64::INFINITY;
        for _ in 0..REPEATS {
            let place = self.rows.len(0);
            let next = ids.clone().map(|sequence| {
                Ok(Next {
                    sequence,
                    token: (self.embed)(&PROMPTS[0][..1])?,
                    position: position(place),
                })
            });
            let next = next.collect::<Result<_, EngineError>>()?;
            let start = Instant::now();
            self.rows.decode(next, |_, _| {})?;
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        ids.for_each(|id| self.rows.close(id));
        Ok(fastest)
    }

    fn equal(&self, expected: &[f32], found: &[f32]) -> bool {
        let largest = expected.iter().map(|logit| logit.abs()).fold(0.0, f32::max);
        expected.len() == found.len()
            && expected
                .iter()
                .zip(found)
                .all(|(a, b)| (a - b).abs() <= self.rounding * largest.max(1.0))
    }
}

fn position(at: usize) -> [u32; 3] {
    [u32::try_from(at).unwrap_or(u32::MAX); 3]
}
