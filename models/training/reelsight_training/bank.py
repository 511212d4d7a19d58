"""A bank of real visual tokens: what the frozen tower makes of rendered frames.

Once the tower is frozen, a visual token depends on what its cell shows and hardly on the
rest of the frame. Language training therefore draws tokens from a bank by (content, cell)
instead of rendering and encoding every frame again: hundreds of times cheaper.
"""

from random import Random

import torch

from reelsight_training.model import ReelsightTiny
from reelsight_training.train_tower import draw_frames, normalise
from reelsight_training.world import CELLS, CODES

CHUNK = 64


class Bank:
    """Visual tokens sorted by key (code * 9 + cell), drawn uniformly within a key."""

    def __init__(self, tokens: torch.Tensor, keys: torch.Tensor):
        order = torch.argsort(keys)
        self.tokens, keys = tokens[order], keys[order]
        self.counts = torch.bincount(keys, minlength=CODES * CELLS)
        self.starts = torch.cumsum(self.counts, 0) - self.counts
        if int(self.counts.min()) == 0:
            raise ValueError("the bank lacks a (content, cell) pair: draw more frames")

    def draw(self, keys: torch.Tensor) -> torch.Tensor:
        """Returns one stored token for each key."""
        offset = (torch.rand(keys.shape, device=keys.device) * self.counts[keys]).long()
        return self.tokens[self.starts[keys] + offset].float()

    def to(self, device: str) -> "Bank":
        """Moves the bank to a device."""
        self.tokens, self.counts, self.starts = (
            value.to(device) for value in (self.tokens, self.counts, self.starts)
        )
        return self


@torch.no_grad()
def build_bank(model: ReelsightTiny, frames: int, seed: int, device: str = "cpu") -> Bank:
    """Renders frames, encodes them and stores every visual token."""
    rng = Random(f"bank {seed}")
    tokens, keys = [], []
    cells = torch.arange(CELLS)
    for _ in range(0, frames, CHUNK):
        pixels, codes = draw_frames(rng, CHUNK, model.shape.image)
        features = model.image_features(normalise(pixels).to(device)).cpu()
        tokens.append(features.flatten(0, 1).half())
        keys.append((torch.from_numpy(codes) * CELLS + cells).flatten())
    return Bank(torch.cat(tokens), torch.cat(keys)).to(device)
