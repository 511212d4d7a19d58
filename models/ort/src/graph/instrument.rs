//! Outputs that say what a decoder did: the states its head reads, and how the last rows looked at the cache.
//!
//! Method: graph level L1, weights as they are. The attention mass is computed beside the attention operator, from its
//! own inputs and with the same mask, because its optional output of probabilities does not exist on every device.

use super::{
    Unsupported,
    attention::{Layer, fused, layers},
    edit::{Editor, Value},
    proto::{DimValue, Node, ValueInfo, element},
    sizes::Sizes,
};

/// Input: how many of the last rows are observed; none when 0.
pub const OBSERVED_ROWS: &str = "obs_rows";
/// Input: how many of the last rows get logits; all when 0.
pub const KEPT_ROWS: &str = "num_logits_to_keep";
/// Output: the states that the head reads, `[batch, kept, hidden]`.
pub const HIDDEN_LAST: &str = "hidden_last";

/// Which outputs to add. Those that the graph already has stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Instrument {
    /// `kv_mass.{layer}`, `[batch, kv_heads, total]` in 32 bits: the softmax mass that the observed rows put on each
    /// key, summed over rows and averaged over the heads of a group.
    pub kv_mass: bool,
    /// `q_obs.{layer}`, `[batch, heads, rows, dim]`: the observed queries with their positions applied.
    pub queries: bool,
    /// `hidden_last` and `num_logits_to_keep`.
    pub hidden: bool,
}

pub(crate) fn instrument(editor: &mut Editor, wanted: Instrument) -> Result<(), Unsupported> {
    if wanted.hidden {
        head(editor)?;
    }
    if !wanted.kv_mass && !wanted.queries {
        return Ok(());
    }
    let layers = layers(editor)?;
    let mut watch = Watch::new(editor)?;
    for layer in &layers {
        let Some(node) = fused(editor, layer).cloned() else {
            return Err(Unsupported::new(format!(
                "the attention of layer {} is not GroupQueryAttention",
                layer.name
            )));
        };
        let problem = ["smooth_softmax", "qk_output"]
            .into_iter()
            .find(|name| node.int(name).unwrap_or(0) != 0);
        if let Some(problem) = problem.filter(|name| *name == "smooth_softmax") {
            return Err(Unsupported::new(format!("its attention uses {problem}")));
        }
        if node.int("do_rotary").unwrap_or(0) != 0 {
            return Err(Unsupported::new("its attention applies positions inside"));
        }
        let queries = watch.queries(editor, layer, &node)?;
        if wanted.queries {
            publish_queries(editor, layer, &node, &queries);
        }
        if wanted.kv_mass {
            watch.mass(editor, layer, &node, &queries);
        }
    }
    editor.index();
    Ok(())
}

/// Cuts the states before the head to the last rows, and shows them.
fn head(editor: &mut Editor) -> Result<(), Unsupported> {
    let mut tensor = "logits".to_owned();
    let node = loop {
        let Some(node) = editor.producer(&tensor) else {
            return Err(Unsupported::new("it has no output logits that a product makes"));
        };
        match node.op_type.as_str() {
            "MatMul" | "MatMulNBits" | "Gemm" => break node.clone(),
            "Cast" | "Identity" | "Mul" | "Div" | "Tanh" | "Reshape" | "Add" => {
                tensor.clone_from(&node.input[0]);
            }
            other => return Err(Unsupported::new(format!("its logits come from {other}"))),
        }
    };
    let width = width(editor, &node)?;
    let mut states = node.input[0].clone();
    let is_cut = editor.has_input(KEPT_ROWS);
    if !is_cut {
        let scalar = ValueInfo::tensor(KEPT_ROWS, element::INT64, &[]);
        editor.graph.input.push(scalar);
        let shape = editor.ints(&[1]);
        let from = editor.op("Neg", &[KEPT_ROWS], &[]);
        let from = editor.op("Reshape", &[&from, &shape], &[]);
        let end = editor.ints(&[i64::MAX]);
        let axis = editor.ints(&[1]);
        states = editor.op("Slice", &[&states, &from, &end, &axis], &[]);
        let product = editor
            .graph
            .node
            .iter_mut()
            .find(|found| found.output == node.output);
        if let Some(product) = product {
            product.input[0].clone_from(&states);
        }
        for output in editor
            .graph
            .output
            .iter_mut()
            .filter(|output| output.name == "logits")
        {
            let Some((element, dims)) = output.dims() else {
                continue;
            };
            let last = dims
                .last()
                .copied()
                .flatten()
                .map_or_else(|| symbol("vocabulary"), DimValue::Size);
            *output = ValueInfo::tensor(
                "logits",
                element,
                &[symbol("batch_size"), symbol(KEPT_ROWS), last],
            );
        }
    }
    if !editor
        .graph
        .output
        .iter()
        .any(|output| output.name == HIDDEN_LAST)
    {
        let to = [("to", Value::Int(i64::from(element::FLOAT)))];
        editor.emit("", "Cast", &[&states], &[HIDDEN_LAST], &to);
        let dims = [symbol("batch_size"), symbol(KEPT_ROWS), DimValue::Size(width)];
        editor
            .graph
            .output
            .push(ValueInfo::tensor(HIDDEN_LAST, element::FLOAT, &dims));
    }
    editor.index();
    Ok(())
}

