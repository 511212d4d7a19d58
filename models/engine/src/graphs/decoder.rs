//! Embeddings and cache to logits.

use std::{ops::Range, sync::Arc};

use reelsight_ort::{Element, LocalSession, OrtError, Outputs, Port, Tensor};

use super::{floats, model_error, port, refuse_unknown};
use crate::{
    EngineError,
    kv::{Plane, Slab, token_bytes},
};

const EMBEDS: &str = "inputs_embeds";
const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const POSITIONS: &str = "position_ids";
const KEEP: &str = "num_logits_to_keep";
const CACHE_BRANCH: &str = "use_cache_branch";
/// What the language head reads; an output of graphs that others plug in beside.
const HIDDEN: &str = "hidden_last";
/// Time, row and column.
const AXES: usize = 3;

/// The `decoder_model_merged` graph. It belongs to the scheduler's thread.
#[derive(Debug)]
pub(crate) struct Decoder {
    session: LocalSession,
    tokens: Port,
    logits: Arc<str>,
    hidden_last: Option<Arc<str>>,
    positions: Option<Port>,
    keep: Option<Port>,
    has_cache_branch: bool,
    cache: CachePorts,
    hidden: usize,
}

/// Cache inputs with the outputs that continue them.
#[derive(Debug)]
struct CachePorts {
    /// Past and present.
    names: Vec<(Arc<str>, Arc<str>)>,
    planes: Vec<Plane>,
    /// Shapes without any token.
    empty: Vec<Vec<usize>>,
    /// Axis along which they grow.
    axis: usize,
}

/// What goes in at the bottom.
#[derive(Debug, Clone)]
pub(crate) enum Tokens {
    /// `[tokens, hidden]`.
    Embeds(Vec<f32>),
    /// For graphs that embed by themselves.
    Ids(Vec<u32>),
}

impl Tokens {
    /// `range` of `count` tokens.
    pub(crate) fn part(&self, range: Range<usize>, count: usize) -> Self {
        match self {
            Self::Embeds(values) => {
                let width = values.len() / count.max(1);
                Self::Embeds(values[range.start * width..range.end * width].to_vec())
            }
            Self::Ids(ids) => Self::Ids(ids[range].to_vec()),
        }
    }
}

/// One forward pass.
#[derive(Debug, Clone)]
pub(crate) struct Pass<'a> {
    /// Sequences.
    pub(crate) batch: usize,
    /// New tokens, `batch` times as many as each sequence has.
    pub(crate) tokens: Tokens,
    /// One for each of `tokens`.
    pub(crate) positions: &'a [[u32; AXES]],
    /// `[batch, total]`; zeros hide.
    pub(crate) mask: Vec<i64>,
    /// Last rows of each sequence whose logits are wanted; 0 when none are.
    pub(crate) keep: usize,
    /// Whether the states behind the logits are wanted, too.
    pub(crate) states: bool,
}

/// Rows of logits: the last ones of each sequence of a pass.
#[derive(Debug)]
pub(crate) struct Logits {
    values: Values,
    vocabulary: usize,
    /// Rows of each sequence that the graph gave, and how many of them were wanted.
    given: usize,
    keep: usize,
    hidden: Vec<f32>,
}

#[derive(Debug)]
enum Values {
    Single(Tensor),
    Widened(Vec<f32>),
}

impl Logits {
    /// Wanted rows of the only sequence that the graph gave.
    pub(crate) fn rows(&self) -> usize {
        self.keep
    }

    /// The last rows of passes that followed each other on one sequence, and the state behind the last.
    pub(crate) fn joined(passes: &[Self]) -> Self {
        let last = passes.iter().map(|pass| pass.row(pass.keep.saturating_sub(1)));
        Self {
            values: Values::Widened(last.flatten().copied().collect()),
            vocabulary: passes.last().map_or(0, |pass| pass.vocabulary),
            given: passes.len(),
            keep: passes.len(),
            hidden: passes.last().map_or_else(Vec::new, |pass| pass.hidden.clone()),
        }
    }

    /// The state `[hidden]` behind the last row; `None` where the graph does not give it or nobody asked.
    pub(crate) fn hidden(&self) -> Option<&[f32]> {
        (!self.hidden.is_empty()).then_some(&*self.hidden)
    }

    /// Wanted row `at` of the only sequence, from the first that was kept.
    pub(crate) fn row(&self, at: usize) -> &[f32] {
        self.row_of(0, at)
    }

    /// Wanted row `at` of `sequence`.
    pub(crate) fn row_of(&self, sequence: usize, at: usize) -> &[f32] {
        let row = sequence * self.given + self.given - self.keep + at;
        let range = row * self.vocabulary..(row + 1) * self.vocabulary;
        match &self.values {
            Values::Widened(values) => values.get(range),
            Values::Single(tensor) => tensor.as_f32().and_then(|values| values.get(range)),
        }
        .unwrap_or_default()
    }
}

