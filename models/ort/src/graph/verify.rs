//! Whether a prepared graph says what the original says.

use std::{path::Path, sync::Arc};

use super::{GraphError, OBSERVED_ROWS, Unsupported};
use crate::{Buffer, Element, InPlace, LocalSession, OrtError, Port, SessionOptions, Tensor, runtime};

/// A small prompt in pieces, run through both graphs.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    /// New tokens of each piece.
    pieces: Vec<usize>,
    /// Largest difference of a logit, as a share of the largest logit.
    tolerance: f32,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            pieces: vec![6, 1, 3, 1],
            tolerance: 2e-3,
        }
    }
}

impl Check {
    /// Compares the logits of `prepared` with those of `original`, one graph loaded at a time.
    ///
    /// # Errors
    /// [`Unsupported`] with the difference, or when the graphs cannot be fed; [`OrtError`] when the original fails.
    pub(crate) fn equal(&self, original: &Path, prepared: &Path, in_place: bool) -> Result<(), GraphError> {
        let wanted = Subject::load(original)?.logits(&self.pieces, false)?;
        let found = Subject::load(prepared).and_then(|mut subject| subject.logits(&self.pieces, in_place));
        let found = found.map_err(|error| Unsupported::new(format!("the result does not run: {error}")))?;
        for (at, (wanted, found)) in wanted.iter().zip(&found).enumerate() {
            let largest = wanted.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
            let pairs = wanted.iter().zip(found);
            let difference = pairs.fold(0.0_f32, |most, (a, b)| worst(most, (a - b).abs()));
            let is_close = wanted.len() == found.len()
                && difference.is_finite()
                && difference <= self.tolerance * largest;
            if !is_close {
                let why = format!("its logits differ by {difference} of {largest} in step {at}");
                return Err(Unsupported::new(why).into());
            }
        }
        Ok(())
    }
}

struct Subject {
    session: LocalSession,
    vocabulary: i64,
}

impl Subject {
    fn load(path: &Path) -> Result<Self, GraphError> {
        let options = SessionOptions {
            name: "graph check".into(),
            intra_threads: 0,
            queue: 1,
        };
        let session = LocalSession::load(runtime(None)?, path, &options)?;
        let logits = session.outputs().iter().find(|port| &*port.name == "logits");
        let vocabulary = logits.and_then(|port| *port.dims.last()?);
        let vocabulary = vocabulary.and_then(|size| i64::try_from(size).ok()).unwrap_or(2);
        Ok(Self { session, vocabulary })
    }

    /// The last row of logits after each piece.
    fn logits(&mut self, pieces: &[usize], in_place: bool) -> Result<Vec<Vec<f32>>, GraphError> {
        let capacity = pieces.iter().sum::<usize>() + 3;
        let caches: Vec<Port> = self.ports("past_key_values.");
        let shape = |port: &Port, tokens: usize| -> [usize; 4] {
            let dim = |at: usize| port.dims.get(at).copied().flatten().unwrap_or(1);
            [1, dim(1), tokens, dim(3)]
        };
        let element = |port: &Port| port.element.unwrap_or(Element::F32);
        let mut buffers = Vec::new();
        let mut tensors = Vec::new();
        for port in &caches {
            if in_place {
                let len = shape(port, capacity).iter().product();
                buffers.push(Buffer::zeroed(element(port), len)?);
            } else {
                tensors.push(Tensor::empty(element(port), &shape(port, 0))?);
            }
        }
        let presents: Vec<Arc<str>> = caches
            .iter()
            .map(|port| port.name.replacen("past_key_values.", "present.", 1).into())
            .collect();
        let (mut begin, mut rows) = (0, Vec::new());
        for &new in pieces {
            let mut feeds = self.feeds(begin, new)?;
            let mut wanted: Vec<Arc<str>> = vec!["logits".into()];
            let mut views = Vec::new();
            if in_place {
                let names = caches.iter().zip(&presents).zip(&mut buffers);
                views.extend(names.map(|((port, present), buffer)| InPlace {
                    past: &port.name,
                    present,
                    buffer,
                    offset: 0,
                    shape: shape(port, capacity),
                }));
            } else {
                feeds.extend(
                    caches
                        .iter()
                        .map(|port| Arc::clone(&port.name))
                        .zip(tensors.drain(..)),
                );
                wanted.extend(presents.iter().cloned());
            }
            let mut outputs = self.session.run(&feeds, &mut views, &wanted)?;
            let logits = outputs.take("logits")?;
            let width = logits.shape().last().copied().unwrap_or(0);
            let values = logits.to_f32()?;
            rows.push(values[values.len() - width..].to_vec());
            if !in_place {
                let present = presents.iter().map(|name| outputs.take(name));
                tensors = present.collect::<Result<_, OrtError>>()?;
            }
            begin += new;
        }
        Ok(rows)
    }

    fn ports(&self, prefix: &str) -> Vec<Port> {
        let ports = self.session.inputs().iter();
        ports
            .filter(|port| port.name.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// Everything but the cache, for `new` tokens after `begin` cached ones.
    fn feeds(&self, begin: usize, new: usize) -> Result<Vec<(Arc<str>, Tensor)>, GraphError> {
        let mut feeds = Vec::new();
        let signed = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        for port in self.session.inputs() {
            let axes = port.dims.len();
            let tensor = match &*port.name {
                name if name.starts_with("past_key_values.") => continue,
                "input_ids" => {
                    let ids = (begin..begin + new).map(|at| (signed(at) * 7 + 3) % self.vocabulary);
                    Tensor::from_i64(&[1, new], ids.collect())?
                }
                "inputs_embeds" => {
                    let width = port.dims.last().copied().flatten().unwrap_or(1);
                    let values: Vec<f32> = (begin * width..(begin + new) * width).map(embedding).collect();
                    if port.element == Some(Element::F16) {
                        Tensor::from_f32_as_f16(&[1, new, width], &values)?
                    } else {
                        Tensor::from_f32(&[1, new, width], values)?
                    }
                }
                "attention_mask" => Tensor::from_i64(&[1, begin + new], vec![1; begin + new])?,
                "position_ids" => {
                    let leading = port.dims.first().copied().flatten().filter(|_| axes == 3);
                    let one = (begin..begin + new).map(signed);
                    let copies = leading.unwrap_or(1);
                    let values = std::iter::repeat_n(one, copies).flatten().collect();
                    let shape = [copies, 1, new];
                    Tensor::from_i64(&shape[usize::from(axes != 3)..], values)?
                }
                "num_logits_to_keep" => Tensor::from_i64(&vec![1; axes], vec![1])?,
                "use_cache_branch" => Tensor::from_bool(&[1], vec![begin > 0])?,
                OBSERVED_ROWS => Tensor::from_i64(&[], vec![signed(new)])?,
                other => {
                    let why = format!("its input {other} cannot be fed to compare it with the original");
                    return Err(Unsupported::new(why).into());
                }
            };
            feeds.push((Arc::clone(&port.name), tensor));
        }
        Ok(feeds)
    }
}

/// Numbers without order, the same every time, of the size of embeddings.
#[expect(clippy::cast_precision_loss, reason = "16 bits fit")]
fn embedding(at: usize) -> f32 {
    let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    (mixed as f32 / 65_536.0 - 0.5) * 2.0
}

/// The larger one; not a number is the largest of all.
fn worst(a: f32, b: f32) -> f32 {
    if b.is_nan() || b > a { b } else { a }
}
