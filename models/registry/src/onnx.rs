//! What a graph says about itself, read without its weights: inputs, outputs, operators, external data.
//!
//! The reader walks the protobuf of ONNX IR 3 to 13 and seeks over everything it does not want, so a graph with
//! gigabytes of weights inside costs a few milliseconds and no memory. Field numbers are those of `onnx.proto`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    path::Path,
};

use crate::{
    RegistryError,
    wire::{Reader, WireError},
};

/// Graphs inside attributes of graphs (branches of `If`) go no deeper than this.
const MAX_NESTING: usize = 16;
/// Longest name, operator or location that is believed.
const MAX_TEXT: u64 = 4096;

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the graph.
    pub name: String,
    /// `TensorProto.DataType`: 1 f32, 7 i64, 9 bool, 10 f16.
    pub elem_type: i32,
    /// Axes in order.
    pub dims: Vec<Dim>,
}

/// One axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Known size.
    Fixed(i64),
    /// Known when the graph runs; the name may be empty.
    Symbolic(String),
}

/// Where a tensor's data lies when it is not in the graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExternalFile {
    /// Tensors in it.
    pub tensors: usize,
    /// Bytes that the file must have at least.
    pub min_bytes: u64,
}

/// What [`GraphSummary::read`] keeps of a graph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphSummary {
    /// Inputs that are not initialisers, in order.
    pub inputs: Vec<Port>,
    /// Outputs in order.
    pub outputs: Vec<Port>,
    /// Operator types, those of nested graphs included.
    pub ops: BTreeSet<String>,
    /// External data files by their location, relative to the graph's folder.
    pub external: BTreeMap<String, ExternalFile>,
}

impl GraphSummary {
    /// Reads the summary of the graph at `path`.
    ///
    /// # Errors
    /// [`RegistryError::Corrupt`] when this is not an ONNX graph, [`RegistryError::Io`] when it cannot be read.
    pub fn read(path: &Path) -> Result<Self, RegistryError> {
        let file = File::open(path).map_err(RegistryError::io(path))?;
        let len = file.metadata().map_err(RegistryError::io(path))?.len();
        let mut found = Found::default();
        let mut reader = Reader::new(BufReader::new(file), len);
        let read = reader.fields(len, &mut |field, r, end| match field {
            7 => {
                found.graphs += 1;
                graph(r, end, &mut found, 0)
            }
            _ => r.skip(end),
        });
        match read {
            Ok(()) if found.graphs == 1 => {}
            Ok(()) => return Err(RegistryError::corrupt(path, "it holds no ONNX graph")),
            Err(WireError::Io(error)) => return Err(RegistryError::io(path)(error)),
            Err(error) => return Err(RegistryError::corrupt(path, error.to_string())),
        }
        let Found {
            mut summary,
            initializers,
            ..
        } = found;
        summary.inputs.retain(|port| !initializers.contains(&port.name));
        Ok(summary)
    }

    /// The input of that name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| port.name == name)
    }

    /// Whether activations are quantised while the graph runs: such a graph answers differently when the same
    /// prompt is prefilled in other chunks.
    #[must_use]
    pub fn is_dynamically_quantized(&self) -> bool {
        ["DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"]
            .iter()
            .any(|op| self.ops.contains(*op))
    }
}

#[derive(Default)]
struct Found {
    summary: GraphSummary,
    initializers: BTreeSet<String>,
    graphs: usize,
}

type Input<'a> = Reader<BufReader<File>>;

fn graph(r: &mut Input<'_>, end: u64, found: &mut Found, depth: usize) -> Result<(), WireError> {
    if depth > MAX_NESTING {
        return Err(WireError::Malformed("graphs are nested too deeply"));
    }
    r.fields(end, &mut |field, r, end| match field {
        1 => node(r, end, found, depth),
        5 => tensor(r, end, found, depth),
        11 | 12 if depth == 0 => {
            let port = port(r, end)?;
            let ports = if field == 11 {
                &mut found.summary.inputs
            } else {
                &mut found.summary.outputs
            };
            ports.push(port);
            Ok(())
        }
        _ => r.skip(end),
    })
}

fn node(r: &mut Input<'_>, end: u64, found: &mut Found, depth: usize) -> Result<(), WireError> {
    r.fields(end, &mut |field, r, end| match field {
        4 => {
            let op = r.text(end, MAX_TEXT)?;
            found.summary.ops.insert(op);
            Ok(())
        }
        5 => r.fields(end, &mut |field, r, end| match field {
            5 | 10 => tensor(r, end, found, depth + 1),
            6 | 11 => graph(r, end, found, depth + 1),
            _ => r.skip(end),
        }),
        _ => r.skip(end),
    })
}

fn tensor(r: &mut Input<'_>, end: u64, found: &mut Found, depth: usize) -> Result<(), WireError> {
    let mut entries = BTreeMap::new();
    r.fields(end, &mut |field, r, end| match field {
        8 if depth == 0 => {
            let name = r.text(end, MAX_TEXT)?;
            found.initializers.insert(name);
            Ok(())
        }
        13 => {
            let (mut key, mut value) = (String::new(), String::new());
            r.fields(end, &mut |field, r, end| {
                match field {
                    1 => key = r.text(end, MAX_TEXT)?,
                    2 => value = r.text(end, MAX_TEXT)?,
                    _ => r.skip(end)?,
                }
                Ok(())
            })?;
            entries.insert(key, value);
            Ok(())
        }
        _ => r.skip(end),
    })?;
    let Some(location) = entries.remove("location") else {
        return Ok(());
    };
    let number = |key: &str| {
        entries
            .get(key)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let file = found.summary.external.entry(location).or_default();
    file.tensors += 1;
    file.min_bytes = file
        .min_bytes
        .max(number("offset").saturating_add(number("length")));
    Ok(())
}

fn port(r: &mut Input<'_>, end: u64) -> Result<Port, WireError> {
    let mut port = Port {
        name: String::new(),
        elem_type: 0,
        dims: Vec::new(),
    };
    r.fields(end, &mut |field, r, end| match field {
        1 => {
            port.name = r.text(end, MAX_TEXT)?;
            Ok(())
        }
        // TypeProto, its tensor_type.
        2 => r.fields(end, &mut |field, r, end| match field {
            1 => tensor_type(r, end, &mut port),
            _ => r.skip(end),
        }),
        _ => r.skip(end),
    })?;
    Ok(port)
}

fn tensor_type(r: &mut Input<'_>, end: u64, port: &mut Port) -> Result<(), WireError> {
    r.fields(end, &mut |field, r, end| match field {
        1 => {
            port.elem_type = i32::try_from(r.varint()?).unwrap_or(0);
            Ok(())
        }
        // TensorShapeProto, its axes.
        2 => r.fields(end, &mut |field, r, end| match field {
            1 => {
                let mut dim = Dim::Symbolic(String::new());
                r.fields(end, &mut |field, r, end| {
                    match field {
                        1 => dim = Dim::Fixed(r.varint()?.cast_signed()),
                        2 => dim = Dim::Symbolic(r.text(end, MAX_TEXT)?),
                        _ => r.skip(end)?,
                    }
                    Ok(())
                })?;
                port.dims.push(dim);
                Ok(())
            }
            _ => r.skip(end),
        }),
        _ => r.skip(end),
    })
}