/// What the head reads per row.
fn width(editor: &Editor, head: &Node) -> Result<i64, Unsupported> {
    let weight = || editor.constant(head.arg(1)?);
    let width = match head.op_type.as_str() {
        "MatMulNBits" => head.int("K"),
        "Gemm" if head.int("transB").unwrap_or(0) != 0 => {
            weight().and_then(|weight| weight.dims.get(1).copied())
        }
        // A head that shares the embedding reads it through a Transpose.
        _ => weight()
            .and_then(|weight| weight.dims.first().copied())
            .or_else(|| {
                let transpose = editor
                    .producer(head.arg(1)?)
                    .filter(|node| node.op_type == "Transpose")?;
                editor.constant(transpose.arg(0)?)?.dims.get(1).copied()
            }),
    };
    width.ok_or_else(|| Unsupported::new("the width of its states cannot be read off the graph"))
}

fn symbol(name: &str) -> DimValue {
    DimValue::Name(name.to_owned())
}

/// What all layers share.
struct Watch {
    sizes: Sizes,
    /// First observed row.
    from: String,
    /// `[rows, 1]`: position of each observed row; `[total]`: of each key.
    row_positions: String,
    key_positions: String,
    lowest: String,
    masks: Vec<((i64, Option<String>), String)>,
}

impl Watch {
    fn new(editor: &mut Editor) -> Result<Self, Unsupported> {
        let sizes = Sizes::new(editor)?;
        if !editor.has_input(OBSERVED_ROWS) {
            editor
                .graph
                .input
                .push(ValueInfo::tensor(OBSERVED_ROWS, element::INT64, &[]));
        }
        let one = editor.ints(&[1]);
        let rows = editor.op("Reshape", &[OBSERVED_ROWS, &one], &[]);
        let rows = editor.op("Min", &[&rows, &sizes.new], &[]);
        let from = editor.op("Sub", &[&sizes.new, &rows], &[]);
        let (scalar, zero, step) = (editor.ints(&[]), editor.int(0), editor.int(1));
        let total = editor.op("Reshape", &[&sizes.total, &scalar], &[]);
        let first = editor.op("Sub", &[&sizes.total, &rows], &[]);
        let first = editor.op("Reshape", &[&first, &scalar], &[]);
        let row_positions = editor.op("Range", &[&first, &total, &step], &[]);
        let key_positions = editor.op("Range", &[&zero, &total, &step], &[]);
        let row_positions = editor.op("Unsqueeze", &[&row_positions, &one], &[]);
        Ok(Self {
            sizes,
            from,
            row_positions,
            key_positions,
            // Twice this is still a number.
            lowest: editor.float(-1e30),
            masks: Vec::new(),
        })
    }

    /// `[batch, rows, heads * dim]`: the observed queries.
    fn queries(&self, editor: &mut Editor, layer: &Layer, node: &Node) -> Result<String, Unsupported> {
        let axis = editor.ints(&[1]);
        let mut query = node.input[0].clone();
        if node.arg(1).is_none() {
            let Some(heads) = node.int("num_heads") else {
                return Err(Unsupported::new(
                    "its attention does not say how many heads it has",
                ));
            };
            let (zero, end, last) = (
                editor.ints(&[0]),
                editor.ints(&[heads * layer.dim]),
                editor.ints(&[2]),
            );
            query = editor.op("Slice", &[&query, &zero, &end, &last], &[]);
        }
        Ok(editor.op("Slice", &[&query, &self.from, &self.sizes.new, &axis], &[]))
    }

