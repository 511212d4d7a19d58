//! Pixels to embeddings.

use std::sync::{Arc, OnceLock};

use reelsight_ort::{Element, OrtError, Port, Session, Tensor};
use reelsight_preprocess::{PatchTensor, PixelTensor, VisionInput};

use super::{floats, model_error, port, refuse_unknown};
use crate::{EngineError, control::Control};

const PIXELS: &str = "pixel_values";
const MASK: &str = "pixel_attention_mask";
/// Patches along time, height and width: exports of Qwen2-VL and of Qwen2.5-VL name it differently.
const GRIDS: [&str; 2] = ["image_grid_thw", "grid_thw"];

/// Embeddings of one slot of a prompt, `[tokens, hidden]` f32.
pub(crate) type Features = Arc<[f32]>;

/// The `vision_encoder` graph.
#[derive(Debug)]
pub(crate) struct VisionEncoder {
    session: Session,
    pixels: Port,
    mask: Option<Port>,
    grid: Option<Port>,
    output: Arc<str>,
    /// Rows that each picture gives, where the family knows.
    rows: Option<usize>,
    hidden: usize,
    extra: Option<Extra>,
}

/// An output beside the features that does not depend on the picture.
#[derive(Debug)]
struct Extra {
    name: Arc<str>,
    value: OnceLock<Arc<[f32]>>,
}

impl VisionEncoder {
    /// `rows` embeddings of width `hidden` are expected of each picture, where their number is known. `extra` names an
    /// output to keep, if the graph has it.
    pub(crate) fn new(
        session: Session,
        rows: Option<usize>,
        hidden: usize,
        extra: Option<&str>,
    ) -> Result<Self, EngineError> {
        let known = |name: &str| [PIXELS, MASK].contains(&name) || GRIDS.contains(&name);
        refuse_unknown(session.inputs(), "vision_encoder", known)?;
        let pixels = port(session.inputs(), PIXELS, |port| &*port.name == PIXELS)?.clone();
        let grid = GRIDS.iter().find_map(|name| session.input(name)).cloned();
        let wanted: &[usize] = if grid.is_some() { &[2] } else { &[4, 5] };
        if !wanted.contains(&pixels.dims.len()) {
            return Err(model_error(format!(
                "{PIXELS} has {} axes, not one of {wanted:?}",
                pixels.dims.len()
            )));
        }
        let output = session.outputs().iter().find(|port| Some(&*port.name) != extra);
        let output = output.ok_or_else(|| model_error("vision_encoder has no image features"))?;
        let fixed = |from_end: usize| output.dims.iter().rev().nth(from_end).copied().flatten();
        let other = |found: Option<usize>, wanted: Option<usize>| {
            found.zip(wanted).is_some_and(|(found, wanted)| found != wanted)
        };
        if other(fixed(0), Some(hidden)) || (output.dims.len() == 3 && other(fixed(1), rows)) {
            let rows = rows.map_or_else(|| "any number".to_owned(), |rows| rows.to_string());
            return Err(model_error(format!(
                "vision_encoder gives {:?}, not {rows} x {hidden} per picture",
                output.dims
            )));
        }
        let output = Arc::clone(&output.name);
        let named = |name: &str| session.outputs().iter().find(|port| &*port.name == name);
        let extra = extra.and_then(named).map(|port| Extra {
            name: Arc::clone(&port.name),
            value: OnceLock::new(),
        });
        Ok(Self {
            mask: session.input(MASK).cloned(),
            grid,
            pixels,
            output,
            session,
            rows,
            hidden,
            extra,
        })
    }

    /// The extra output; `None` when the graph has none or has not run yet.
    pub(crate) fn extra(&self) -> Option<&[f32]> {
        self.extra.as_ref()?.value.get().map(|value| &**value)
    }

    /// Encodes pictures: those of one size together, patches of any size each alone.
    pub(crate) fn run(
        &self,
        pictures: &[VisionInput],
        control: &Control,
    ) -> Result<Vec<Features>, EngineError> {
        let mut features = Vec::with_capacity(pictures.len());
        let mut batch = Vec::new();
        for picture in pictures {
            match picture {
                VisionInput::Picture(picture) => batch.push(picture),
                VisionInput::Patches(patches) => {
                    let inputs = self.patches(patches).map_err(|error| control.error(error))?;
                    features.extend(self.encode(inputs, 1, control)?);
                }
            }
        }
        if !batch.is_empty() {
            let inputs = self.batch(&batch).map_err(|error| control.error(error))?;
            features.extend(self.encode(inputs, batch.len(), control)?);
        }
        Ok(features)
    }

    fn encode(
        &self,
        inputs: Vec<(Arc<str>, Tensor)>,
        pictures: usize,
        control: &Control,
    ) -> Result<Vec<Features>, EngineError> {
        let run = || {
            let mut outputs = self.session.run(inputs, &|| control.must_stop())?;
            if let Some(Extra { name, value }) = &self.extra
                && value.get().is_none()
            {
                let extra = outputs.take(name)?;
                value.get_or_init(|| Arc::from(extra.to_f32().unwrap_or_default()));
            }
            outputs.take(&self.output)
        };
        let features = run().map_err(|error| control.error(error))?;
        let features = features.to_f32().map_err(|error| control.error(error))?;
        let each = features.len() / pictures;
        let whole = each > 0 && each.is_multiple_of(self.hidden) && features.len() == each * pictures;
        if !whole || self.rows.is_some_and(|rows| each != rows * self.hidden) {
            let message = format!("{} visual values for {pictures} pictures", features.len());
            return Err(EngineError::Internal { message });
        }
        Ok(features.chunks_exact(each).map(Arc::from).collect())
    }

    fn patches(&self, patches: &PatchTensor) -> Result<Vec<(Arc<str>, Tensor)>, OrtError> {
        let rows = patches.data.len() / patches.width.max(1);
        let pixels = floats(&self.pixels, &[rows, patches.width], patches.data.clone())?;
        let mut inputs = vec![(Arc::clone(&self.pixels.name), pixels)];
        if let Some(grid) = &self.grid {
            let sides = patches.grid.iter().map(|&side| i64::from(side));
            inputs.push((
                Arc::clone(&grid.name),
                Tensor::from_i64(&[1, 3], sides.collect())?,
            ));
        }
        Ok(inputs)
    }

    fn batch(&self, pictures: &[&PixelTensor]) -> Result<Vec<(Arc<str>, Tensor)>, OrtError> {
        let [channels, height, width] = pictures.first().map_or([3, 0, 0], |picture| picture.shape);
        // A leading batch axis of one, where the graph has it.
        let batch = |port: &Port, inner: &[usize]| {
            let mut shape = vec![1; port.dims.len().saturating_sub(inner.len() + 1)];
            shape.push(pictures.len());
            shape.extend(inner);
            shape
        };
        let data = pictures
            .iter()
            .flat_map(|picture| picture.data.iter().copied())
            .collect();
        let shape = batch(&self.pixels, &[channels, height, width]);
        let mut inputs = vec![(Arc::clone(&self.pixels.name), floats(&self.pixels, &shape, data)?)];
        if let Some(mask) = &self.mask {
            let shape = batch(mask, &[height, width]);
            let shown = pictures.iter().flat_map(|picture| picture.mask.iter().copied());
            let tensor = match mask.element {
                Some(Element::I64) => Tensor::from_i64(&shape, shown.map(i64::from).collect())?,
                _ => Tensor::from_bool(&shape, shown.collect())?,
            };
            inputs.push((Arc::clone(&mask.name), tensor));
        }
        Ok(inputs)
    }
}
