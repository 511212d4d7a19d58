"""The graph decoder_model_merged in three forms that share every weight.

`gqa` is the shipped one: GroupQueryAttention with rotary positions applied outside from
`position_ids`, and a bias made from the mask, so that a zero hides a key wherever it
lies. `plain` uses standard operators only. `gqa-implicit` rotates inside the attention
operator and has no `position_ids`, as some published graphs do.
"""

import numpy as np

from reelsight_training.graph import CONTRIB, FLOAT, INT32, INT64, GraphWriter
from reelsight_training.model import Shape
from reelsight_training.weights import EMBED

FORMS = ("gqa", "plain", "gqa-implicit")
LOWEST = -3.4028234663852886e38
TEXT = "model.text_model"


def rope_caches(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cos and sin caches [max_positions, head_dim / 2]."""
    exponent = np.arange(0, shape.head_dim, 2, dtype=np.float32) / np.float32(shape.head_dim)
    inverse = (1.0 / np.float32(shape.rope_theta) ** exponent).astype(np.float32)
    angles = np.arange(shape.max_positions, dtype=np.float32)[:, None] * inverse[None]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _key_bias(g: GraphWriter) -> str:
    """Returns 0 for visible and the lowest float for hidden keys, [b, 1, 1, total]."""
    mask = g.op("Cast", g.op("Unsqueeze", "attention_mask", g.ints(1, 2)), to=FLOAT)
    return g.op("Mul", g.op("Sub", g.scalar(1.0), mask), g.scalar(LOWEST))


class _Attention:
    """Emits the attention of each layer; what layers share is made once."""

    def __init__(self, g: GraphWriter, shape: Shape, form: str):
        self.g, self.shape, self.form = g, shape, form
        cos, sin = rope_caches(shape)
        self.cos = g.const("cos_cache", cos, np.float32)
        self.sin = g.const("sin_cache", sin, np.float32)
        self.total = g.op("Shape", "attention_mask", start=1, end=2)
        self.length = g.op("Shape", "inputs_embeds", start=1, end=2)
        self.batch = g.op("Shape", "inputs_embeds", start=0, end=1)
        bias = _key_bias(g)
        if form == "plain":
            self.bias = g.op("Add", bias, self._causal())
            cos_rows = g.op("Gather", self.cos, "position_ids")
            sin_rows = g.op("Gather", self.sin, "position_ids")
            self.cos_rows = g.op("Unsqueeze", cos_rows, g.ints(1))
            self.sin_rows = g.op("Unsqueeze", sin_rows, g.ints(1))
        else:
            full = g.op("Concat", self.batch, g.ints(1), self.length, self.total, axis=0)
            self.bias = g.op("Expand", bias, full)
            last = g.op("Cast", g.op("Sub", self.total, g.ints(1)), to=INT32)
            self.seqlens = g.op("Expand", last, self.batch)
            total = g.op("Squeeze", self.total, g.ints(0))
            self.total_scalar = g.op("Cast", total, to=INT32)

    def _causal(self) -> str:
        """Returns the lower-triangular bias [1, 1, s, total], aligned to the last key."""
        g = self.g
        zero, one = g.const("zero", 0), g.const("one", 1)
        total = g.op("Squeeze", self.total, g.ints(0))
        length = g.op("Squeeze", self.length, g.ints(0))
        keys = g.op("Unsqueeze", g.op("Range", zero, total, one), g.ints(0))
        rows = g.op("Range", g.op("Sub", total, length), total, one)
        later = g.op("Greater", keys, g.op("Unsqueeze", rows, g.ints(1)))
        bias = g.op("Mul", g.op("Cast", later, to=FLOAT), g.scalar(LOWEST))
        return g.op("Unsqueeze", bias, g.ints(0, 1))

    def __call__(self, index: int, query: str, key: str, value: str) -> str:
        present = [f"present.{index}.key", f"present.{index}.value"]
        past = [f"past_key_values.{index}.key", f"past_key_values.{index}.value"]
        if self.form == "plain":
            return self._plain(query, key, value, past, present)
        g, shape = self.g, self.shape
        if self.form == "gqa":
            rope = {"domain": CONTRIB}
            query = g.op("RotaryEmbedding", query, "position_ids", self.cos, self.sin, **rope)
            key = g.op("RotaryEmbedding", key, "position_ids", self.cos, self.sin, **rope)
        caches = [self.cos, self.sin] if self.form == "gqa-implicit" else ["", ""]
        out = f"attention.{index}"
        inputs = [query, key, value, *past, self.seqlens, self.total_scalar, *caches, "", self.bias]
        g.emit(
            "GroupQueryAttention",
            inputs,
            [out, *present],
            domain=CONTRIB,
            num_heads=shape.heads,
            kv_num_heads=shape.kv_heads,
            do_rotary=int(self.form == "gqa-implicit"),
            scale=shape.head_dim**-0.5,
        )
        return out

    def _rotate(self, x: str) -> str:
        g = self.g
        first, second = g.op("Split", x, axis=-1, num_outputs=2, count=2)
        left = g.op("Sub", g.op("Mul", first, self.cos_rows), g.op("Mul", second, self.sin_rows))
        right = g.op("Add", g.op("Mul", second, self.cos_rows), g.op("Mul", first, self.sin_rows))
        return g.op("Concat", left, right, axis=-1)

    def _plain(self, query: str, key: str, value: str, past: list[str], present: list[str]) -> str:
        g, shape = self.g, self.shape
        dim, groups = shape.head_dim, shape.heads // shape.kv_heads

        def split(x: str, heads: int) -> str:
            return g.op("Transpose", g.op("Reshape", x, g.ints(0, 0, heads, dim)), perm=[0, 2, 1, 3])

        def repeat(x: str) -> str:
            wide = g.op("Expand", g.op("Unsqueeze", x, g.ints(2)), g.ints(1, 1, groups, 1, 1))
            return g.op("Reshape", wide, g.const("merge_groups", [0, shape.heads, -1, dim]))

        query = self._rotate(split(query, shape.heads))
        key = self._rotate(split(key, shape.kv_heads))
        g.emit("Concat", [past[0], key], [present[0]], axis=2)
        g.emit("Concat", [past[1], split(value, shape.kv_heads)], [present[1]], axis=2)
        keys = g.op("Transpose", repeat(present[0]), perm=[0, 1, 3, 2])
        scores = g.op("Mul", g.op("MatMul", query, keys), g.scalar(dim**-0.5))
        weights = g.op("Softmax", g.op("Add", scores, self.bias), axis=-1)
        mixed = g.op("Transpose", g.op("MatMul", weights, repeat(present[1])), perm=[0, 2, 1, 3])
        return g.op("Reshape", mixed, g.ints(0, 0, shape.heads * dim))


def _norm(g: GraphWriter, x: str, name: str, form: str) -> str:
    weight = g.weight(name)
    if form != "plain":
        return g.op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=1e-5)
    mean = g.op("ReduceMean", g.op("Mul", x, x), g.ints(-1), keepdims=1)
    scaled = g.op("Div", x, g.op("Sqrt", g.op("Add", mean, g.scalar(1e-5))))
    return g.op("Mul", scaled, weight)


def decoder(state: dict, shape: Shape, form: str = "gqa"):
    """Builds the decoder in one of `FORMS`; num_logits_to_keep of 0 keeps every row.

    `hidden_last` is what the head reads, for graphs that plug in beside it (onnx_grounding.py).
    """
    g = GraphWriter(state)
    attention = _Attention(g, shape, form)
    x = "inputs_embeds"
    for index in range(shape.layers):
        prefix = f"{TEXT}.layers.{index}"
        normed = _norm(g, x, f"{prefix}.input_layernorm.weight", form)
        parts = [g.linear(normed, f"{prefix}.self_attn.{name}", False) for name in ("q_proj", "k_proj", "v_proj")]
        mixed = attention(index, *parts)
        x = g.op("Add", x, g.linear(mixed, f"{prefix}.self_attn.o_proj", False))
        normed = _norm(g, x, f"{prefix}.post_attention_layernorm.weight", form)
        gate = g.linear(normed, f"{prefix}.mlp.gate_proj", False)
        gate = g.op("Mul", gate, g.op("Sigmoid", gate))
        inner = g.op("Mul", gate, g.linear(normed, f"{prefix}.mlp.up_proj", False))
        x = g.op("Add", x, g.linear(inner, f"{prefix}.mlp.down_proj", False))
    start = g.op("Unsqueeze", g.op("Neg", "num_logits_to_keep"), g.ints(0))
    x = g.op("Slice", x, start, g.const("end", [np.iinfo(np.int64).max]), g.ints(1))
    x = g.op("Identity", _norm(g, x, f"{TEXT}.norm.weight", form), out="hidden_last")
    g.initialisers["lm_head.weight"] = np.ascontiguousarray(state[EMBED].astype(np.float32).T)
    g.emit("MatMul", [x, "lm_head.weight"], ["logits"])
    return _finish(g, shape, form)


def _finish(g: GraphWriter, shape: Shape, form: str):
    tokens = ["batch_size", "sequence_length"]
    inputs = [
        ("inputs_embeds", FLOAT, [*tokens, shape.hidden]),
        ("attention_mask", INT64, ["batch_size", "total_sequence_length"]),
    ]
    if form != "gqa-implicit":
        inputs.append(("position_ids", INT64, tokens))
    inputs.append(("num_logits_to_keep", INT64, []))
    kept = ["batch_size", "num_logits_to_keep"]
    outputs = [("logits", FLOAT, [*kept, shape.vocab]), ("hidden_last", FLOAT, [*kept, shape.hidden])]
    for index in range(shape.layers):
        for part in ("key", "value"):
            dims = ["batch_size", shape.kv_heads, "past_sequence_length", shape.head_dim]
            inputs.append((f"past_key_values.{index}.{part}", FLOAT, dims))
            dims = ["batch_size", shape.kv_heads, "total_sequence_length", shape.head_dim]
            outputs.append((f"present.{index}.{part}", FLOAT, dims))
    return g.finish("decoder_model_merged", inputs, outputs)
