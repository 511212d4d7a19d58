"""The language stage: losses, the heads that are thrown away, and the loop's one step.

Every question is "find the visual token with attribute A, read attribute B". With answers
as the only supervision that circuit comes late; the heads supervise its parts where they
must exist: times and motion in the visual tokens, the referent at the word that names it.
"""

from random import Random

import torch
from torch import nn
from torch.nn import functional as F

from reelsight_training.dataset import (
    HEADS,
    IGNORE,
    RELATIONS,
    Packer,
    attention_mask,
    code_parts,
    collate,
    draw_questions,
)
from reelsight_training.lexicon import COLUMNS, ROWS
from reelsight_training.model import ReelsightTiny, RmsNorm
from reelsight_training.questions import FAMILIES
from reelsight_training.world import CELLS, CODES, Scene, draw_scene

# Which decoder layer each head reads: early for the visual tokens, later for what reads them.
HEAD_LAYERS = {
    "second": 2,
    "minute": 2,
    "motion": 3,
    "order": 4,
    "count": 4,
    "exists": 3,
    "mention_first": 4,
    "mention_order": 5,
    "mention_motion": 4,
    "mention_shape": 3,
    "mention_colour": 3,
    "place": 5,
    "mention_place": 4,
    "digit": 3,
    "total": 5,
    "any_motion": 5,
    "extreme_shape": 5,
    "extreme_colour": 5,
}
KEEP = tuple(sorted(set(HEAD_LAYERS.values())))


class AuxiliaryHeads(nn.Module):
    """Linear readers of hidden states; they shape training and are never exported."""

    def __init__(self, hidden: int):
        super().__init__()
        self.norms = nn.ModuleDict({str(layer): RmsNorm(hidden) for layer in KEEP})
        self.readers = nn.ModuleDict({name: nn.Linear(hidden, size) for name, size in HEADS.items()})

    def forward(self, kept: dict, targets: dict) -> tuple[torch.Tensor, dict[str, float]]:
        """Returns the summed loss of the heads that have targets, and each one's accuracy."""
        losses, accuracy = [], {}
        for name, pairs in targets.items():
            if len(pairs) == 0:
                continue
            layer = HEAD_LAYERS[name]
            states = kept[layer].flatten(0, 1)[pairs[:, 0]]
            scores = self.readers[name](self.norms[str(layer)](states))
            losses.append(F.cross_entropy(scores, pairs[:, 1]))
            accuracy[name] = (scores.argmax(-1) == pairs[:, 1]).float().mean().item()
        return torch.stack(losses).sum(), accuracy


