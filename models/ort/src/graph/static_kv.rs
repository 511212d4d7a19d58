//! A cache of fixed capacity that is written in place, instead of one that is copied to grow.
//!
//! Attention that appends to its cache by `Concat` copies all of it at every token. `GroupQueryAttention` takes past and
//! present in one buffer and writes only the new rows, so the attention of each layer becomes that operator. Positions
//! stay where the graph applies them, outside of it. Everything that asked for the length of the cache is told what it
//! would have been.

use std::collections::HashMap;

use super::{
    Unsupported,
    attention::{Bias, Layer, Plain, Scale, aliases, fused, layers, plain},
    edit::{CONTRIB, Editor, Value},
    proto::{DimValue, Node, ValueInfo, element},
    sizes::Sizes,
};

/// Rewrites every layer, or says why not. Gives how many were not like that already.
pub(crate) fn convert(editor: &mut Editor) -> Result<usize, Unsupported> {
    let layers = layers(editor)?;
    let mut inputs = editor.graph.input.iter().map(|input| &input.name);
    if let Some(state) =
        inputs.find(|name| name.starts_with("past_") && !name.starts_with("past_key_values."))
    {
        return Err(Unsupported::new(format!(
            "its state {state} is not keys and values"
        )));
    }
    let mut found = Vec::new();
    for layer in layers {
        if fused(editor, &layer).is_some() {
            in_place(editor, &layer)?;
        } else {
            let attention = plain(editor, &layer)
                .map_err(|error| Unsupported::new(format!("in layer {}, {}", layer.name, error.why)))?;
            found.push((layer, attention));
        }
    }
    let count = found.len();
    if count > 0 {
        let mut pass = Pass {
            sizes: Sizes::new(editor)?,
            lengths: None,
            biases: HashMap::new(),
        };
        for (layer, _) in &found {
            pass.shapes(editor, layer)?;
        }
        for (layer, attention) in &found {
            pass.rewrite(editor, layer, attention);
        }
        editor.index();
    }
    Ok(count)
}

/// A fused layer writes in place unless somebody else looks at its cache.
fn in_place(editor: &Editor, layer: &Layer) -> Result<(), Unsupported> {
    for tensor in layer.past.iter().chain(&layer.present) {
        let strange = editor
            .consumers(tensor)
            .into_iter()
            .find(|node| node.op_type != "GroupQueryAttention");
        if let Some(node) = strange {
            return Err(Unsupported::new(format!("{tensor} is read by {}", node.op_type)));
        }
    }
    Ok(())
}

struct Pass {
    sizes: Sizes,
    lengths: Option<[String; 2]>,
    biases: HashMap<Vec<Bias>, String>,
}

impl Pass {
    /// Replaces every `Shape` of a cache by the shape that a growing cache would have.
    fn shapes(&self, editor: &mut Editor, layer: &Layer) -> Result<(), Unsupported> {
        let sizes = &self.sizes;
        for (past, present) in layer.past.iter().zip(&layer.present) {
            for alias in aliases(editor, past) {
                for node in editor.consumers(&alias) {
                    let passes = matches!(node.op_type.as_str(), "Shape" | "Concat" | "Identity");
                    if !passes {
                        return Err(Unsupported::new(format!("{past} is read by {}", node.op_type)));
                    }
                }
                if is_measured(editor, &alias) {
                    let cached = editor.op("Sub", &[&sizes.total, &sizes.new], &[]);
                    let shape = self.cache_shape(editor, layer, &cached);
                    measure(editor, &alias, &shape);
                }
            }
            self.virtual_shapes(editor, layer, present)?;
        }
        Ok(())
    }

    /// The same for what is only another form of the present cache: heads repeated, axes swapped.
    fn virtual_shapes(&self, editor: &mut Editor, layer: &Layer, present: &str) -> Result<(), Unsupported> {
        let mut forms = vec![(
            present.to_owned(),
            self.cache_shape(editor, layer, &self.sizes.total),
        )];
        while let Some((tensor, shape)) = forms.pop() {
            let readers: Vec<_> = editor.consumers(&tensor).into_iter().cloned().collect();
            for node in readers {
                let output = node.output[0].clone();
                let next = match node.op_type.as_str() {
                    "Identity" | "Cast" | "Mul" | "Div" => shape.clone(),
                    "Transpose" => {
                        let perm = node.ints("perm").unwrap_or_default().to_vec();
                        let perm = editor.ints(&perm);
                        editor.op("Gather", &[&shape, &perm], &[])
                    }
                    // An inserted axis and its repetition only matter through the reshape that follows.
                    "Unsqueeze" | "Expand" => {
                        if is_measured(editor, &output) {
                            return Err(Unsupported::new("the size of repeated heads is asked for"));
                        }
                        shape.clone()
                    }
                    "Reshape" => node.input[1].clone(),
                    _ => continue,
                };
                forms.push((output, next));
            }
            if is_measured(editor, &tensor) {
                measure(editor, &tensor, &shape);
            }
        }
        Ok(())
    }