impl Decoder {
    pub(crate) fn new(session: LocalSession, hidden: usize) -> Result<Self, EngineError> {
        let known = [EMBEDS, IDS, MASK, POSITIONS, KEEP, CACHE_BRANCH];
        refuse_unknown(session.inputs(), "decoder", |name| {
            known.contains(&name) || name.starts_with("past_key_values.")
        })?;
        let bottom = |port: &Port| [EMBEDS, IDS].contains(&&*port.name);
        let tokens = port(session.inputs(), "inputs_embeds or input_ids", bottom)?.clone();
        let width = tokens.dims.last().copied().flatten();
        if *tokens.name == *EMBEDS && width.is_some_and(|width| width != hidden) {
            return Err(model_error(format!(
                "the decoder takes embeddings of {:?}, not {hidden}",
                tokens.dims
            )));
        }
        port(session.inputs(), MASK, |port| &*port.name == MASK)?;
        let positions = session.input(POSITIONS).cloned();
        let axes = |port: &Port| port.dims.len() == 2 || port.dims.len() == 3 && port.dims[0] == Some(AXES);
        if positions.as_ref().is_some_and(|port| !axes(port)) {
            return Err(model_error(
                "position_ids are neither [batch, tokens] nor [3, batch, tokens]",
            ));
        }
        let cache = cache_ports(&session)?;
        let logits = Arc::clone(&port(session.outputs(), "logits", |port| &*port.name == "logits")?.name);
        let hidden_last = session.outputs().iter().find(|port| &*port.name == HIDDEN);
        Ok(Self {
            tokens,
            logits,
            hidden_last: hidden_last.map(|port| Arc::clone(&port.name)),
            positions,
            keep: session.input(KEEP).cloned(),
            has_cache_branch: session.input(CACHE_BRANCH).is_some(),
            cache,
            hidden,
            session,
        })
    }

    /// Whether the graph takes ids and embeds them by itself.
    pub(crate) fn takes_ids(&self) -> bool {
        &*self.tokens.name == IDS
    }

    /// Whether positions are an input. Graphs without it count tokens by themselves.
    pub(crate) fn takes_positions(&self) -> bool {
        self.positions.is_some()
    }

    /// Past and present of each cache tensor.
    pub(crate) fn cache_names(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.cache.names
    }

    /// Layout of each cache tensor.
    pub(crate) fn planes(&self) -> &[Plane] {
        &self.cache.planes
    }

    /// Whether cache tensors are `[batch, heads, tokens, width]`, as kernels that update in place want them.
    pub(crate) fn has_plain_cache(&self) -> bool {
        self.cache.axis == 2 && self.cache.empty.iter().all(|shape| shape.len() == 4)
    }

    /// Axis of the tokens in a cache tensor.
    pub(crate) fn cache_axis(&self) -> usize {
        self.cache.axis
    }

    /// Bytes of one token over all layers.
    pub(crate) fn bytes_per_token(&self) -> usize {
        token_bytes(&self.cache.planes)
    }

    /// Shape of cache tensor `at` with `tokens` of one sequence.
    pub(crate) fn cache_shape(&self, at: usize, tokens: usize) -> Vec<usize> {
        let mut shape = self.cache.empty[at].clone();
        shape[self.cache.axis] = tokens;
        shape
    }

    /// A cache without tokens, for [`Decoder::run`].
    pub(crate) fn empty_cache(&self) -> Result<Vec<Tensor>, OrtError> {
        let ports = self.cache.planes.iter().zip(&self.cache.empty);
        ports
            .map(|(plane, shape)| Tensor::empty(plane.element, shape))
            .collect()
    }

    /// Runs `pass` after `before`, whose tensors are exactly as long as they have tokens; gives the cache with the new
    /// ones in new tensors.
    pub(crate) fn run(
        &mut self,
        pass: Pass<'_>,
        before: &[Tensor],
    ) -> Result<(Logits, Vec<Tensor>), OrtError> {
        let (keep, with_states) = (pass.keep, pass.states);
        let cached = before.first().is_some_and(|tensor| tensor.bytes() > 0);
        let mut feeds = self.feeds(pass, cached)?;
        let names = self.cache.names.iter().zip(before);
        feeds.extend(names.map(|((name, _), tensor)| (Arc::clone(name), tensor.clone())));
        let mut wanted = self.wanted(with_states);
        wanted.extend(self.cache.names.iter().map(|(_, present)| Arc::clone(present)));
        let mut outputs = self.session.run(&feeds, &mut [], &wanted)?;
        let present = self.cache.names.iter().map(|(_, present)| outputs.take(present));
        let present = present.collect::<Result<_, _>>()?;
        Ok((self.kept(outputs, keep, with_states)?, present))
    }

    /// Runs `pass` on neighbouring `rows` of `slab`, where the graph adds the new tokens.
    pub(crate) fn run_in_place(
        &mut self,
        pass: Pass<'_>,
        slab: &mut Slab,
        rows: Range<usize>,
        cached: bool,
    ) -> Result<Logits, OrtError> {
        let (keep, with_states) = (pass.keep, pass.states);
        let feeds = self.feeds(pass, cached)?;
        let wanted = self.wanted(with_states);
        let mut parts = slab.in_place(rows, &self.cache.names);
        let outputs = self.session.run(&feeds, &mut parts, &wanted)?;
        self.kept(outputs, keep, with_states)
    }

