//! Embeddings and cache to logits.

use std::sync::Arc;

use reelsight_ort::{Element, OrtError, Port, Session, Tensor};

use super::{floats, model_error, port, refuse_unknown};
use crate::{EngineError, control::Control, kv::KvCache};

const EMBEDS: &str = "inputs_embeds";
const MASK: &str = "attention_mask";
const POSITIONS: &str = "position_ids";
const KEEP: &str = "num_logits_to_keep";
const CACHE_BRANCH: &str = "use_cache_branch";
/// What the language head reads; an output of graphs that others plug in beside.
const HIDDEN: &str = "hidden_last";

/// The `decoder_model_merged` graph.
#[derive(Debug)]
pub(crate) struct Decoder {
    session: Session,
    embeds: Port,
    logits: Arc<str>,
    hidden_last: Option<Arc<str>>,
    positions: Option<Port>,
    keep: Option<Port>,
    has_cache_branch: bool,
    cache: Vec<CachePort>,
    cache_axis: usize,
    hidden: usize,
}

/// A cache input and the output that continues it.
#[derive(Debug)]
struct CachePort {
    past: Arc<str>,
    present: Arc<str>,
    element: Element,
    /// Shape without any token.
    empty: Vec<usize>,
}

/// One forward pass.
pub(crate) struct Step<'a> {
    /// Embeddings of the new tokens, `[new, hidden]`.
    pub(crate) embeds: Vec<f32>,
    /// Cached tokens that must not be seen; by index, `false` hides. `None` shows all.
    pub(crate) shown: Option<&'a [bool]>,
    /// Last rows whose logits are wanted; 0 when none are.
    pub(crate) keep: usize,
}

/// Rows of logits, the last ones of a step.
#[derive(Debug)]
pub(crate) struct Logits {
    values: Vec<f32>,
    vocabulary: usize,
    hidden: Vec<f32>,
}

impl Logits {
    /// The state `[hidden]` behind the last row; `None` where the graph does not give it.
    pub(crate) fn hidden(&self) -> Option<&[f32]> {
        (!self.hidden.is_empty()).then_some(&*self.hidden)
    }

    /// Row `at`, from the first that was kept.
    pub(crate) fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.vocabulary..(at + 1) * self.vocabulary]
    }
}

impl Decoder {
    pub(crate) fn new(session: Session, hidden: usize) -> Result<Self, EngineError> {
        let known = [EMBEDS, MASK, POSITIONS, KEEP, CACHE_BRANCH];
        refuse_unknown(&session, "decoder", |name| {
            known.contains(&name) || name.starts_with("past_key_values.")
        })?;
        let embeds = port(session.inputs(), EMBEDS, |port| &*port.name == EMBEDS)?.clone();
        if embeds
            .dims
            .last()
            .copied()
            .flatten()
            .is_some_and(|width| width != hidden)
        {
            return Err(model_error(format!(
                "the decoder takes embeddings of {:?}, not {hidden}",
                embeds.dims
            )));
        }
        port(session.inputs(), MASK, |port| &*port.name == MASK)?;
        let positions = session.input(POSITIONS).cloned();
        if positions.as_ref().is_some_and(|port| port.dims.len() != 2) {
            return Err(model_error(
                "position_ids with more than one axis per token are not supported",
            ));
        }
        let (cache, cache_axis) = cache_ports(&session)?;
        let logits = Arc::clone(&port(session.outputs(), "logits", |port| &*port.name == "logits")?.name);
        let hidden_last = session.outputs().iter().find(|port| &*port.name == HIDDEN);
        Ok(Self {
            embeds,
            logits,
            hidden_last: hidden_last.map(|port| Arc::clone(&port.name)),
            positions,
            keep: session.input(KEEP).cloned(),
            has_cache_branch: session.input(CACHE_BRANCH).is_some(),
            cache,
            cache_axis,
            hidden,
            session,
        })
    }

    /// Width of embeddings.
    pub(crate) fn hidden(&self) -> usize {
        self.hidden
    }

    /// Names of the cache outputs.
    pub(crate) fn present(&self) -> Vec<Arc<str>> {
        self.cache.iter().map(|port| Arc::clone(&port.present)).collect()
    }

