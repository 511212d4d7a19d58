//! Where a decoder's attention is: its cache inputs, and the operators between them and the output.

use std::collections::VecDeque;

use super::{
    Unsupported,
    edit::Editor,
    proto::{Node, element},
};

const PAST: &str = "past_key_values.";
const PRESENT: &str = "present.";

/// One layer's cache.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    /// What stands between `past_key_values.` and `.key`.
    pub(crate) name: String,
    pub(crate) past: [String; 2],
    pub(crate) present: [String; 2],
    pub(crate) kv_heads: i64,
    pub(crate) dim: i64,
    /// Element type of the cache.
    pub(crate) element: i32,
}

/// Attention of one layer, written with plain operators.
#[derive(Debug)]
pub(crate) struct Plain {
    /// `[batch, heads, new, dim]`, positions applied.
    pub(crate) query: String,
    /// New keys and values, `[batch, kv_heads, new, dim]`.
    pub(crate) new: [String; 2],
    /// Scalars that scores are multiplied or divided by.
    pub(crate) scales: Vec<(Scale, String)>,
    /// What is added to the scores.
    pub(crate) biases: Vec<Bias>,
    /// `[batch, heads, new, dim]`.
    pub(crate) output: String,
    pub(crate) heads: i64,
}

/// How a scalar acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Multiply,
    Divide,
}

/// What hides keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Bias {
    /// A tensor to add.
    Add(String),
    /// Scores where the condition holds, this scalar elsewhere.
    Where { shown: String, other: String },
    /// This scalar where the condition holds, scores elsewhere.
    WhereNot { hidden: String, other: String },
}

/// The layers with keys and values, in the order of the inputs.
pub(crate) fn layers(editor: &Editor) -> Result<Vec<Layer>, Unsupported> {
    let keys = editor
        .graph
        .input
        .iter()
        .filter_map(|input| Some((input, input.name.strip_prefix(PAST)?.strip_suffix(".key")?)));
    let mut layers = Vec::new();
    for (input, name) in keys {
        let pair = |prefix: &str| [format!("{prefix}{name}.key"), format!("{prefix}{name}.value")];
        let (past, present) = (pair(PAST), pair(PRESENT));
        if !editor.has_input(&past[1]) || !present.iter().all(|name| is_output(editor, name)) {
            return Err(Unsupported::new(format!(
                "the cache of layer {name} is not complete"
            )));
        }
        let Some((element, dims)) = input.dims() else {
            return Err(Unsupported::new(format!("{} has no shape", input.name)));
        };
        let (&[_, Some(kv_heads), None, Some(dim)], element::FLOAT | element::FLOAT16) =
            (dims.as_slice(), element)
        else {
            return Err(Unsupported::new(format!(
                "{} is not [batch, heads, tokens, size] of floats",
                input.name
            )));
        };
        layers.push(Layer {
            name: name.to_owned(),
            past,
            present,
            kv_heads,
            dim,
            element,
        });
    }
    if layers.is_empty() {
        return Err(Unsupported::new("it has no inputs past_key_values.*.key"));
    }
    Ok(layers)
}

fn is_output(editor: &Editor, name: &str) -> bool {
    editor.graph.output.iter().any(|output| output.name == name)
}

/// The fused node that reads a layer's cache.
pub(crate) fn fused<'e>(editor: &'e Editor, layer: &Layer) -> Option<&'e Node> {
    let readers = editor.consumers(&layer.past[0]);
    readers
        .into_iter()
        .find(|node| node.op_type == "GroupQueryAttention" && node.arg(3) == Some(&layer.past[0]))
}

/// Tensors that are the past itself under another name.
pub(crate) fn aliases(editor: &Editor, past: &str) -> Vec<String> {
    let (mut found, mut at) = (vec![past.to_owned()], 0);
    while at < found.len() {
        let same = editor
            .consumers(&found[at])
            .into_iter()
            .filter(|node| node.op_type == "Identity" || (node.op_type == "Concat" && node.input.len() == 1));
        let names: Vec<_> = same.map(|node| node.output[0].clone()).collect();
        found.extend(names);
        at += 1;
    }
    found
}

