"""What the onnx package reads in graphs, as JSON: python describe.py GRAPH..."""

import json
import sys

import onnx


def port(value) -> dict:
    tensor = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim]
    return {"name": value.name, "elem_type": tensor.elem_type, "dims": dims}


def tensors(graph):
    """All tensors of a graph, those of its branches included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from tensors(inner)


def describe(path: str) -> dict:
    graph = onnx.load(path, load_external_data=False).graph
    initializers = {tensor.name for tensor in graph.initializer}
    external = {}
    for tensor in tensors(graph):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if "location" in entries:
            end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
            known = external.setdefault(entries["location"], {"tensors": 0, "min_bytes": 0})
            known["tensors"] += 1
            known["min_bytes"] = max(known["min_bytes"], end)
    return {
        "inputs": [port(value) for value in graph.input if value.name not in initializers],
        "outputs": [port(value) for value in graph.output],
        "ops": sorted({node.op_type for node in graph.node}),
        "external": external,
    }


print(json.dumps([describe(path) for path in sys.argv[1:]]))
