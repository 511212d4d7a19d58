"""Text decoders of the Llama and Qwen2 kind as graphs: plain operators or GroupQueryAttention, one axis or three."""

from dataclasses import dataclass

import numpy as np
from reelsight_training.graph import CONTRIB, FLOAT, INT32, INT64

from reelsight_twins.graph import Twin

LOWEST = -3.4028234663852886e38


@dataclass(frozen=True)
class Text:
    """Sizes of a decoder."""

    vocab: int
    prefix: str
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    inner: int = 96
    theta: float = 10_000.0
    epsilon: float = 1e-6
    bias: bool = True
    """Whether queries, keys and values have one."""
    sections: tuple[int, ...] = ()
    """Frequencies of the time, height and width axes; empty for one axis."""

    @property
    def dim(self) -> int:
        return self.hidden // self.heads


def embed_tokens(text: Text, seed: int):
    """Builds input_ids -> inputs_embeds."""
    g = Twin(seed)
    table = g.param(f"{text.prefix}.embed_tokens.weight", text.vocab, text.hidden)
    g.emit("Gather", [table, "input_ids"], ["inputs_embeds"])
    tokens = ["batch_size", "sequence_length"]
    outputs = [("inputs_embeds", FLOAT, [*tokens, text.hidden])]
    return g.finish("embed_tokens", [("input_ids", INT64, tokens)], outputs)


def _angles(g: Twin, text: Text) -> tuple[str, str]:
    """Returns cos and sin, [batch, 1, tokens, dim / 2]."""
    exponent = np.arange(0, text.dim, 2, dtype=np.float32) / np.float32(text.dim)
    inverse = (1.0 / np.float32(text.theta) ** exponent).astype(np.float32)
    places = g.op("Cast", "position_ids", to=FLOAT)
    places = g.op("Unsqueeze", places, g.ints(-1))
    if not text.sections:
        angles = g.op("Mul", places, g.const("inverse", inverse, np.float32))
    else:
        parts, start = [], 0
        axes = g.op("Split", places, axis=0, num_outputs=3, count=3)
        for axis, width in enumerate(text.sections):
            part = g.const(f"inverse_{axis}", inverse[start : start + width], np.float32)
            parts.append(g.op("Mul", g.op("Squeeze", axes[axis], g.ints(0)), part))
            start += width
        angles = g.op("Concat", *parts, axis=-1)
    angles = g.op("Unsqueeze", angles, g.ints(1))
    return g.op("Cos", angles), g.op("Sin", angles)