    fn wanted(&self, with_states: bool) -> Vec<Arc<str>> {
        let states = self.hidden_last.iter().filter(|_| with_states);
        std::iter::once(&self.logits).chain(states).cloned().collect()
    }

    /// All inputs but the cache.
    fn feeds(&self, pass: Pass<'_>, cached: bool) -> Result<Vec<(Arc<str>, Tensor)>, OrtError> {
        let Pass {
            batch,
            tokens,
            positions,
            mask,
            keep,
            ..
        } = pass;
        let (new, total) = (positions.len() / batch, mask.len() / batch);
        let tokens = match tokens {
            Tokens::Embeds(values) => floats(&self.tokens, &[batch, new, self.hidden], values)?,
            Tokens::Ids(ids) => Tensor::from_i64(&[batch, new], ids.into_iter().map(i64::from).collect())?,
        };
        let mut feeds = vec![
            (Arc::clone(&self.tokens.name), tokens),
            (MASK.into(), Tensor::from_i64(&[batch, total], mask)?),
        ];
        if let Some(port) = &self.positions {
            let axes = if port.dims.len() == 3 { AXES } else { 1 };
            let of_axis = |axis: usize| positions.iter().map(move |position| i64::from(position[axis]));
            let values = (0..axes).flat_map(of_axis).collect();
            let shape = [axes, batch, new];
            let shape = &shape[usize::from(port.dims.len() == 2)..];
            feeds.push((Arc::clone(&port.name), Tensor::from_i64(shape, values)?));
        }
        if let Some(port) = &self.keep {
            let keep = i64::try_from(keep.max(1)).unwrap_or(i64::MAX);
            let tensor = Tensor::from_i64(&vec![1; port.dims.len()], vec![keep])?;
            feeds.push((Arc::clone(&port.name), tensor));
        }
        if self.has_cache_branch {
            feeds.push((CACHE_BRANCH.into(), Tensor::from_bool(&[1], vec![cached])?));
        }
        Ok(feeds)
    }

    /// The wanted rows; graphs without `num_logits_to_keep` give all rows.
    fn kept(&self, mut outputs: Outputs, keep: usize, states: bool) -> Result<Logits, OrtError> {
        let logits = outputs.take(&self.logits)?;
        let shape = logits.shape();
        let given = shape.iter().rev().nth(1).copied().unwrap_or(1);
        let hidden = match &self.hidden_last {
            Some(name) if states && keep > 0 => last_row(&outputs.take(name)?, self.hidden)?,
            _ => Vec::new(),
        };
        Ok(Logits {
            vocabulary: shape.last().copied().unwrap_or(0),
            given,
            keep: keep.min(given),
            values: match logits.element() {
                Some(Element::F32) => Values::Single(logits),
                _ => Values::Widened(logits.to_f32()?.into_owned()),
            },
            hidden,
        })
    }
}

/// The last `width` values.
fn last_row(states: &Tensor, width: usize) -> Result<Vec<f32>, OrtError> {
    let values = states.to_f32()?;
    Ok(values[values.len().saturating_sub(width)..].to_vec())
}

/// Cache inputs with their outputs, and the axis along which they grow: the symbolic one after the batch.
fn cache_ports(session: &LocalSession) -> Result<CachePorts, EngineError> {
    let mut ports = CachePorts {
        names: Vec::new(),
        planes: Vec::new(),
        empty: Vec::new(),
        axis: 0,
    };
    let is_cache = |port: &&Port| port.name.starts_with("past_key_values.");
    for port in session.inputs().iter().filter(is_cache) {
        let present = port.name.replacen("past_key_values.", "present.", 1);
        if !session.outputs().iter().any(|output| *output.name == *present) {
            return Err(model_error(format!(
                "the decoder has a cache input {} and no output {present}",
                port.name
            )));
        }
        let along = port.dims.iter().skip(1).position(Option::is_none);
        let element = port
            .element
            .filter(|element| matches!(element, Element::F32 | Element::F16));
        let (Some(axis), Some(element)) = (along.map(|axis| axis + 1), element) else {
            return Err(model_error(format!(
                "the cache input {} has a form that is not supported",
                port.name
            )));
        };
        if !ports.names.is_empty() && ports.axis != axis {
            return Err(model_error("cache inputs grow along different axes"));
        }
        ports.axis = axis;
        let size = |(at, dim): (usize, &Option<usize>)| dim.unwrap_or(usize::from(at != axis));
        let empty: Vec<_> = port.dims.iter().enumerate().map(size).collect();
        ports.planes.push(Plane {
            outer: empty[1..axis].iter().product(),
            inner: empty[axis + 1..].iter().product(),
            element,
        });
        ports.empty.push(empty);
        ports.names.push((Arc::clone(&port.name), present.into()));
    }
    if ports.names.is_empty() {
        return Err(model_error("the decoder has no KV cache"));
    }
    Ok(ports)
}
