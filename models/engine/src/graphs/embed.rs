//! Ids to embeddings.

use std::sync::Arc;

use reelsight_ort::{Session, Tensor};

use super::{port, refuse_unknown};
use crate::{EngineError, control::Control};

/// The `embed_tokens` graph.
#[derive(Debug)]
pub(crate) struct Embedder {
    session: Session,
    input: Arc<str>,
    output: Arc<str>,
}

impl Embedder {
    pub(crate) fn new(session: Session) -> Result<Self, EngineError> {
        refuse_unknown(session.inputs(), "embed_tokens", |name| name == "input_ids")?;
        let input = Arc::clone(&port(session.inputs(), "input_ids", |_| true)?.name);
        let output = Arc::clone(&port(session.outputs(), "embeddings", |port| port.dims.len() == 3)?.name);
        Ok(Self {
            session,
            input,
            output,
        })
    }

    /// Embeddings of `ids`.
    ///
    /// # Shapes
    /// `[ids, hidden]` f32.
    pub(crate) fn run(&self, ids: &[u32], control: &Control) -> Result<Vec<f32>, EngineError> {
        let run = || {
            let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
            let ids = Tensor::from_i64(&[1, ids.len()], ids)?;
            let mut outputs = self
                .session
                .run(vec![(Arc::clone(&self.input), ids)], &|| control.must_stop())?;
            Ok(outputs.take(&self.output)?.to_f32()?.into_owned())
        };
        run().map_err(|error| control.error(error))
    }
}