    /// The tensors of `cache` by the name of the output that gave them.
    pub(crate) fn named<'c>(&'c self, cache: &'c KvCache) -> Vec<(Arc<str>, Tensor)> {
        self.present()
            .into_iter()
            .zip(cache.tensors.iter().cloned())
            .collect()
    }

    /// Bytes of one token over all layers.
    pub(crate) fn bytes_per_token(&self) -> usize {
        let one = |port: &CachePort| {
            let others = port
                .empty
                .iter()
                .enumerate()
                .filter(|(axis, _)| *axis != self.cache_axis);
            others.map(|(_, size)| size).product::<usize>() * port.element.size()
        };
        self.cache.iter().map(one).sum()
    }

    /// A cache without tokens.
    pub(crate) fn empty_cache(&self) -> Result<KvCache, OrtError> {
        let tensors = self
            .cache
            .iter()
            .map(|port| Tensor::empty(port.element, &port.empty));
        Ok(KvCache {
            tensors: tensors.collect::<Result<_, _>>()?,
            axis: self.cache_axis,
            len: 0,
        })
    }

    /// Runs `step` after what is in `cache`; gives the kept logits and the cache with the new tokens.
    pub(crate) fn run(
        &self,
        cache: &KvCache,
        step: Step<'_>,
        control: &Control,
    ) -> Result<(Logits, KvCache), EngineError> {
        let new = step.embeds.len() / self.hidden;
        let keep = step.keep;
        let result = (|| {
            let inputs = self.inputs(cache, step)?;
            let mut outputs = self.session.run(inputs, &|| control.must_stop())?;
            let logits = outputs.take(&self.logits)?;
            let tensors = self.cache.iter().map(|port| outputs.take(&port.present));
            let tensors = tensors.collect::<Result<_, _>>()?;
            let hidden = match &self.hidden_last {
                Some(name) if keep > 0 => last_row(&outputs.take(name)?, self.hidden)?,
                _ => Vec::new(),
            };
            Ok((
                Logits {
                    hidden,
                    ..kept(&logits, keep)?
                },
                KvCache {
                    tensors,
                    axis: self.cache_axis,
                    len: cache.len + new,
                },
            ))
        })();
        result.map_err(|error| control.error(error))
    }

    fn inputs(&self, cache: &KvCache, step: Step<'_>) -> Result<Vec<(Arc<str>, Tensor)>, OrtError> {
        let new = step.embeds.len() / self.hidden;
        let total = cache.len + new;
        let mut mask = vec![1; total];
        for (bit, &shown) in mask.iter_mut().zip(step.shown.unwrap_or_default()) {
            *bit = i64::from(shown);
        }
        let mut inputs = vec![
            (
                Arc::clone(&self.embeds.name),
                floats(&self.embeds, &[1, new, self.hidden], step.embeds)?,
            ),
            (MASK.into(), Tensor::from_i64(&[1, total], mask)?),
        ];
        if let Some(port) = &self.positions {
            // Positions are those of the whole prompt, whatever the mask hides.
            let positions = (cache.len..total).map(|position| i64::try_from(position).unwrap_or(i64::MAX));
            inputs.push((
                Arc::clone(&port.name),
                Tensor::from_i64(&[1, new], positions.collect())?,
            ));
        }
        if let Some(port) = &self.keep {
            let keep = i64::try_from(step.keep.max(1)).unwrap_or(i64::MAX);
            inputs.push((
                Arc::clone(&port.name),
                Tensor::from_i64(&vec![1; port.dims.len()], vec![keep])?,
            ));
        }
        if self.has_cache_branch {
            inputs.push((CACHE_BRANCH.into(), Tensor::from_bool(&[1], vec![cache.len > 0])?));
        }
        for (port, tensor) in self.cache.iter().zip(&cache.tensors) {
            inputs.push((Arc::clone(&port.past), tensor.clone()));
        }
        Ok(inputs)
    }
}

/// The last `keep` rows; graphs without `num_logits_to_keep` give all rows.
fn kept(logits: &Tensor, keep: usize) -> Result<Logits, OrtError> {
    let vocabulary = logits.shape().last().copied().unwrap_or(0).max(1);
    let values = logits.to_f32()?;
    let wanted = values.len().min(keep * vocabulary);
    Ok(Logits {
        values: values[values.len() - wanted..].to_vec(),
        vocabulary,
        hidden: Vec::new(),
    })
}

/// The last `width` values.
fn last_row(states: &Tensor, width: usize) -> Result<Vec<f32>, OrtError> {
    let values = states.to_f32()?;
    Ok(values[values.len().saturating_sub(width)..].to_vec())
}

/// Cache inputs with their outputs, and the axis along which they grow: the symbolic one after the batch.
fn cache_ports(session: &Session) -> Result<(Vec<CachePort>, usize), EngineError> {
    let mut ports = Vec::new();
    let mut growth = Vec::new();
    for port in session
        .inputs()
        .iter()
        .filter(|port| port.name.starts_with("past_key_values."))
    {
        let present = port.name.replacen("past_key_values.", "present.", 1);
        if !session.outputs().iter().any(|output| *output.name == *present) {
            return Err(model_error(format!(
                "the decoder has a cache input {} and no output {present}",
                port.name
            )));
        }
        let along = port
            .dims
            .iter()
            .skip(1)
            .position(Option::is_none)
            .map(|axis| axis + 1);
        let element = port
            .element
            .filter(|element| matches!(element, Element::F32 | Element::F16));
        let (Some(axis), Some(element)) = (along, element) else {
            return Err(model_error(format!(
                "the cache input {} has a form that is not supported",
                port.name
            )));
        };
        growth.push(axis);
        let size = |(at, dim): (usize, &Option<usize>)| dim.unwrap_or(usize::from(at != axis));
        let empty = port.dims.iter().enumerate().map(size).collect();
        ports.push(CachePort {
            past: Arc::clone(&port.name),
            present: present.into(),
            element,
            empty,
        });
    }
    match growth.first() {
        Some(&axis) if growth.iter().all(|other| *other == axis) => Ok((ports, axis)),
        Some(_) => Err(model_error("cache inputs grow along different axes")),
        None => Err(model_error("the decoder has no KV cache")),
    }
}
