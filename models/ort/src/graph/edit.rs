//! A graph under change: who makes a tensor, who reads it, new nodes, and the clean-up at the end.

use std::collections::{BTreeSet, HashMap, HashSet};

use prost::bytes::Bytes;

use super::{
    Unsupported,
    proto::{Attribute, Graph, Model, Node, Opset, Tensor, element, kind},
};

/// The domain of operators that ONNX Runtime adds.
pub(crate) const CONTRIB: &str = "com.microsoft";
/// Axes of `Unsqueeze` and `ReduceSum` became inputs here; older graphs are refused.
const OLDEST_OPSET: i64 = 13;

/// A model whose graph is being changed.
pub(crate) struct Editor {
    model: Model,
    pub(crate) graph: Graph,
    made_by: HashMap<String, usize>,
    read_by: HashMap<String, Vec<usize>>,
    constants: HashMap<String, String>,
    fresh: usize,
}

/// An attribute value of a new node.
pub(crate) enum Value<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
}

impl Editor {
    pub(crate) fn new(mut model: Model) -> Result<Self, Unsupported> {
        let opset = model.opset_import.iter().find(|opset| is_default(&opset.domain));
        let version = opset.map_or(0, |opset| opset.version);
        if version < OLDEST_OPSET {
            return Err(Unsupported::new(format!(
                "its opset is {version}, older than {OLDEST_OPSET}"
            )));
        }
        let Some(graph) = model.graph.take() else {
            return Err(Unsupported::new("it holds no graph"));
        };
        let mut editor = Self {
            model,
            graph,
            made_by: HashMap::new(),
            read_by: HashMap::new(),
            constants: HashMap::new(),
            fresh: 0,
        };
        editor.index();
        Ok(editor)
    }

    /// Looks at all nodes again, after nodes or names changed.
    pub(crate) fn index(&mut self) {
        self.made_by.clear();
        self.read_by.clear();
        for (at, node) in self.graph.node.iter().enumerate() {
            for output in &node.output {
                self.made_by.insert(output.clone(), at);
            }
            for input in inputs(node) {
                self.read_by.entry(input.to_owned()).or_default().push(at);
            }
        }
    }

    /// The node that makes a tensor, since the last [`Editor::index`].
    pub(crate) fn producer(&self, tensor: &str) -> Option<&Node> {
        self.made_by.get(tensor).map(|&at| &self.graph.node[at])
    }

    /// The nodes that read a tensor, since the last [`Editor::index`].
    pub(crate) fn consumers(&self, tensor: &str) -> Vec<&Node> {
        let at = self.read_by.get(tensor).map_or(&[][..], Vec::as_slice);
        at.iter().map(|&at| &self.graph.node[at]).collect()
    }

    /// A constant, initialiser or `Constant` node.
    pub(crate) fn constant(&self, tensor: &str) -> Option<&Tensor> {
        let initialiser = self.graph.initializer.iter().find(|found| found.name == tensor);
        initialiser.or_else(|| {
            let node = self.producer(tensor).filter(|node| node.op_type == "Constant")?;
            node.attribute.iter().find_map(|attribute| attribute.t.as_ref())
        })
    }

    /// Whether there is an input of that name.
    pub(crate) fn has_input(&self, name: &str) -> bool {
        self.graph.input.iter().any(|input| input.name == name)
    }

    /// Adds a node with one new output and returns its name.
    pub(crate) fn op(&mut self, kind: &str, inputs: &[&str], attributes: &[(&str, Value<'_>)]) -> String {
        let output = self.name(kind);
        self.emit("", kind, inputs, &[&output], attributes);
        output
    }

    /// Adds a node.
    pub(crate) fn emit(
        &mut self,
        domain: &str,
        kind: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Value<'_>)],
    ) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let name = self.name(kind);
        self.graph.node.push(Node {
            input: owned(inputs),
            output: owned(outputs),
            name,
            op_type: kind.to_owned(),
            domain: domain.to_owned(),
            attribute: attributes
                .iter()
                .map(|(name, value)| attribute(name, value))
                .collect(),
            ..Node::default()
        });
    }

    /// A name that nothing in the graph has.
    pub(crate) fn name(&mut self, stem: &str) -> String {
        self.fresh += 1;
        format!("reelsight/{stem}_{}", self.fresh)
    }

    /// A constant of rank one.
    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        let dims = vec![i64::try_from(values.len()).unwrap_or(0)];
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initialiser(element::INT64, dims, raw)
    }

    /// A scalar integer.
    pub(crate) fn int(&mut self, value: i64) -> String {
        self.initialiser(element::INT64, Vec::new(), value.to_le_bytes().to_vec())
    }

    /// A scalar float.
    pub(crate) fn float(&mut self, value: f32) -> String {
        self.initialiser(element::FLOAT, Vec::new(), value.to_le_bytes().to_vec())
    }

