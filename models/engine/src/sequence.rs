//! One conversation in the decoder: its ids, its cache, and prefill in chunks.

use std::collections::BTreeMap;

use reelsight_families::Prompt;

use crate::{
    EngineError,
    control::Control,
    graphs::{Features, Logits, Step},
    kv::KvCache,
    model::Model,
};

/// A conversation as far as it has gone through the decoder.
#[derive(Debug)]
pub(crate) struct Sequence<'m> {
    model: &'m Model,
    /// Ids of the cached tokens, one for one.
    pub(crate) ids: Vec<u32>,
    pub(crate) cache: KvCache,
}

impl<'m> Sequence<'m> {
    /// An empty one.
    pub(crate) fn new(model: &'m Model, control: &Control) -> Result<Self, EngineError> {
        let cache = model
            .decoder
            .empty_cache()
            .map_err(|error| control.error(error))?;
        Ok(Self {
            model,
            ids: Vec::new(),
            cache,
        })
    }

    /// One that continues a session.
    pub(crate) fn resume(model: &'m Model, ids: Vec<u32>, cache: KvCache) -> Self {
        Self { model, ids, cache }
    }

    /// Keeps the first `len` tokens.
    pub(crate) fn truncate(&mut self, len: usize, control: &Control) -> Result<(), EngineError> {
        self.cache = self.cache.head(len).map_err(|error| control.error(error))?;
        self.ids.truncate(len);
        Ok(())
    }

    /// Tokens at the start of `ids` that are in the cache.
    pub(crate) fn common_prefix(&self, ids: &[u32]) -> usize {
        self.ids
            .iter()
            .zip(ids)
            .take_while(|(cached, wanted)| cached == wanted)
            .count()
    }

    /// Prefills `prompt` from where the cache ends up to token `end`, `chunk` tokens at a time. `features` has the
    /// embeddings of the frames by their place in the prompt. Gives the last row of logits when `end` is the prompt's.
    pub(crate) fn prefill(
        &mut self,
        prompt: &Prompt,
        end: usize,
        features: &BTreeMap<usize, Features>,
        chunk: usize,
        control: &Control,
    ) -> Result<Option<Logits>, EngineError> {
        let mut logits = None;
        while self.ids.len() < end {
            control.check()?;
            let start = self.ids.len();
            let next = end.min(start + chunk.max(1));
            let mut embeds = self.model.embed.run(&prompt.ids[start..next], control)?;
            place_frames(prompt, start, features, &mut embeds, self.model.decoder.hidden())?;
            let keep = usize::from(next == prompt.ids.len());
            let step = Step {
                embeds,
                shown: None,
                keep,
            };
            let (rows, cache) = self.model.decoder.run(&self.cache, step, control)?;
            self.cache = cache;
            self.ids.extend(&prompt.ids[start..next]);
            logits = (keep > 0).then_some(rows);
        }
        Ok(logits)
    }

    /// Adds one token and gives the logits after it.
    pub(crate) fn step(&mut self, id: u32, control: &Control) -> Result<Logits, EngineError> {
        let embeds = self.model.embed.run(&[id], control)?;
        let step = Step {
            embeds,
            shown: None,
            keep: 1,
        };
        let (logits, cache) = self.model.decoder.run(&self.cache, step, control)?;
        self.cache = cache;
        self.ids.push(id);
        Ok(logits)
    }
}

/// Overwrites the rows of visual tokens in `embeds`, which begins at token `start` of the prompt.
fn place_frames(
    prompt: &Prompt,
    start: usize,
    features: &BTreeMap<usize, Features>,
    embeds: &mut [f32],
    hidden: usize,
) -> Result<(), EngineError> {
    let end = start + embeds.len() / hidden;
    let first = prompt.frames.partition_point(|slot| slot.visual.end <= start);
    for (at, slot) in prompt.frames.iter().enumerate().skip(first) {
        let (from, to) = (slot.visual.start.max(start), slot.visual.end.min(end));
        if from >= to {
            break;
        }
        let missing = || EngineError::Internal {
            message: format!("frame {at} has no embeddings"),
        };
        let frame = features.get(&at).ok_or_else(missing)?;
        let source = &frame[(from - slot.visual.start) * hidden..(to - slot.visual.start) * hidden];
        embeds[(from - start) * hidden..(to - start) * hidden].copy_from_slice(source);
    }
    Ok(())
}
