"""Checks a rewritten graph against its original: valid for onnx's checker and for ONNX Runtime, nothing lost, everything added.

    python valid.py ORIGINAL.onnx REWRITTEN.onnx
"""

import sys

import onnx
import onnxruntime

original, rewritten = (onnx.load(path, load_external_data=False) for path in sys.argv[1:])


def fed(model):
    """Returns the model with absent weights as inputs, so that it can be checked without them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    absent = [tensor for tensor in copy.graph.initializer if tensor.external_data]
    for tensor in absent:
        copy.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        copy.graph.initializer.remove(tensor)
    return copy


runnable = fed(rewritten)
onnxruntime.set_default_logger_severity(3)
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession(runnable.SerializeToString(), options, providers=["CPUExecutionProvider"])
assert {port.name for port in session.get_outputs()} == {port.name for port in rewritten.graph.output}
for node in runnable.graph.node:
    # The checker knows nothing of what ONNX Runtime adds to the default domain.
    if node.op_type.startswith("Simplified"):
        node.domain = "com.microsoft"
onnx.checker.check_model(runnable)


def ranks(model):
    """Returns the axes of every output."""
    return {port.name: len(port.type.tensor_type.shape.dim) for port in model.graph.output}


before, after = ranks(original), ranks(rewritten)
layers = sum(name.endswith(".key") for name in before)
assert all(after[name] == rank for name, rank in before.items())
added = {"hidden_last", *(f"{stem}.{layer}" for stem in ("kv_mass", "q_obs") for layer in range(layers))}
assert set(after) - set(before) == added - set(before), set(after) ^ set(before)
assert {port.name for port in rewritten.graph.input} - {port.name for port in original.graph.input} == {
    "position_ids",
    "obs_rows",
}
places = {t.name: [(e.key, e.value) for e in t.external_data] for t in rewritten.graph.initializer if t.external_data}
wanted = {t.name: [(e.key, e.value) for e in t.external_data] for t in original.graph.initializer if t.external_data}
assert {name: place for name, place in places.items() if name in wanted} == wanted
fused = [node for node in rewritten.graph.node if node.op_type == "GroupQueryAttention"]
assert len(fused) == layers and not any(a.i for node in fused for a in node.attribute if a.name == "do_rotary")
