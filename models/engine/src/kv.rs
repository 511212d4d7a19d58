//! The KV cache of one sequence: past and present by concatenation, never copied between steps.

use reelsight_ort::{OrtError, Tensor};

/// Keys and values of all layers. Immutable: a step yields a new one, and a clone shares the memory.
#[derive(Debug, Clone)]
pub(crate) struct KvCache {
    /// In the order of the graph's cache inputs.
    pub(crate) tensors: Vec<Tensor>,
    /// Axis along which the cache grows.
    pub(crate) axis: usize,
    /// Tokens in it.
    pub(crate) len: usize,
}

impl KvCache {
    /// The first `len` tokens of it; shared when that is all of it, copied otherwise.
    pub(crate) fn head(&self, len: usize) -> Result<Self, OrtError> {
        if len >= self.len {
            return Ok(self.clone());
        }
        let tensors = self
            .tensors
            .iter()
            .map(|tensor| tensor.head(self.axis, len))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            tensors,
            axis: self.axis,
            len,
        })
    }

    /// Bytes of keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.tensors.iter().map(Tensor::bytes).sum()
    }
}
