"""The graph grounding: which cached tokens the answer rests on (see ground.py).

Inputs: hidden_last f32 [b, k, D] from the decoder, position_ids i64 [b, k] of those rows, and the cached keys
present.{i}.key f32 [b, HK, total, d]. Output: evidence_scores f32 [b, k, total]; the sigmoid of the logsumexp over a
frame's visual tokens is the chance that the frame is evidence.
"""

import numpy as np

from reelsight_training.graph import CONTRIB, FLOAT, INT64, GraphWriter
from reelsight_training.model import Shape
from reelsight_training.onnx_decoder import rope_caches


def grounding(head: dict[str, np.ndarray], shape: Shape):
    """Builds the graph from the state dict of a GroundingHead."""
    g = GraphWriter({"grounding.query.weight": head["query.weight"]})
    cos, sin = rope_caches(shape)
    caches = g.const("cos_cache", cos, np.float32), g.const("sin_cache", sin, np.float32)
    queries = g.linear("hidden_last", "grounding.query", False)
    queries = g.op("RotaryEmbedding", queries, "position_ids", *caches, domain=CONTRIB)
    width = shape.kv_heads * shape.head_dim
    scores = None
    for index in range(shape.layers):
        part = g.op("Slice", queries, g.ints(index * width), g.ints((index + 1) * width), g.ints(2))
        part = g.op("Reshape", part, g.ints(0, 0, shape.kv_heads, shape.head_dim))
        part = g.op("Transpose", part, perm=[0, 2, 1, 3])
        keys = g.op("Transpose", f"present.{index}.key", perm=[0, 1, 3, 2])
        product = g.op("ReduceSum", g.op("MatMul", part, keys), g.ints(1), keepdims=0)
        scores = product if scores is None else g.op("Add", scores, product)
    scaled = g.op("Mul", scores, g.scalar(shape.head_dim**-0.5))
    offset = g.const("grounding.offset", float(head["offset"]), np.float32)
    g.op("Add", scaled, offset, out="evidence_scores")
    keys = ["batch_size", shape.kv_heads, "total_sequence_length", shape.head_dim]
    inputs = [
        ("hidden_last", FLOAT, ["batch_size", "rows", shape.hidden]),
        ("position_ids", INT64, ["batch_size", "rows"]),
        *((f"present.{index}.key", FLOAT, keys) for index in range(shape.layers)),
    ]
    outputs = [("evidence_scores", FLOAT, ["batch_size", "rows", "total_sequence_length"])]
    return g.finish("grounding", inputs, outputs)
