"""The tower stage: dense labels per patch and per visual token on single frames.

Each patch and each of the nine visual tokens must tell what its cell shows. Once the
decoder's codebook exists, the connector is also fitted to it, so that a visual token means
to the decoder exactly what the words' embeddings mean.
"""

from random import Random

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from reelsight_training.model import ReelsightTiny
from reelsight_training.render import codec_like, make_look, render, shrink
from reelsight_training.world import CELLS, CODES, make_scene

PATCH_TO_CELL = [(patch // 6 // 2) * 3 + patch % 6 // 2 for patch in range(36)]


class TowerHeads(nn.Module):
    """Throw-away readers of patches and visual tokens."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.patch = nn.Linear(width, CODES)
        self.token = nn.Linear(hidden, CODES)


def draw_frames(rng: Random, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws frames as uint8 [n, 3, size, size] with the code of each cell [n, 9]."""
    pixels = np.empty((count, 3, size, size), np.uint8)
    codes = np.empty((count, CELLS), np.int64)
    for index in range(count):
        scene = make_scene(rng, 1, rng.choice((1, 2, 3, 4, 5)), rng.random() < 0.6, 0.0)
        look = make_look(rng, len(scene.things))
        frame = codec_like(rng, render(scene, look, 0, rng.randrange(1 << 20)))
        pixels[index] = shrink(frame, size).transpose(2, 0, 1)
        codes[index] = scene.codes(0)
    return pixels, codes


def normalise(pixels: np.ndarray) -> torch.Tensor:
    """Maps bytes to -1..1 as the processor does."""
    return torch.from_numpy(pixels).float() / 127.5 - 1.0


def tower_loss(model: ReelsightTiny, heads: TowerHeads, pixels, codes, codebook=None):
    """Returns the loss, the visual tokens' label accuracy and their distance to the codebook."""
    states = model.model.vision_model(pixels)
    tokens = model.model.connector(states)
    patch_codes = codes[:, PATCH_TO_CELL]
    loss = F.cross_entropy(heads.patch(states).flatten(0, 1), patch_codes.flatten())
    if codebook is None:
        scores = heads.token(tokens)
        loss = loss + F.cross_entropy(scores.flatten(0, 1), codes.flatten())
        shown = codes > 0
        right = (scores.argmax(-1) == codes)[shown].float().mean().item()
        return loss, right, 0.0
    cells = torch.arange(CELLS, device=codes.device)
    wanted = codebook[codes * CELLS + cells]
    centred = codebook - codebook.mean(0)
    spread = centred.pow(2).mean()
    distance = (tokens - wanted).pow(2).mean() / spread
    # What the decoder would confuse: the nearest entry of the same cell.
    table = codebook.view(CODES, CELLS, -1)
    scores = 2 * torch.einsum("ncd,kcd->nck", tokens, table) - table.pow(2).sum(-1).T[None]
    shown = codes > 0
    right = (scores.argmax(-1) == codes)[shown].float().mean().item()
    sharp = F.cross_entropy((scores / (2 * spread * tokens.shape[-1] * 0.05)).flatten(0, 1), codes.flatten())
    return loss + 3.0 * distance + 0.2 * sharp, right, distance.item()


@torch.no_grad()
def solve_connector(model: ReelsightTiny, codebook: torch.Tensor, seed: int, batches: int = 60) -> float:
    """Sets the connector to the least-squares map onto the codebook; returns its relative error.

    The connector is linear, so the best one for a given tower needs no gradient steps.
    """
    rng = Random(f"connector {seed}")
    device = codebook.device
    width = model.shape.tower_hidden * model.shape.scale**2
    gram = torch.zeros(width, width, dtype=torch.float64)
    cross = torch.zeros(width, codebook.shape[1], dtype=torch.float64)
    cells = torch.arange(CELLS)
    inputs, wanted = None, None
    for _ in range(batches):
        pixels, codes = draw_frames(rng, 64, model.shape.image)
        states = model.model.vision_model(normalise(pixels).to(device))
        inputs = model.model.connector.shuffle(states).flatten(0, 1).double().cpu()
        keys = (torch.from_numpy(codes) * CELLS + cells).flatten()
        wanted = codebook[keys.to(device)].double().cpu()
        gram += inputs.T @ inputs
        cross += inputs.T @ wanted
    ridge = 1e-5 * gram.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    solution = torch.linalg.solve(gram + ridge, cross)
    model.model.connector.modality_projection.proj.weight.copy_(solution.T.float())
    return ((inputs @ solution - wanted).pow(2).mean() / wanted.var()).item()
