//! The three graphs of a vision-language model, each behind what it takes and gives.
//!
//! Names, element types, ranks and optional inputs are read from the loaded graphs, never from the family's name.

mod decoder;
mod embed;
mod grounding;
mod vision;

pub(crate) use decoder::{Decoder, Logits, Pass, Tokens};
pub(crate) use embed::Embedder;
pub(crate) use grounding::Grounding;
pub(crate) use vision::{Features, VisionEncoder};

use reelsight_ort::{Element, OrtError, Port, Tensor};

use crate::EngineError;

/// Floats as the element type that `port` wants.
fn floats(port: &Port, shape: &[usize], data: Vec<f32>) -> Result<Tensor, OrtError> {
    match port.element {
        Some(Element::F16) => Tensor::from_f32_as_f16(shape, &data),
        _ => Tensor::from_f32(shape, data),
    }
}

/// The only or first port of `ports` that satisfies `wanted`.
fn port<'p>(ports: &'p [Port], what: &str, wanted: impl Fn(&Port) -> bool) -> Result<&'p Port, EngineError> {
    ports
        .iter()
        .find(|port| wanted(port))
        .ok_or_else(|| model_error(format!("the graph has no {what}")))
}

/// Refuses a graph with inputs that nobody here can fill.
fn refuse_unknown(inputs: &[Port], stem: &str, known: impl Fn(&str) -> bool) -> Result<(), EngineError> {
    match inputs.iter().find(|port| !known(&port.name)) {
        None => Ok(()),
        Some(port) => Err(model_error(format!(
            "{stem} wants an input {:?}, which is not supported",
            port.name
        ))),
    }
}

fn model_error(message: impl Into<String>) -> EngineError {
    EngineError::Model {
        message: message.into(),
    }
}