    fn cache_shape(&self, editor: &mut Editor, layer: &Layer, tokens: &str) -> String {
        let (heads, dim) = (editor.ints(&[layer.kv_heads]), editor.ints(&[layer.dim]));
        let axis = [("axis", Value::Int(0))];
        editor.op("Concat", &[&self.sizes.batch, &heads, tokens, &dim], &axis)
    }

    fn rewrite(&mut self, editor: &mut Editor, layer: &Layer, attention: &Plain) {
        let mut query = attention.query.clone();
        for (scale, scalar) in &attention.scales {
            let op = if *scale == Scale::Multiply { "Mul" } else { "Div" };
            query = editor.op(op, &[&query, scalar], &[]);
        }
        let query = packed(editor, &query, attention.heads * layer.dim);
        let [key, value] =
            [0, 1].map(|part| packed(editor, &attention.new[part], layer.kv_heads * layer.dim));
        let bias = self.bias(editor, layer, &attention.biases);
        let [last, total] = self
            .lengths
            .get_or_insert_with(|| self.sizes.lengths(editor))
            .clone();
        for present in &layer.present {
            editor.remove_producer(present);
        }
        editor.remove_producer(&attention.output);
        let mixed = editor.name("attention");
        let [past_key, past_value] = &layer.past;
        let mut inputs = vec![&*query, &*key, &*value, past_key, past_value, &*last, &*total];
        if let Some(bias) = &bias {
            inputs.extend(["", "", "", bias]);
        }
        let attributes = [
            ("num_heads", Value::Int(attention.heads)),
            ("kv_num_heads", Value::Int(layer.kv_heads)),
            ("do_rotary", Value::Int(0)),
            ("scale", Value::Float(1.0)),
        ];
        let outputs = [&*mixed, &*layer.present[0], &*layer.present[1]];
        editor.emit(CONTRIB, "GroupQueryAttention", &inputs, &outputs, &attributes);
        let split = editor.ints(&[0, 0, attention.heads, layer.dim]);
        let split = editor.op("Reshape", &[&mixed, &split], &[]);
        let perm = [("perm", Value::Ints(&[0, 2, 1, 3]))];
        editor.emit("", "Transpose", &[&split], &[&attention.output], &perm);
    }

    /// All biases as one tensor `[1, 1, new, total]`; layers share it.
    fn bias(&mut self, editor: &mut Editor, layer: &Layer, biases: &[Bias]) -> Option<String> {
        if biases.is_empty() {
            return None;
        }
        if let Some(made) = self.biases.get(biases) {
            return Some(made.clone());
        }
        let zero = editor.float(0.0);
        let as_cache = [("to", Value::Int(i64::from(layer.element)))];
        let mut sum: Option<String> = None;
        for bias in biases {
            let zero = editor.op("Cast", &[&zero], &as_cache);
            let term = match bias {
                Bias::Add(tensor) => tensor.clone(),
                Bias::Where { shown, other } => {
                    let other = editor.op("Cast", &[other], &as_cache);
                    editor.op("Where", &[shown, &zero, &other], &[])
                }
                Bias::WhereNot { hidden, other } => {
                    let other = editor.op("Cast", &[other], &as_cache);
                    editor.op("Where", &[hidden, &other, &zero], &[])
                }
            };
            sum = Some(match sum {
                Some(sum) => editor.op("Add", &[&sum, &term], &[]),
                None => term,
            });
        }
        let one = editor.ints(&[1]);
        let axis = [("axis", Value::Int(0))];
        let shape = editor.op("Concat", &[&one, &one, &self.sizes.new, &self.sizes.total], &axis);
        let wide = editor.op("Expand", &[&sum?, &shape], &[]);
        let wide = editor.op("Cast", &[&wide], &as_cache);
        self.biases.insert(biases.to_vec(), wide.clone());
        Some(wide)
    }
}

/// `[batch, heads, new, dim]` as `[batch, new, heads * dim]`.
fn packed(editor: &mut Editor, tensor: &str, width: i64) -> String {
    let swapped = editor.op("Transpose", &[tensor], &[("perm", Value::Ints(&[0, 2, 1, 3]))]);
    let shape = editor.ints(&[0, 0, width]);
    editor.op("Reshape", &[&swapped, &shape], &[])
}

fn is_measured(editor: &Editor, tensor: &str) -> bool {
    editor
        .consumers(tensor)
        .iter()
        .any(|node| node.op_type == "Shape")
}

