"""The vision towers of Qwen2-VL and Qwen2.5-VL as graphs, for one picture or group of pictures of any size."""

from dataclasses import dataclass

import numpy as np
from reelsight_training.graph import FLOAT, INT64

from reelsight_twins.graph import Twin

PREFIX = "model.visual"
LOWEST = -3.4028234663852886e38
THETA = 10_000.0


@dataclass(frozen=True)
class Vision:
    """Sizes of a tower."""

    out: int
    timed: bool
    """Qwen2.5-VL: windows, gated layers, RMS norms."""
    hidden: int = 32
    heads: int = 2
    depth: int = 3
    inner: int = 64
    patch: int = 14
    temporal: int = 2
    merge: int = 2
    window: int = 56
    full: tuple[int, ...] = (1,)

    @property
    def dim(self) -> int:
        return self.hidden // self.heads

    @property
    def values(self) -> int:
        return 3 * self.temporal * self.patch * self.patch


class _Places:
    """Row and column of each patch of one time, in the order in which four merged patches follow each other."""

    def __init__(self, g: Twin, shape: Vision, grid: str):
        self.g = g
        sizes = g.op("Split", g.op("Reshape", grid, g.ints(3)), axis=0, num_outputs=3, count=3)
        self.times, self.height, self.width = sizes
        one, merge = g.ints(1), g.ints(shape.merge)
        rows, columns = (g.op("Div", side, merge) for side in (self.height, self.width))
        order = g.op("Concat", rows, merge, columns, merge, axis=0)
        full = g.op("Concat", self.height, self.width, axis=0)
        self.row = self._ordered(self._range(self.height), g.op("Concat", self.height, one, axis=0), full, order)
        self.column = self._ordered(self._range(self.width), g.op("Concat", one, self.width, axis=0), full, order)

    def _range(self, size: str) -> str:
        g = self.g
        return g.op("Range", g.const("zero", 0), g.op("Squeeze", size, g.ints(0)), g.const("one", 1))

    def _ordered(self, values: str, shape: str, full: str, order: str) -> str:
        g = self.g
        plane = g.op("Expand", g.op("Reshape", values, shape), full)
        plane = g.op("Transpose", g.op("Reshape", plane, order), perm=[0, 2, 1, 3])
        return g.op("Reshape", plane, g.ints(-1))


def _angles(g: Twin, shape: Vision, places: _Places) -> tuple[str, str]:
    """Returns cos and sin, [1, 1, patches, dim / 2]: rows in the first half, columns in the second."""
    half = shape.dim // 2
    exponent = np.arange(0, half, 2, dtype=np.float32) / np.float32(half)
    inverse = g.const("inverse", (1.0 / np.float32(THETA) ** exponent).astype(np.float32), np.float32)

    def axis(place: str) -> str:
        return g.op("Mul", g.op("Unsqueeze", g.op("Cast", place, to=FLOAT), g.ints(1)), inverse)

    angles = g.op("Concat", axis(places.row), axis(places.column), axis=-1)
    angles = g.op("Unsqueeze", angles, g.ints(0, 1))
    return g.op("Cos", angles), g.op("Sin", angles)


def _windows(g: Twin, shape: Vision, places: _Places) -> str:
    """Returns the bias [1, 1, patches, patches] that keeps attention inside windows."""
    side = g.ints(shape.window // shape.patch)
    rows, columns = (g.op("Div", place, side) for place in (places.row, places.column))
    window = g.op("Add", g.op("Mul", rows, g.ints(1 << 20)), columns)
    same = g.op("Equal", g.op("Unsqueeze", window, g.ints(0)), g.op("Unsqueeze", window, g.ints(1)))
    bias = g.op("Where", same, g.scalar(0.0), g.scalar(LOWEST))
    return g.op("Unsqueeze", bias, g.ints(0, 1))


def _block(g: Twin, shape: Vision, index: int, x: str, angles: tuple[str, str], bias: str | None) -> str:
    name, size, heads = f"{PREFIX}.blocks.{index}", shape.hidden, shape.heads
    norm = g.rms_norm if shape.timed else g.layer_norm
    packed = g.dense(norm(x, f"{name}.norm1", size), f"{name}.attn.qkv", size, 3 * size)
    packed = g.op("Reshape", packed, g.ints(0, 0, 3 * heads, shape.dim))
    query, key, value = g.op("Split", g.op("Transpose", packed, perm=[0, 2, 1, 3]), axis=1, num_outputs=3, count=3)
    query, key = (g.rotate(part, *angles) for part in (query, key))
    mixed = g.op("Transpose", g.attend(query, key, value, shape.dim, bias), perm=[0, 2, 1, 3])
    mixed = g.op("Reshape", mixed, g.ints(0, 0, size))
    x = g.op("Add", x, g.dense(mixed, f"{name}.attn.proj", size, size))
    normed = norm(x, f"{name}.norm2", size)
    if shape.timed:
        gate = g.silu(g.dense(normed, f"{name}.mlp.gate_proj", size, shape.inner))
        inner = g.op("Mul", gate, g.dense(normed, f"{name}.mlp.up_proj", size, shape.inner))
        return g.op("Add", x, g.dense(inner, f"{name}.mlp.down_proj", shape.inner, size))
    inner = g.dense(normed, f"{name}.mlp.fc1", size, shape.inner)
    inner = g.op("Mul", inner, g.op("Sigmoid", g.op("Mul", inner, g.scalar(1.702))))
    return g.op("Add", x, g.dense(inner, f"{name}.mlp.fc2", shape.inner, size))


def vision_encoder(shape: Vision, seed: int, grid: str):
    """Builds pixel_values, `grid` -> image_features; attention stays inside each time."""
    g = Twin(seed)
    places = _Places(g, shape, grid)
    kernel = g.draw(f"{PREFIX}.patch_embed.proj.weight", shape.hidden, 3, shape.temporal, shape.patch, shape.patch)
    kernel = np.ascontiguousarray(kernel.reshape(shape.hidden, -1).T)
    x = g.op("MatMul", "pixel_values", g.const("patch_embed", kernel, np.float32))
    rows = g.op("Concat", places.times, g.ints(-1), g.ints(shape.hidden), axis=0)
    x = g.op("Reshape", x, rows)
    angles = _angles(g, shape, places)
    windows = _windows(g, shape, places) if shape.timed else None
    for index in range(shape.depth):
        x = _block(g, shape, index, x, angles, None if index in shape.full else windows)
    merged = shape.hidden * shape.merge**2
    norm = g.rms_norm if shape.timed else g.layer_norm
    x = g.op("Reshape", norm(x, f"{PREFIX}.merger.ln_q", shape.hidden), g.ints(-1, merged))
    x = g.op("Gelu", g.dense(x, f"{PREFIX}.merger.mlp.0", merged, merged))
    x = g.op("Identity", g.dense(x, f"{PREFIX}.merger.mlp.2", merged, shape.out), out="image_features")
    inputs = [("pixel_values", FLOAT, ["patches", shape.values]), (grid, INT64, ["pictures", 3])]
    return g.finish("vision_encoder", inputs, [("image_features", FLOAT, ["tokens", shape.out])])
