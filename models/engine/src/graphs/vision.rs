//! Pixels to embeddings.

use std::sync::Arc;

use reelsight_ort::{Element, OrtError, Port, Session, Tensor};
use reelsight_preprocess::PixelTensor;

use super::{floats, model_error, port, refuse_unknown};
use crate::{EngineError, control::Control};

const PIXELS: &str = "pixel_values";
const MASK: &str = "pixel_attention_mask";

/// Embeddings of one frame, `[tokens_per_frame, hidden]` f32.
pub(crate) type Features = Arc<[f32]>;

/// The `vision_encoder` graph.
#[derive(Debug)]
pub(crate) struct VisionEncoder {
    session: Session,
    pixels: Port,
    mask: Option<Port>,
    output: Arc<str>,
    frame_len: usize,
}

impl VisionEncoder {
    /// `tokens` visual tokens of width `hidden` are expected of each frame.
    pub(crate) fn new(session: Session, tokens: usize, hidden: usize) -> Result<Self, EngineError> {
        refuse_unknown(&session, "vision_encoder", |name| [PIXELS, MASK].contains(&name))?;
        let pixels = port(session.inputs(), PIXELS, |port| &*port.name == PIXELS)?.clone();
        if ![4, 5].contains(&pixels.dims.len()) {
            return Err(model_error(format!(
                "{PIXELS} has {} axes, not 4 or 5",
                pixels.dims.len()
            )));
        }
        let output = port(session.outputs(), "image features", |_| true)?;
        let fixed = |from_end: usize| output.dims.iter().rev().nth(from_end).copied().flatten();
        if fixed(0).is_some_and(|width| width != hidden) || fixed(1).is_some_and(|found| found != tokens) {
            let message = format!(
                "vision_encoder gives {:?} per frame, not {tokens} x {hidden}",
                output.dims
            );
            return Err(model_error(message));
        }
        let output = Arc::clone(&output.name);
        Ok(Self {
            mask: session.input(MASK).cloned(),
            pixels,
            output,
            session,
            frame_len: tokens * hidden,
        })
    }

    /// Encodes a batch of frames of one size.
    pub(crate) fn run(
        &self,
        frames: &[PixelTensor],
        control: &Control,
    ) -> Result<Vec<Features>, EngineError> {
        let run = || {
            let mut outputs = self.session.run(self.inputs(frames)?, &|| control.must_stop())?;
            outputs.take(&self.output)
        };
        let features = run().map_err(|error| control.error(error))?;
        let features = features.to_f32().map_err(|error| control.error(error))?;
        if features.len() != frames.len() * self.frame_len {
            let message = format!("{} visual values for {} frames", features.len(), frames.len());
            return Err(EngineError::Internal { message });
        }
        Ok(features.chunks_exact(self.frame_len).map(Arc::from).collect())
    }

    fn inputs(&self, frames: &[PixelTensor]) -> Result<Vec<(Arc<str>, Tensor)>, OrtError> {
        let [channels, height, width] = frames.first().map_or([3, 0, 0], |frame| frame.shape);
        // A leading batch axis of one, where the graph has it.
        let batch = |port: &Port, inner: &[usize]| {
            let mut shape = vec![1; port.dims.len().saturating_sub(inner.len() + 1)];
            shape.push(frames.len());
            shape.extend(inner);
            shape
        };
        let data = frames
            .iter()
            .flat_map(|frame| frame.data.iter().copied())
            .collect();
        let shape = batch(&self.pixels, &[channels, height, width]);
        let mut inputs = vec![(Arc::clone(&self.pixels.name), floats(&self.pixels, &shape, data)?)];
        if let Some(mask) = &self.mask {
            let shape = batch(mask, &[height, width]);
            let shown = frames.iter().flat_map(|frame| frame.mask.iter().copied());
            let tensor = match mask.element {
                Some(Element::I64) => Tensor::from_i64(&shape, shown.map(i64::from).collect())?,
                _ => Tensor::from_bool(&shape, shown.collect())?,
            };
            inputs.push((Arc::clone(&mask.name), tensor));
        }
        Ok(inputs)
    }
}
