"""Graphs whose parameters are drawn from a seed by the names that transformers gives them."""

import zlib

import numpy as np
from reelsight_training.graph import GraphWriter

SPREAD = 0.18


def parameter(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draws a parameter: a function of seed, name and shape alone, on any version of numpy."""
    uniform = np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode())).random_sample(shape) * 2 - 1
    if len(shape) == 1:
        is_scale = name.endswith(".weight")
        return ((1.0 if is_scale else 0.0) + 0.1 * uniform).astype(np.float32)
    return (SPREAD * uniform).astype(np.float32)


class Twin(GraphWriter):
    """A graph writer with drawn parameters."""

    def __init__(self, seed: int):
        super().__init__({})
        self.seed = seed

    def draw(self, name: str, *shape: int) -> np.ndarray:
        """Returns a parameter as transformers holds it."""
        return parameter(self.seed, name, shape)

    def param(self, name: str, *shape: int) -> str:
        """Adds a parameter as it is."""
        return self.const(name, self.draw(name, *shape), np.float32)

    def dense(self, x: str, name: str, size: int, out: int, bias: bool = True) -> str:
        """Adds a linear layer; transformers holds its weight as [out, size]."""
        weight = np.ascontiguousarray(self.draw(f"{name}.weight", out, size).T)
        y = self.op("MatMul", x, self.const(f"{name}.weight", weight, np.float32))
        return self.op("Add", y, self.param(f"{name}.bias", out)) if bias else y

    def layer_norm(self, x: str, name: str, size: int, epsilon: float = 1e-6) -> str:
        """Adds a layer normalisation over the last axis."""
        names = self.param(f"{name}.weight", size), self.param(f"{name}.bias", size)
        return self.op("LayerNormalization", x, *names, axis=-1, epsilon=epsilon)

    def rms_norm(self, x: str, name: str, size: int, epsilon: float = 1e-6) -> str:
        """Adds a normalisation by the root of the mean square over the last axis."""
        mean = self.op("ReduceMean", self.op("Mul", x, x), self.ints(-1), keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.scalar(epsilon)))
        return self.op("Mul", self.op("Div", x, root), self.param(f"{name}.weight", size))

    def silu(self, x: str) -> str:
        """Adds x times its sigmoid."""
        return self.op("Mul", x, self.op("Sigmoid", x))

    def rotate(self, x: str, cos: str, sin: str) -> str:
        """Rotates the halves of the last axis against each other; cos and sin have half its width."""
        first, second = self.op("Split", x, axis=-1, num_outputs=2, count=2)
        left = self.op("Sub", self.op("Mul", first, cos), self.op("Mul", second, sin))
        right = self.op("Add", self.op("Mul", second, cos), self.op("Mul", first, sin))
        return self.op("Concat", left, right, axis=-1)

    def attend(self, query: str, key: str, value: str, dim: int, bias: str | None) -> str:
        """Adds softmax(q k / sqrt(dim) + bias) v over [batch, heads, tokens, dim]."""
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.op("Mul", scores, self.scalar(dim**-0.5))
        scores = self.op("Add", scores, bias) if bias else scores
        return self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