/// Reads the attention of `layer` off its plain operators.
pub(crate) fn plain(editor: &Editor, layer: &Layer) -> Result<Plain, Unsupported> {
    let new = [0, 1].map(|part| appended(editor, &layer.past[part], &layer.present[part]));
    let [key, value] = new;
    let (new_key, new_value) = (key?, value?);
    let mut keys = Chain::from(editor, &layer.present[0], "keys")?;
    let values = Chain::from(editor, &layer.present[1], "values")?;
    if !values.scales.is_empty() {
        return Err(Unsupported::new("values are scaled before they are mixed"));
    }
    let scores = keys.product.clone();
    let query = scores.input[0].clone();
    let mut walk = Scores::default();
    let output = walk.follow(editor, &scores.output[0], &values.product)?;
    let mut scales = std::mem::take(&mut keys.scales);
    scales.append(&mut walk.scales);
    let heads = width_of_projection(editor, &output).map(|width| width / layer.dim);
    let Some(heads) = heads.filter(|&heads| heads > 0 && heads % layer.kv_heads == 0) else {
        return Err(Unsupported::new(
            "the number of attention heads cannot be read off the output projection",
        ));
    };
    Ok(Plain {
        query,
        new: [new_key, new_value],
        scales,
        biases: walk.biases,
        output,
        heads,
    })
}

/// What is appended to the cache: the second input of the `Concat` that makes `present`.
fn appended(editor: &Editor, past: &str, present: &str) -> Result<String, Unsupported> {
    let odd = || Unsupported::new(format!("{present} is not the past with new rows appended"));
    let node = editor.producer(present).ok_or_else(odd)?;
    let axis = node.int("axis");
    let pair = node.op_type == "Concat" && node.input.len() == 2 && matches!(axis, Some(2 | -2));
    if pair && aliases(editor, past).contains(&node.input[0]) {
        Ok(node.input[1].clone())
    } else {
        Err(odd())
    }
}

/// From the cache to the one product that reads it.
struct Chain {
    product: Node,
    scales: Vec<(Scale, String)>,
}

impl Chain {
    fn from(editor: &Editor, present: &str, what: &str) -> Result<Self, Unsupported> {
        let mut queue = VecDeque::from([present.to_owned()]);
        let (mut products, mut scales) = (Vec::new(), Vec::new());
        while let Some(tensor) = queue.pop_front() {
            for node in editor.consumers(&tensor) {
                match node.op_type.as_str() {
                    "Shape" => {}
                    "Unsqueeze" | "Expand" | "Reshape" | "Transpose" | "Identity" | "Cast"
                        if node.input[0] == tensor =>
                    {
                        queue.push_back(node.output[0].clone());
                    }
                    "Mul" | "Div" => {
                        scales.push(scaled(editor, node, &tensor)?);
                        queue.push_back(node.output[0].clone());
                    }
                    "MatMul" if node.input[1] == tensor => products.push(node.clone()),
                    other => return Err(Unsupported::new(format!("its cached {what} are read by {other}"))),
                }
            }
        }
        match <[Node; 1]>::try_from(products) {
            Ok([product]) => Ok(Self { product, scales }),
            Err(products) => Err(Unsupported::new(format!(
                "its cached {what} are multiplied {} times",
                products.len()
            ))),
        }
    }
}

#[derive(Default)]
struct Scores {
    scales: Vec<(Scale, String)>,
    biases: Vec<Bias>,
}

impl Scores {
    /// Follows the scores to the product with the values; returns its output.
    fn follow(&mut self, editor: &Editor, scores: &str, mix: &Node) -> Result<String, Unsupported> {
        let (mut tensor, mut is_softmax) = (scores.to_owned(), false);
        loop {
            let readers = editor.consumers(&tensor);
            let readers: Vec<_> = readers
                .into_iter()
                .filter(|node| node.op_type != "IsNaN")
                .collect();
            let [node] = readers.as_slice() else {
                return Err(Unsupported::new(format!(
                    "its scores are read by {} nodes",
                    readers.len()
                )));
            };
            match (node.op_type.as_str(), is_softmax) {
                ("Cast" | "Identity", _) => {}
                ("Mul" | "Div", false) => self.scales.push(scaled(editor, node, &tensor)?),
                // A bias that is added before a later scale would be scaled with it: no published graph does so.
                ("Add", false) if scales_come_first(editor, node) => {
                    self.biases.push(Bias::Add(other(node, &tensor)));
                }
                ("Where", false) => self.biases.push(hidden(editor, node, &tensor)?),
                ("Softmax", false) if matches!(node.int("axis"), Some(-1 | 3) | None) => is_softmax = true,
                // Not-a-number, where a row sees nothing, becomes zero: fused attention gives zero at once.
                ("Where", true) if node.input[2] == tensor => {}
                ("MatMul", true) if *node == mix && node.input[0] == tensor => {
                    return Ok(node.output[0].clone());
                }
                (other, _) => return Err(Unsupported::new(format!("its scores go through {other}"))),
            }
            tensor.clone_from(&node.output[0]);
        }
    }
}