    fn mass(&mut self, editor: &mut Editor, layer: &Layer, node: &Node, queries: &str) {
        let heads = node.int("num_heads").unwrap_or(layer.kv_heads);
        let group = heads / layer.kv_heads;
        let to = [("to", Value::Int(i64::from(element::FLOAT)))];
        // [batch, rows, kv_heads, group, dim] -> [batch, kv_heads, group, rows, dim].
        let split = editor.ints(&[0, 0, layer.kv_heads, group, layer.dim]);
        let query = editor.op("Reshape", &[queries, &split], &[]);
        let query = editor.op("Transpose", &[&query], &[("perm", Value::Ints(&[0, 2, 3, 1, 4]))]);
        let query = editor.op("Cast", &[&query], &to);
        // The buffer may be longer than what is in it.
        let (zero, two) = (editor.ints(&[0]), editor.ints(&[2]));
        let keys = editor.op("Slice", &[&layer.present[0], &zero, &self.sizes.total, &two], &[]);
        let keys = editor.op("Cast", &[&keys], &to);
        let keys = editor.op("Transpose", &[&keys], &[("perm", Value::Ints(&[0, 1, 3, 2]))]);
        let keys = editor.op("Unsqueeze", &[&keys, &two], &[]);
        let mut scores = editor.op("MatMul", &[&query, &keys], &[]);
        let scale = node.float("scale").filter(|scale| *scale != 0.0);
        #[expect(clippy::cast_precision_loss, reason = "the size of a head is a small number")]
        let scale = scale.unwrap_or_else(|| 1.0 / (layer.dim as f32).sqrt());
        let scale = editor.float(scale);
        scores = editor.op("Mul", &[&scores, &scale], &[]);
        if let Some(cap) = node.float("softcap").filter(|cap| *cap != 0.0) {
            let cap = editor.float(cap);
            let small = editor.op("Div", &[&scores, &cap], &[]);
            let flat = editor.op("Tanh", &[&small], &[]);
            scores = editor.op("Mul", &[&flat, &cap], &[]);
        }
        let mask = self.mask(editor, node);
        let scores = editor.op("Add", &[&scores, &mask], &[]);
        let weights = editor.op("Softmax", &[&scores], &[("axis", Value::Int(-1))]);
        let axes = editor.ints(&[2, 3]);
        let sum = editor.op("ReduceSum", &[&weights, &axes], &[("keepdims", Value::Int(0))]);
        #[expect(clippy::cast_precision_loss, reason = "the heads of a group are few")]
        let share = editor.float(1.0 / group as f32);
        let name = format!("kv_mass.{}", layer.name);
        editor.emit("", "Mul", &[&sum, &share], &[&name], &[]);
        let dims = [
            symbol("batch_size"),
            DimValue::Size(layer.kv_heads),
            symbol("total_sequence_length"),
        ];
        editor
            .graph
            .output
            .push(ValueInfo::tensor(&name, element::FLOAT, &dims));
    }

    /// What hides keys from the observed rows, `[batch, 1, 1, rows, total]`.
    fn mask(&mut self, editor: &mut Editor, node: &Node) -> String {
        let window = node.int("local_window_size").unwrap_or(-1);
        let bias = node.arg(10).map(str::to_owned);
        let key = (window, bias.clone());
        if let Some((_, made)) = self.masks.iter().find(|(found, _)| *found == key) {
            return made.clone();
        }
        let mut hidden = editor.op("Greater", &[&self.key_positions, &self.row_positions], &[]);
        if window > 0 {
            let window = editor.int(window);
            let oldest = editor.op("Sub", &[&self.row_positions, &window], &[]);
            let gone = editor.op("LessOrEqual", &[&self.key_positions, &oldest], &[]);
            hidden = editor.op("Or", &[&hidden, &gone], &[]);
        }
        let zero = editor.float(0.0);
        let mut mask = editor.op("Where", &[&hidden, &self.lowest, &zero], &[]);
        if let Some(bias) = bias {
            let (axis, one) = (editor.ints(&[2]), editor.ints(&[1]));
            let bias = editor.op("Slice", &[&bias, &self.from, &self.sizes.new, &axis], &[]);
            let to = [("to", Value::Int(i64::from(element::FLOAT)))];
            let bias = editor.op("Cast", &[&bias], &to);
            let bias = editor.op("Max", &[&bias, &self.lowest], &[]);
            let bias = editor.op("Unsqueeze", &[&bias, &one], &[]);
            mask = editor.op("Add", &[&bias, &mask], &[]);
        }
        self.masks.push((key, mask.clone()));
        mask
    }
}

/// `q_obs.{layer}`.
fn publish_queries(editor: &mut Editor, layer: &Layer, node: &Node, queries: &str) {
    let heads = node.int("num_heads").unwrap_or(layer.kv_heads);
    let split = editor.ints(&[0, 0, heads, layer.dim]);
    let split = editor.op("Reshape", &[queries, &split], &[]);
    let name = format!("q_obs.{}", layer.name);
    let perm = [("perm", Value::Ints(&[0, 2, 1, 3]))];
    editor.emit("", "Transpose", &[&split], &[&name], &perm);
    let dims = [
        symbol("batch_size"),
        DimValue::Size(heads),
        symbol("observed_rows"),
        DimValue::Size(layer.dim),
    ];
    editor
        .graph
        .output
        .push(ValueInfo::tensor(&name, layer.element, &dims));
}