class _Attention:
    """Emits the attention of each layer; what layers share is made once."""

    def __init__(self, g: Twin, text: Text, form: str):
        self.g, self.text, self.form = g, text, form
        self.cos, self.sin = _angles(g, text)
        total = g.op("Shape", "attention_mask", start=1, end=2)
        length = g.op("Shape", "inputs_embeds", start=1, end=2)
        batch = g.op("Shape", "inputs_embeds", start=0, end=1)
        mask = g.op("Cast", g.op("Unsqueeze", "attention_mask", g.ints(1, 2)), to=FLOAT)
        hidden = g.op("Mul", g.op("Sub", g.scalar(1.0), mask), g.scalar(LOWEST))
        if form == "plain":
            self.bias = g.op("Add", hidden, self._causal(total, length))
        else:
            full = g.op("Concat", batch, g.ints(1), length, total, axis=0)
            self.bias = g.op("Expand", hidden, full)
            last = g.op("Cast", g.op("Sub", total, g.ints(1)), to=INT32)
            self.seqlens = g.op("Expand", last, batch)
            self.total = g.op("Cast", g.op("Squeeze", total, g.ints(0)), to=INT32)

    def _causal(self, total: str, length: str) -> str:
        g = self.g
        zero, one = g.const("zero", 0), g.const("one", 1)
        total, length = (g.op("Squeeze", size, g.ints(0)) for size in (total, length))
        keys = g.op("Unsqueeze", g.op("Range", zero, total, one), g.ints(0))
        rows = g.op("Range", g.op("Sub", total, length), total, one)
        later = g.op("Greater", keys, g.op("Unsqueeze", rows, g.ints(1)))
        return g.op("Unsqueeze", g.op("Mul", g.op("Cast", later, to=FLOAT), g.scalar(LOWEST)), g.ints(0, 1))

    def _split(self, x: str, heads: int) -> str:
        g = self.g
        return g.op("Transpose", g.op("Reshape", x, g.ints(0, 0, heads, self.text.dim)), perm=[0, 2, 1, 3])

    def _join(self, x: str, heads: int) -> str:
        g = self.g
        return g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 1, 3]), g.ints(0, 0, heads * self.text.dim))

    def __call__(self, index: int, query: str, key: str, value: str) -> str:
        g, text = self.g, self.text
        query = g.rotate(self._split(query, text.heads), self.cos, self.sin)
        key = g.rotate(self._split(key, text.kv_heads), self.cos, self.sin)
        past = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
        present = [f"present.{index}.{part}" for part in ("key", "value")]
        if self.form == "gqa":
            inputs = [self._join(query, text.heads), self._join(key, text.kv_heads), value, *past]
            g.emit(
                "GroupQueryAttention",
                [*inputs, self.seqlens, self.total, "", "", "", self.bias],
                [f"attention.{index}", *present],
                domain=CONTRIB,
                num_heads=text.heads,
                kv_num_heads=text.kv_heads,
                scale=text.dim**-0.5,
            )
            return f"attention.{index}"
        g.emit("Concat", [past[0], key], [present[0]], axis=2)
        g.emit("Concat", [past[1], self._split(value, text.kv_heads)], [present[1]], axis=2)
        keys, values = (self._repeat(name) for name in present)
        return self._join(g.attend(query, keys, values, text.dim, self.bias), text.heads)

    def _repeat(self, x: str) -> str:
        g, text = self.g, self.text
        wide = g.op("Expand", g.op("Unsqueeze", x, g.ints(2)), g.ints(1, 1, text.heads // text.kv_heads, 1, 1))
        return g.op("Reshape", wide, g.const("merge", [0, text.heads, -1, text.dim]))


def decoder(text: Text, seed: int, form: str = "plain", keep: bool = True, embed: bool = False):
    """Builds the decoder. `keep` adds num_logits_to_keep, `embed` puts the embedding inside (input_ids)."""
    g = Twin(seed)
    if embed:
        table = g.param(f"{text.prefix}.embed_tokens.weight", text.vocab, text.hidden)
        g.emit("Gather", [table, "input_ids"], ["inputs_embeds"])
    attention = _Attention(g, text, form)
    x = "inputs_embeds"
    for index in range(text.layers):
        layer = f"{text.prefix}.layers.{index}"
        normed = g.rms_norm(x, f"{layer}.input_layernorm", text.hidden, text.epsilon)
        sizes = {"q_proj": text.heads, "k_proj": text.kv_heads, "v_proj": text.kv_heads}
        parts = [
            g.dense(normed, f"{layer}.self_attn.{name}", text.hidden, heads * text.dim, text.bias)
            for name, heads in sizes.items()
        ]
        mixed = attention(index, *parts)
        x = g.op("Add", x, g.dense(mixed, f"{layer}.self_attn.o_proj", text.hidden, text.hidden, False))
        normed = g.rms_norm(x, f"{layer}.post_attention_layernorm", text.hidden, text.epsilon)
        gate = g.silu(g.dense(normed, f"{layer}.mlp.gate_proj", text.hidden, text.inner, False))
        inner = g.op("Mul", gate, g.dense(normed, f"{layer}.mlp.up_proj", text.hidden, text.inner, False))
        x = g.op("Add", x, g.dense(inner, f"{layer}.mlp.down_proj", text.inner, text.hidden, False))
    if keep:
        start = g.op("Unsqueeze", g.op("Neg", "num_logits_to_keep"), g.ints(0))
        x = g.op("Slice", x, start, g.const("end", [np.iinfo(np.int64).max]), g.ints(1))
    x = g.rms_norm(x, f"{text.prefix}.norm", text.hidden, text.epsilon)
    head = np.ascontiguousarray(g.draw("lm_head.weight", text.vocab, text.hidden).T)
    g.emit("MatMul", [x, g.const("lm_head.weight", head, np.float32)], ["logits"])
    return _finish(g, text, keep, embed)


def _finish(g: Twin, text: Text, keep: bool, embed: bool):
    tokens = ["batch_size", "sequence_length"]
    first = ("input_ids", INT64, tokens) if embed else ("inputs_embeds", FLOAT, [*tokens, text.hidden])
    places = [3, *tokens] if text.sections else tokens
    total = ["batch_size", "total_sequence_length"]
    inputs = [first, ("attention_mask", INT64, total), ("position_ids", INT64, places)]
    if keep:
        inputs.append(("num_logits_to_keep", INT64, []))
    rows = ["batch_size", "num_logits_to_keep" if keep else "sequence_length"]
    outputs = [("logits", FLOAT, [*rows, text.vocab])]
    for index in range(text.layers):
        for part in ("key", "value"):
            dims = ["batch_size", text.kv_heads, "past_sequence_length", text.dim]
            inputs.append((f"past_key_values.{index}.{part}", FLOAT, dims))
            dims = ["batch_size", text.kv_heads, "total_sequence_length", text.dim]
            outputs.append((f"present.{index}.{part}", FLOAT, dims))
    return g.finish("decoder_model_merged", inputs, outputs)
