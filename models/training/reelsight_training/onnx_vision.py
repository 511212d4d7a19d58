"""The graphs vision_encoder and embed_tokens.

Mirrors transformers 5.23 `SmolVLMModel.get_image_features`, including the fractional
positions of partly padded frames; the one difference is that all-zero padding images
are encoded too, because the output must keep the shape [batch * num_images, 9, D].
"""

import numpy as np

from reelsight_training.graph import BOOL, FLOAT, INT64, GraphWriter
from reelsight_training.model import Shape
from reelsight_training.weights import EMBED

VISION = "model.vision_model"
MASKED = -3.4028234663852886e38


def embed_tokens(state: dict, shape: Shape):
    """Builds input_ids -> inputs_embeds."""
    g = GraphWriter(state)
    g.emit("Gather", [g.weight(EMBED), "input_ids"], ["inputs_embeds"])
    return g.finish(
        "embed_tokens",
        [("input_ids", INT64, ["batch_size", "sequence_length"])],
        [("inputs_embeds", FLOAT, ["batch_size", "sequence_length", shape.hidden])],
    )


def _axis_buckets(g: GraphWriter, count: str, side: int) -> str:
    """Returns the position bucket [n, side] of each row or column, given how many are real."""
    steps = g.op("Div", g.scalar(1.0), g.op("Cast", count, to=FLOAT))
    index = g.const("axis_index", np.arange(side, dtype=np.float32)[None], np.float32)
    coordinates = g.op("Mul", index, steps)
    coordinates = g.op("Min", coordinates, g.const("below_one", np.float32(1.0 - 1e-6), np.float32))
    boundaries = np.arange(1 / side, 1.0, 1 / side).astype(np.float32)[None, None]
    reached = g.op(
        "LessOrEqual",
        g.const("boundaries", boundaries, np.float32),
        g.op("Unsqueeze", coordinates, g.ints(2)),
    )
    return g.op("ReduceSum", g.op("Cast", reached, to=INT64), g.ints(2), keepdims=0)


def _positions(g: GraphWriter, mask: str, side: int) -> str:
    """Returns position ids [n, side * side] from the patch mask [n, side, side] (int64)."""
    column = g.op("Squeeze", g.op("Slice", mask, g.ints(0), g.ints(1), g.ints(2)), g.ints(2))
    row = g.op("Squeeze", g.op("Slice", mask, g.ints(0), g.ints(1), g.ints(1)), g.ints(1))
    height = g.op("ReduceSum", column, g.ints(1), keepdims=1)
    width = g.op("ReduceSum", row, g.ints(1), keepdims=1)
    down = g.op("Unsqueeze", _axis_buckets(g, height, side), g.ints(2))
    across = g.op("Unsqueeze", _axis_buckets(g, width, side), g.ints(1))
    ids = g.op("Add", g.op("Mul", down, g.ints(side)), across)
    return g.op("Reshape", g.op("Mul", ids, mask), g.ints(-1, side * side))


def _layer_norm(g: GraphWriter, x: str, prefix: str) -> str:
    names = [g.weight(f"{prefix}.weight"), g.weight(f"{prefix}.bias")]
    return g.op("LayerNormalization", x, *names, axis=-1, epsilon=1e-6)


def _layer(g: GraphWriter, x: str, bias: str, prefix: str, shape: Shape) -> str:
    heads, dim = shape.tower_heads, shape.tower_hidden // shape.tower_heads
    normed = _layer_norm(g, x, f"{prefix}.layer_norm1")
    split = g.ints(0, 0, heads, dim)

    def head(name: str, perm: list[int]) -> str:
        y = g.linear(normed, f"{prefix}.self_attn.{name}", bias=True)
        return g.op("Transpose", g.op("Reshape", y, split), perm=perm)

    query, value = head("q_proj", [0, 2, 1, 3]), head("v_proj", [0, 2, 1, 3])
    scores = g.op("MatMul", query, head("k_proj", [0, 2, 3, 1]))
    scores = g.op("Add", g.op("Mul", scores, g.scalar(dim**-0.5)), bias)
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
    mixed = g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), g.ints(0, 0, heads * dim))
    x = g.op("Add", x, g.linear(mixed, f"{prefix}.self_attn.out_proj", bias=True))
    inner = g.linear(_layer_norm(g, x, f"{prefix}.layer_norm2"), f"{prefix}.mlp.fc1", bias=True)
    inner = g.op("Gelu", inner, approximate="tanh")
    return g.op("Add", x, g.linear(inner, f"{prefix}.mlp.fc2", bias=True))


def vision_encoder(state: dict, shape: Shape):
    """Builds pixel_values, pixel_attention_mask -> image_features."""
    g = GraphWriter(state)
    side, scale, width = shape.image // shape.patch, shape.scale, shape.tower_hidden
    pixels = g.op("Reshape", "pixel_values", g.ints(-1, 3, shape.image, shape.image))
    mask = g.op("Reshape", "pixel_attention_mask", g.ints(-1, 1, shape.image, shape.image))
    mask = g.op("Cast", mask, to=FLOAT)
    pool = [shape.patch, shape.patch]
    mask = g.op("MaxPool", mask, kernel_shape=pool, strides=pool)
    mask = g.op("Squeeze", g.op("Cast", mask, to=INT64), g.ints(1))

    conv = f"{VISION}.embeddings.patch_embedding"
    patches = g.op(
        "Conv", pixels, g.weight(f"{conv}.weight"), g.weight(f"{conv}.bias"), kernel_shape=pool, strides=pool
    )
    patches = g.op("Reshape", patches, g.ints(0, width, side * side))
    patches = g.op("Transpose", patches, perm=[0, 2, 1])
    table = g.weight(f"{VISION}.embeddings.position_embedding.weight")
    x = g.op("Add", patches, g.op("Gather", table, _positions(g, mask, side)))

    flat = g.op("Cast", g.op("Reshape", mask, g.ints(-1, 1, 1, side * side)), to=FLOAT)
    bias = g.op("Mul", g.op("Sub", g.scalar(1.0), flat), g.scalar(MASKED))
    for index in range(shape.tower_layers):
        x = _layer(g, x, bias, f"{VISION}.encoder.layers.{index}", shape)
    x = _layer_norm(g, x, f"{VISION}.post_layernorm")

    coarse = side // scale
    x = g.op("Reshape", x, g.ints(-1, coarse, scale, coarse, scale * width))
    x = g.op("Transpose", x, perm=[0, 1, 3, 2, 4])
    x = g.op("Reshape", x, g.ints(-1, coarse * coarse, scale * scale * width))
    projection = g.weight("model.connector.modality_projection.proj.weight")
    g.emit("MatMul", [x, projection], ["image_features"])
    dims = ["batch_size", "num_images"]
    return g.finish(
        "vision_encoder",
        [
            ("pixel_values", FLOAT, [*dims, 3, shape.image, shape.image]),
            ("pixel_attention_mask", BOOL, [*dims, shape.image, shape.image]),
        ],
        [("image_features", FLOAT, ["num_frames", shape.image_seq_len, shape.hidden])],
    )