fn scales_come_first(editor: &Editor, add: &Node) -> bool {
    let next = editor.consumers(&add.output[0]);
    !next
        .iter()
        .any(|node| matches!(node.op_type.as_str(), "Mul" | "Div"))
}

fn other(node: &Node, tensor: &str) -> String {
    let at = usize::from(node.input[0] == tensor);
    node.input[at].clone()
}

fn scaled(editor: &Editor, node: &Node, tensor: &str) -> Result<(Scale, String), Unsupported> {
    let scalar = other(node, tensor);
    let scale = match node.op_type.as_str() {
        "Mul" => Scale::Multiply,
        _ if node.input[0] == tensor => Scale::Divide,
        _ => return Err(Unsupported::new("its scores divide a number")),
    };
    if is_scalar(editor, &scalar, 8) {
        Ok((scale, scalar))
    } else {
        Err(Unsupported::new("its scores are scaled by more than one number"))
    }
}

fn hidden(editor: &Editor, node: &Node, tensor: &str) -> Result<Bias, Unsupported> {
    let [condition, yes, no] = node.input.as_slice() else {
        return Err(Unsupported::new("a Where has not three inputs"));
    };
    let number = if yes == tensor { no } else { yes };
    if condition == tensor || !is_scalar(editor, number, 8) {
        return Err(Unsupported::new(
            "its scores are replaced by more than one number",
        ));
    }
    let (condition, other) = (condition.clone(), number.clone());
    Ok(if yes == tensor {
        Bias::Where {
            shown: condition,
            other,
        }
    } else {
        Bias::WhereNot {
            hidden: condition,
            other,
        }
    })
}

/// Whether a tensor holds one number whatever is fed: a constant, or arithmetic on the size of an axis.
fn is_scalar(editor: &Editor, tensor: &str, depth: usize) -> bool {
    if let Some(constant) = editor.constant(tensor) {
        return constant.len() == 1;
    }
    let Some(node) = editor.producer(tensor).filter(|_| depth > 0) else {
        return false;
    };
    match node.op_type.as_str() {
        "Sqrt" | "Cast" | "Reciprocal" | "Identity" | "Squeeze" | "Unsqueeze" => {
            is_scalar(editor, &node.input[0], depth - 1)
        }
        "Mul" | "Div" | "Pow" => node.input.iter().all(|input| is_scalar(editor, input, depth - 1)),
        // One entry of a shape.
        "Gather" => is_shape(editor, &node.input[0]) && is_scalar(editor, &node.input[1], depth - 1),
        "Slice" => is_shape(editor, &node.input[0]),
        _ => false,
    }
}

fn is_shape(editor: &Editor, tensor: &str) -> bool {
    editor
        .producer(tensor)
        .is_some_and(|node| node.op_type == "Shape")
}

/// Rows of the weight that the attention's output meets first: heads times their size.
fn width_of_projection(editor: &Editor, output: &str) -> Option<i64> {
    let mut tensor = output.to_owned();
    for _ in 0..8 {
        let readers = editor.consumers(&tensor);
        let node = readers.into_iter().find(|node| node.op_type != "Shape")?;
        match node.op_type.as_str() {
            "Transpose" | "Reshape" | "Cast" | "Identity" => tensor.clone_from(&node.output[0]),
            "MatMul" => return editor.constant(&node.input[1])?.dims.first().copied(),
            "MatMulNBits" => return node.int("K"),
            "Gemm" => {
                let transposed = node.int("transB").unwrap_or(0) != 0;
                return editor
                    .constant(&node.input[1])?
                    .dims
                    .get(usize::from(transposed))
                    .copied();
            }
            _ => return None,
        }
    }
    None
}