/// Every `Shape` of `tensor` gives `shape` instead.
fn measure(editor: &mut Editor, tensor: &str, shape: &str) {
    let nodes = editor
        .consumers(tensor)
        .into_iter()
        .filter(|node| node.op_type == "Shape");
    let nodes: Vec<_> = nodes.cloned().collect();
    for node in nodes {
        let (start, end) = (node.int("start").unwrap_or(0), node.int("end"));
        let part = if start == 0 && end.is_none() {
            shape.to_owned()
        } else {
            let (start, end) = (editor.ints(&[start]), editor.ints(&[end.unwrap_or(i64::MAX)]));
            editor.op("Slice", &[shape, &start, &end], &[])
        };
        editor.redirect(&node.output[0], &part);
    }
}

/// The input that positions come from.
const POSITIONS: &str = "position_ids";

/// Applies positions before the attention and not inside it, from an input `position_ids`.
///
/// Inside, they are counted from the length of the cache, and a cache from which tokens were dropped would shift them.
/// Returns how many layers changed.
pub(crate) fn explicit_positions(editor: &mut Editor) -> Result<usize, Unsupported> {
    let rotary =
        |node: &Node| node.op_type == "GroupQueryAttention" && node.int("do_rotary").unwrap_or(0) != 0;
    let nodes: Vec<usize> = (0..editor.graph.node.len())
        .filter(|&at| rotary(&editor.graph.node[at]))
        .collect();
    if nodes.is_empty() {
        return Ok(0);
    }
    for &at in &nodes {
        rotate_before(editor, at)?;
    }
    if !editor.has_input(POSITIONS) {
        let axis = |name: &str| DimValue::Name(name.to_owned());
        let dims = [axis("batch_size"), axis("sequence_length")];
        let input = ValueInfo::tensor(POSITIONS, element::INT64, &dims);
        editor.graph.input.push(input);
    }
    editor.index();
    Ok(nodes.len())
}

fn rotate_before(editor: &mut Editor, at: usize) -> Result<(), Unsupported> {
    let node = editor.graph.node[at].clone();
    let [Some(cos), Some(sin)] = [7, 8].map(|input| node.arg(input).map(str::to_owned)) else {
        return Err(Unsupported::new("rotary attention has no cos and sin caches"));
    };
    let heads = ["num_heads", "kv_num_heads"].map(|name| node.int(name).unwrap_or(0));
    let past = editor
        .graph
        .input
        .iter()
        .find(|input| Some(input.name.as_str()) == node.arg(3));
    let dim = past.and_then(|input| input.dims()?.1.get(3).copied()?);
    let rotated = editor.constant(&cos).and_then(|cache| cache.dims.get(1).copied());
    let (Some(dim), Some(rotated)) = (dim, rotated.map(|half| half * 2)) else {
        return Err(Unsupported::new(
            "the size of a head cannot be read off the graph",
        ));
    };
    let mut parts = match (node.arg(1), node.arg(2)) {
        (Some(key), Some(value)) => [node.input[0].clone(), key.to_owned(), value.to_owned()],
        _ => unpacked(editor, &node.input[0], heads, dim),
    };
    let positions = node.arg(9).unwrap_or(POSITIONS).to_owned();
    let interleaved = node.int("rotary_interleaved").unwrap_or(0);
    for (part, heads) in parts.iter_mut().zip(heads) {
        let mut attributes = vec![("interleaved", Value::Int(interleaved))];
        if rotated != dim {
            attributes.extend([
                ("rotary_embedding_dim", Value::Int(rotated)),
                ("num_heads", Value::Int(heads)),
            ]);
        }
        let output = editor.name("RotaryEmbedding");
        let inputs = [&**part, &*positions, &*cos, &*sin];
        editor.emit(CONTRIB, "RotaryEmbedding", &inputs, &[&output], &attributes);
        *part = output;
    }
    let node = &mut editor.graph.node[at];
    for (input, part) in node.input.iter_mut().zip(parts) {
        *input = part;
    }
    for input in node.input.iter_mut().skip(7).take(3) {
        input.clear();
    }
    node.set_int("do_rotary", 0);
    Ok(())
}

/// Queries, keys and values that come as one tensor.
fn unpacked(editor: &mut Editor, tensor: &str, [heads, kv_heads]: [i64; 2], dim: i64) -> [String; 3] {
    let sizes = editor.ints(&[heads * dim, kv_heads * dim, kv_heads * dim]);
    let names = [(); 3].map(|()| editor.name("Split"));
    let outputs = [&*names[0], &*names[1], &*names[2]];
    editor.emit(
        "",
        "Split",
        &[tensor, &sizes],
        &outputs,
        &[("axis", Value::Int(-1))],
    );
    names
}
