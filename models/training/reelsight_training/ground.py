"""Trains the grounding head: which frames does the answer rest on?

    python -m reelsight_training.ground --checkpoint CKPT [--max-seconds N]

The network stays as it is. One linear map turns the state that is about to answer into queries against the keys that
every decoder layer has cached, so the head adds nothing to the cache and works on follow-ups as on first questions.
The score of a frame is the logsumexp over its visual tokens; its sigmoid is the chance that the frame is evidence. The
decoder graph gives the scores as the output `evidence_scores`; answers and logits do not change by a bit.
"""

import argparse
import time
from pathlib import Path
from random import Random

import torch
from torch import nn
from torch.nn import functional as F

from reelsight_training import tokenizer
from reelsight_training.bank import build_bank
from reelsight_training.dataset import Packer, attention_mask, collate, draw_questions
from reelsight_training.language import draw_clip, embed
from reelsight_training.model import ReelsightTiny, Shape, rope_tables, rotate
from reelsight_training.questions import FAMILIES
from reelsight_training.world import CELLS

BANK_FRAMES = 8_000
VIDEOS, QUESTIONS = 8, 10
RATE = 3e-3


class GroundingHead(nn.Module):
    """Queries against all cached keys; scores [rows, total]."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.query = nn.Linear(shape.hidden, shape.layers * shape.kv_heads * shape.head_dim, bias=False)
        self.offset = nn.Parameter(torch.tensor(-3.0))
        nn.init.normal_(self.query.weight, std=0.02)

    def forward(self, states, positions, keys, rows):
        """states [n, D] at positions [n]; keys: per layer [b, HK, s, d]; rows [n] into the batch."""
        shape = self.shape
        cos, sin = rope_tables(shape, positions)
        q = self.query(states).view(len(states), shape.layers, shape.kv_heads, shape.head_dim)
        scores = 0.0
        for layer, key in enumerate(keys):
            turned = rotate(q[:, layer, :, None], cos[:, None], sin[:, None])[:, :, 0]
            scores = scores + torch.einsum("nhd,nhsd->ns", turned, key[rows])
        return scores * shape.head_dim**-0.5 + self.offset


class SpanPacker(Packer):
    """A packer that remembers where each answer begins and which steps are its evidence."""

    def __init__(self, *args):
        super().__init__(*args)
        self.spans: list[tuple[object, int, tuple[int, int]]] = []

    def question(self, sample, scene, question, block, start, turn):
        end = super().question(sample, scene, question, block, start, turn)
        if question.evidence:
            self.spans.append((sample, sample.answers[-1][1][0], question.evidence))
        return end


def frame_scores(scores: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
    """Returns one score per frame [n, frames] from token scores [n, total] and visual places [n, frames * 9]."""
    return torch.logsumexp(scores.gather(1, visual).view(len(scores), -1, CELLS), -1)


def draw_batch(rng: Random, packer: SpanPacker, steps: int, pad: int) -> tuple[dict, list]:
    """Draws packed videos of `steps` frames with the evidence of their questions."""
    packer.spans.clear()
    samples = []
    for _ in range(VIDEOS):
        scene, duration = draw_clip(rng, steps)
        asked = draw_questions(rng, scene, dict.fromkeys(FAMILIES, 1.0), QUESTIONS)
        samples.append(packer.pack(rng, scene, duration, asked))
    arrays = collate(samples, pad)
    batch = {key: torch.from_numpy(arrays[key]) for key in ("ids", "positions", "codes")}
    batch["mask"] = torch.from_numpy(attention_mask(arrays["blocks"]))
    number = {id(sample): row for row, sample in enumerate(samples)}
    return batch, [(number[id(sample)], place, span) for sample, place, span in packer.spans]


def step_loss(model: ReelsightTiny, head: GroundingHead, batch: dict, spans: list, visual: torch.Tensor):
    """Returns the loss and the accuracy over frames."""
    tap: list = []
    with torch.no_grad():
        hidden, _ = model.model.text_model(embed(model, batch, visual), batch["positions"], batch["mask"], (), tap)
    rows = torch.tensor([row for row, _, _ in spans])
    places = torch.tensor([place for _, place, _ in spans])
    scores = head(hidden[rows, places], batch["positions"][rows, places], [key for _, key in tap], rows)
    shown = torch.stack([(codes >= 0).nonzero().squeeze(1) for codes in batch["codes"]])
    logits = frame_scores(scores, shown[rows])
    frames = torch.arange(logits.shape[1])
    wanted = torch.stack([((frames >= start) & (frames < end)).float() for _, _, (start, end) in spans])
    right = ((logits > 0) == (wanted > 0.5)).float().mean().item()
    return F.binary_cross_entropy_with_logits(logits, wanted), right


def train(model: ReelsightTiny, seconds: float, seed: int) -> GroundingHead:
    """Trains the head for so long, with the rate falling to zero."""
    words = tokenizer.build()
    model.requires_grad_(False)
    bank = build_bank(model, BANK_FRAMES, seed)
    packer, head, rng = SpanPacker(words), GroundingHead(model.shape), Random(f"ground {seed}")
    pad = words.token_to_id(tokenizer.PAD)
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
    began, step = time.monotonic(), 0
    while (share := (time.monotonic() - began) / seconds) < 1.0:
        optimiser.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / 20, 2 * (1 - share))
        steps = rng.choice((3, 4, 5, 6, 7, 8, 9, 10)) if rng.random() < 0.85 else rng.randrange(11, 25)
        batch, spans = draw_batch(rng, packer, steps, pad)
        loss, right = step_loss(model, head, batch, spans, bank.draw(batch["codes"][batch["codes"] >= 0]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 20 == 0:
            print(f"{share * seconds:.0f}s ground {step} loss {loss.item():.3f} frames {right:.3f}", flush=True)
    return head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="receives the head")
    parser.add_argument("--max-seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    saved = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    model = ReelsightTiny(Shape(**saved["shape"]))
    model.load_state_dict(saved["model"])
    head = train(model, args.max_seconds, args.seed)
    torch.save({**saved, "grounding": head.state_dict()}, args.checkpoint)


if __name__ == "__main__":
    main()
