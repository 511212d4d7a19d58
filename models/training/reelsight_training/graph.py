"""A small writer for ONNX graphs: names nodes, keeps initialisers, nothing more."""

from dataclasses import dataclass, field

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from reelsight_training.weights import to_graph

OPSET, CONTRIB_OPSET, IR_VERSION = 21, 1, 10
CONTRIB = "com.microsoft"
FLOAT, INT64, INT32, BOOL = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.BOOL,
)


@dataclass
class GraphWriter:
    """Collects nodes and initialisers of one graph."""

    state: dict[str, np.ndarray]
    nodes: list = field(default_factory=list)
    initialisers: dict = field(default_factory=dict)

    def op(self, kind: str, *inputs: str, out: str | None = None, domain: str = "", count: int = 1, **attrs):
        """Adds a node; returns its output name, or the names when `count` is above one."""
        stem = f"{kind}_{len(self.nodes)}"
        outputs = [out or stem] if count == 1 else [f"{stem}_{index}" for index in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=stem, domain=domain, **attrs))
        return outputs[0] if count == 1 else outputs

    def emit(self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **attrs) -> None:
        """Adds a node whose outputs are named by the caller."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attrs))

    def const(self, name: str, value, dtype=np.int64) -> str:
        """Adds a constant once and returns its name."""
        self.initialisers.setdefault(name, np.asarray(value, dtype=dtype))
        return name

    def ints(self, *values: int) -> str:
        """Returns a 1-D int64 constant."""
        return self.const("i_" + "_".join(str(value).replace("-", "m") for value in values), list(values))

    def scalar(self, value: float) -> str:
        """Returns a float scalar constant."""
        return self.const(f"f_{value!r}", value, np.float32)

    def weight(self, name: str) -> str:
        """Adds a parameter under its state-dict name."""
        self.initialisers.setdefault(name, to_graph(name, self.state[name]))
        return name

    def linear(self, x: str, prefix: str, bias: bool) -> str:
        """Adds x @ W (+ b) for the layer `prefix`."""
        y = self.op("MatMul", x, self.weight(f"{prefix}.weight"))
        return self.op("Add", y, self.weight(f"{prefix}.bias")) if bias else y

    def finish(self, name: str, inputs: list, outputs: list):
        """Builds the model; inputs and outputs are (name, type, dims)."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(*value) for value in outputs],
            [numpy_helper.from_array(value, key) for key, value in self.initialisers.items()],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, CONTRIB_OPSET)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="reelsight_training"
        )