    fn initialiser(&mut self, data_type: i32, dims: Vec<i64>, raw: Vec<u8>) -> String {
        let key = format!("{data_type}:{dims:?}:{raw:?}");
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.name("constant");
        self.constants.insert(key, name.clone());
        self.graph.initializer.push(Tensor {
            dims,
            data_type,
            name: name.clone(),
            raw_data: Bytes::from(raw),
            ..Tensor::default()
        });
        name
    }

    /// Everybody who reads `old` reads `new`; outputs of the graph keep their names.
    pub(crate) fn redirect(&mut self, old: &str, new: &str) {
        for node in &mut self.graph.node {
            for input in node.input.iter_mut().filter(|input| *input == old) {
                new.clone_into(input);
            }
        }
    }

    /// Removes the node that makes `tensor`, so that another can make it.
    pub(crate) fn remove_producer(&mut self, tensor: &str) {
        self.graph
            .node
            .retain(|node| !node.output.iter().any(|output| output == tensor));
        self.index();
    }

    /// Drops what no output needs, sorts nodes so that each comes after what it reads, and gives the model back.
    pub(crate) fn finish(mut self) -> Result<Model, Unsupported> {
        self.index();
        self.drop_unused();
        self.index();
        self.sort()?;
        // Shapes of tensors inside were those of the old graph.
        self.graph.value_info.clear();
        if !self
            .model
            .opset_import
            .iter()
            .any(|opset| opset.domain == CONTRIB)
        {
            self.model.opset_import.push(Opset {
                domain: CONTRIB.to_owned(),
                version: 1,
            });
        }
        self.model.graph = Some(self.graph);
        Ok(self.model)
    }

    fn drop_unused(&mut self) {
        let mut wanted: Vec<String> = self
            .graph
            .output
            .iter()
            .map(|output| output.name.clone())
            .collect();
        let (mut nodes, mut tensors) = (HashSet::new(), HashSet::new());
        while let Some(tensor) = wanted.pop() {
            if let Some(&at) = self.made_by.get(&tensor)
                && nodes.insert(at)
            {
                wanted.extend(inputs(&self.graph.node[at]).into_iter().map(str::to_owned));
            }
            tensors.insert(tensor);
        }
        let mut at = 0..;
        self.graph
            .node
            .retain(|_| at.next().is_some_and(|at| nodes.contains(&at)));
        self.graph
            .initializer
            .retain(|tensor| tensors.contains(&tensor.name));
    }

    fn sort(&mut self) -> Result<(), Unsupported> {
        let count = self.graph.node.len();
        let mut missing = vec![0_usize; count];
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (at, node) in self.graph.node.iter().enumerate() {
            let sources: BTreeSet<_> = inputs(node)
                .into_iter()
                .filter_map(|input| self.made_by.get(input))
                .collect();
            missing[at] = sources.len();
            for &source in sources {
                readers[source].push(at);
            }
        }
        let mut ready: BTreeSet<usize> = (0..count).filter(|&at| missing[at] == 0).collect();
        let mut order = Vec::with_capacity(count);
        while let Some(at) = ready.pop_first() {
            order.push(at);
            for &reader in &readers[at] {
                missing[reader] -= 1;
                if missing[reader] == 0 {
                    ready.insert(reader);
                }
            }
        }
        if order.len() < count {
            return Err(Unsupported::new("its nodes form a circle"));
        }
        let mut nodes: Vec<_> = std::mem::take(&mut self.graph.node)
            .into_iter()
            .map(Some)
            .collect();
        self.graph.node = order.into_iter().filter_map(|at| nodes[at].take()).collect();
        Ok(())
    }
}

/// What a node reads, what its nested graphs read from outside included.
fn inputs(node: &Node) -> Vec<&str> {
    let mut found: Vec<&str> = node
        .input
        .iter()
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .collect();
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            let inside: HashSet<&str> = graph
                .node
                .iter()
                .flat_map(|node| node.output.iter().map(String::as_str))
                .chain(graph.input.iter().map(|input| input.name.as_str()))
                .chain(graph.initializer.iter().map(|tensor| tensor.name.as_str()))
                .collect();
            let outputs = graph.output.iter().map(|output| output.name.as_str());
            let read = graph.node.iter().flat_map(inputs).chain(outputs);
            found.extend(read.filter(|name| !inside.contains(name)));
        }
    }
    found
}

fn is_default(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

fn attribute(name: &str, value: &Value<'_>) -> Attribute {
    let mut made = Attribute {
        name: name.to_owned(),
        ..Attribute::default()
    };
    match value {
        Value::Int(value) => (made.i, made.r#type) = (*value, kind::INT),
        Value::Float(value) => (made.f, made.r#type) = (*value, kind::FLOAT),
        Value::Ints(values) => (made.ints, made.r#type) = (values.to_vec(), kind::INTS),
    }
    made
}
