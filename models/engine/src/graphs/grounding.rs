//! Cached keys to the tokens that an answer rests on: an optional graph that a model's makers trained for citations.

use std::sync::Arc;

use reelsight_ort::{OrtError, Port, Session, Tensor};

use super::{floats, port, refuse_unknown};
use crate::{EngineError, control::Control};

const HIDDEN: &str = "hidden_last";
const POSITIONS: &str = "position_ids";
const SCORES: &str = "evidence_scores";

/// The `grounding` graph: `hidden_last [1, 1, hidden]`, `position_ids [1, 1]` and the decoder's `present.{i}.key` to
/// `evidence_scores [1, 1, total]`. The sigmoid of the logsumexp over a frame's visual tokens is the chance that the
/// frame is evidence.
#[derive(Debug)]
pub(crate) struct Grounding {
    session: Session,
    hidden: Port,
}

impl Grounding {
    /// `present` names the cache outputs of the decoder that this graph reads.
    pub(crate) fn new<'n>(
        session: Session,
        present: impl Iterator<Item = &'n Arc<str>>,
    ) -> Result<Self, EngineError> {
        let present: Vec<_> = present.collect();
        refuse_unknown(session.inputs(), "grounding", |name| {
            [HIDDEN, POSITIONS].contains(&name) || present.iter().any(|known| ***known == *name)
        })?;
        port(session.outputs(), SCORES, |port| &*port.name == SCORES)?;
        let hidden = port(session.inputs(), HIDDEN, |port| &*port.name == HIDDEN)?.clone();
        Ok(Self { session, hidden })
    }

    /// Whether the graph reads the cache tensor `name`.
    pub(crate) fn reads(&self, name: &str) -> bool {
        self.session.input(name).is_some()
    }

    /// Scores of all cached tokens, for the token that is about to follow them. `cache` has the tensors that it
    /// reads, by the name of the decoder's output.
    pub(crate) fn run(
        &self,
        hidden: &[f32],
        cache: &[(Arc<str>, Tensor)],
        tokens: usize,
        control: &Control,
    ) -> Result<Vec<f32>, EngineError> {
        let scores = || -> Result<Vec<f32>, OrtError> {
            let position = i64::try_from(tokens.saturating_sub(1)).unwrap_or(i64::MAX);
            let mut inputs = vec![
                (
                    Arc::clone(&self.hidden.name),
                    floats(&self.hidden, &[1, 1, hidden.len()], hidden.to_vec())?,
                ),
                (POSITIONS.into(), Tensor::from_i64(&[1, 1], vec![position])?),
            ];
            inputs.extend(cache.iter().cloned());
            let mut outputs = self.session.run(inputs, &|| control.must_stop())?;
            Ok(outputs.take(SCORES)?.to_f32()?.into_owned())
        };
        scores().map_err(|error| control.error(error))
    }
}