def look_loss(tap: list, looks: dict, mask: torch.Tensor, shape) -> tuple[torch.Tensor, dict[str, float]]:
    """Returns how far the designated heads look from where they should.

    The retrieval circuits are the hard part of this task: gradients that reach queries and
    keys only through a soft average over a hundred tokens are faint. Naming the tokens to
    look at teaches the match directly; what to do with the value is learned as usual.
    The number per relation is the attention mass on the right tokens.
    """
    losses, mass = [], {}
    groups = shape.heads // shape.kv_heads
    for name, table in looks.items():
        if len(table["rows"]) == 0:
            continue
        layer, head = RELATIONS[name]
        q, k = tap[layer]
        rows, places = table["rows"], table["places"]
        scores = (q[:, head] @ k[:, head // groups].transpose(1, 2)) * shape.head_dim**-0.5
        scores = scores[rows, places].masked_fill(~mask[rows, 0, places], float("-inf"))
        logs = F.log_softmax(scores, -1)
        wanted = table["wanted"]
        losses.append(-(wanted * logs.masked_fill(wanted == 0, 0.0)).sum(-1).mean())
        mass[name] = (logs.exp() * (wanted > 0)).sum(-1).mean().item()
    return torch.stack(losses).sum(), mass


class Codebook(nn.Module):
    """What a visual token of each (cell, content) should be: the words' own embeddings.

    A shape adds its word and its colour's word, a digit its token, and every cell the words
    of its row and column. The decoder learns on these first; the connector is then fitted.
    """

    def __init__(self, tokenizer, hidden: int):
        super().__init__()
        self.empty = nn.Parameter(torch.randn(hidden) * 0.7)
        self.glyph = nn.Parameter(torch.randn(hidden) * 0.7)
        words = []
        for code in range(CODES):
            kind, tint, digit = code_parts(code)
            texts = (str(digit), str(digit)) if digit is not None else (f" {kind}", f" {tint}")
            words.append([tokenizer.encode(text).ids[0] if text.strip() else 0 for text in texts])
        rows = [tokenizer.encode(f" {word}").ids[0] for word in ROWS]
        columns = [tokenizer.encode(f" {word}").ids[0] for word in COLUMNS]
        places = [(rows[cell // 3], columns[cell % 3]) for cell in range(CELLS)]
        self.register_buffer("place_words", torch.tensor(places), persistent=False)
        self.register_buffer("words", torch.tensor(words), persistent=False)
        digits = [code_parts(code)[2] is not None for code in range(CODES)]
        self.register_buffer("digits", torch.tensor(digits), persistent=False)

    def table(self, embedding: torch.Tensor) -> torch.Tensor:
        """Returns the vectors [CODES * 9, D]; row code * 9 + cell."""
        first, second = embedding[self.words[:, 0]], embedding[self.words[:, 1]]
        content = torch.where(self.digits[:, None], first + self.glyph, first + second)
        content = torch.cat([self.empty[None], content[1:]])
        places = embedding[self.place_words].sum(1)
        return (content[:, None] + places[None]).reshape(CODES * CELLS, -1)


def family_weights(accuracy: dict[str, float]) -> dict[str, float]:
    """Returns sampling weights: what is not yet right comes more often."""
    return {name: 0.03 + (1.0 - accuracy.get(name, 0.0)) for name in FAMILIES}


def draw_clip(rng: Random, steps: int) -> tuple[Scene, int]:
    """Draws a scene with its clock; one in eight does not start at zero."""
    scene = draw_scene(rng, steps)
    start = rng.randrange(1, rng.choice((30, 300, 3000))) if rng.random() < 0.12 else 0
    stride = rng.choice((2, 3)) if rng.random() < 0.05 else 1
    clip = Scene(scene.steps, scene.things, start, stride)
    return clip, min(start + steps * stride, 3599)


class Sampler:
    """Draws packed batches from a seed; the answers' accuracy steers the families."""

    def __init__(self, packer: Packer, seed: int, pad: int):
        self.packer, self.rng, self.pad = packer, Random(seed), pad
        self.accuracy: dict[str, float] = {}

    def batch(self, steps: int, videos: int, questions: int) -> dict:
        """Returns a batch of videos of `steps` frames as torch tensors."""
        weights = family_weights(self.accuracy)
        samples = []
        for _ in range(videos):
            scene, duration = draw_clip(self.rng, steps)
            asked = draw_questions(self.rng, scene, weights, questions)
            samples.append(self.packer.pack(self.rng, scene, duration, asked))
        arrays = collate(samples, self.pad)
        batch = {key: torch.from_numpy(arrays[key]) for key in ("ids", "positions", "labels", "codes")}
        batch["mask"] = torch.from_numpy(attention_mask(arrays["blocks"]))
        batch["targets"] = {key: torch.from_numpy(value) for key, value in arrays["targets"].items()}
        batch["looks"] = {
            name: {key: torch.from_numpy(value) for key, value in table.items()}
            for name, table in arrays["looks"].items()
        }
        batch["answers"] = arrays["answers"]
        return batch

    def record(self, answers, correct: torch.Tensor, decay: float = 0.995) -> None:
        """Updates the running exact-match accuracy of each family."""
        right = correct.tolist()
        for family, places in answers:
            hit = float(all(right[place] for place in places))
            before = self.accuracy.get(family)
            self.accuracy[family] = hit if before is None else decay * before + (1 - decay) * hit


def embed(model: ReelsightTiny, batch: dict, visual: torch.Tensor) -> torch.Tensor:
    """Returns input embeddings with the rows of the image tokens replaced by `visual`."""
    embeds = model.model.text_model.embed_tokens(batch["ids"])
    shown = batch["codes"] >= 0
    return embeds.masked_scatter(shown[..., None], visual.to(embeds.dtype))


def answer_loss(model: ReelsightTiny, hidden: torch.Tensor, batch: dict, eos: int):
    """Returns the answers' loss and, per flat position, whether the argmax was right."""
    labels = batch["labels"].flatten()
    places = (labels != IGNORE).nonzero().squeeze(1)
    logits = model.logits(hidden.flatten(0, 1)[places])
    wanted = labels[places]
    weight = torch.where(wanted == eos, 0.3, 1.0)
    loss = (F.cross_entropy(logits, wanted, reduction="none") * weight).sum() / weight.sum()
    correct = torch.zeros(labels.shape[0], dtype=torch.bool, device=labels.device)
    correct[places] = logits.argmax(-1) == wanted
    return loss, correct
