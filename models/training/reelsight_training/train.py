"""Trains the model, all stages, in slices that resume.

    python -m reelsight_training.train --out DIR [--resume] [--max-seconds N] [--threads N]
    python -m reelsight_training.train --out DIR --from-zoo models/zoo/reelsight-tiny

Stages: `words` teaches the decoder on visual tokens written with word embeddings; `tower`
teaches the tower to see; `fit` makes the connector speak the decoder's language; `see`
trains the decoder on what the frozen tower really says. Checkpoints are written every two
minutes, when the time is up and on SIGTERM; `--resume` continues from the last one.
"""

import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path
from random import Random

import torch
from torch import nn

from reelsight_training import tokenizer
from reelsight_training.bank import build_bank
from reelsight_training.dataset import RELATIONS, Packer
from reelsight_training.language import (
    KEEP,
    AuxiliaryHeads,
    Codebook,
    Sampler,
    answer_loss,
    embed,
    look_loss,
)
from reelsight_training.model import ReelsightTiny, Shape, init_weights
from reelsight_training.train_tower import TowerHeads, draw_frames, normalise, solve_connector, tower_loss
from reelsight_training.weights import state_dict_from_onnx

# Stage -> optimiser steps; --scale multiplies them.
STAGES = {"words": 700, "tower": 700, "fit": 400, "see": 4000}
RATES = {"words": 1.5e-3, "tower": 1.5e-3, "fit": 4e-4, "see": 1.2e-3}
BANK_FRAMES = 12000
SAVE_SECONDS = 120
LOG_STEPS = 50
HEAD_WEIGHT, LOOK_WEIGHT = 0.25, 0.3
WARMUP = 100
DECAY_SHARE = 0.3
TOKENS_PER_BATCH = 2200
QUESTIONS_PER_VIDEO = 7
EMBEDDING_RATE = 0.5
EMBEDDING_STD = 0.7


class Trainer:
    """Holds everything that a checkpoint holds, and runs the stages."""

    def __init__(self, out: Path, device: str, seed: int, scale: float, rate: float = 1.0):
        self.out, self.device, self.seed, self.scale, self.rate = out, device, seed, scale, rate
        words = tokenizer.build()
        self.pad, self.eos = words.token_to_id(tokenizer.PAD), words.token_to_id(tokenizer.EOS)
        torch.manual_seed(seed)
        self.model = ReelsightTiny(Shape()).to(device)
        init_model(self.model, seed)
        self.heads = AuxiliaryHeads(self.model.shape.hidden).to(device)
        self.codebook = Codebook(words, self.model.shape.hidden).to(device)
        self.tower_heads = TowerHeads(self.model.shape.tower_hidden, self.model.shape.hidden).to(device)
        self.sampler = Sampler(Packer(words), seed + 1, self.pad)
        self.stage, self.step, self.seconds = "words", 0, 0.0
        self.optimiser: torch.optim.Optimizer | None = None
        self.saved_optimiser: dict | None = None
        self.saved_at = time.monotonic()
        self.stopped = False

    def modules(self) -> dict[str, nn.Module]:
        """Returns the modules that a checkpoint stores."""
        return {
            "model": self.model,
            "heads": self.heads,
            "codebook": self.codebook,
            "tower_heads": self.tower_heads,
        }

    def save(self) -> None:
        """Writes last.pt atomically."""
        state = {name: module.state_dict() for name, module in self.modules().items()}
        state |= {
            "shape": self.model.shape.as_dict(),
            "stage": self.stage,
            "step": self.step,
            "seconds": self.seconds,
            "accuracy": dict(self.sampler.accuracy),
            "optimiser": self.optimiser.state_dict() if self.optimiser else None,
        }
        path = self.out / "last.pt"
        torch.save(state, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
        self.saved_at = time.monotonic()

    def load(self) -> None:
        """Continues from last.pt; the question stream restarts from a new seed."""
        state = torch.load(self.out / "last.pt", map_location=self.device, weights_only=True)
        for name, module in self.modules().items():
            module.load_state_dict(state[name])
        self.stage, self.step, self.seconds = state["stage"], state["step"], state["seconds"]
        self.sampler.accuracy = state["accuracy"]
        self.saved_optimiser = state["optimiser"]
        self.sampler.rng = Random(f"resume {self.seed} {self.stage} {self.step}")

    def load_zoo(self, folder: Path) -> None:
        """Starts the last stage from shipped weights with a fresh optimiser."""
        state = {key: torch.from_numpy(value) for key, value in state_dict_from_onnx(folder).items()}
        self.model.load_state_dict(state)
        self.stage = "see"

    def run(self, deadline: float) -> bool:
        """Runs the stages from where they stand; returns True when all are done."""
        names = list(STAGES)
        for name in names[names.index(self.stage) :]:
            if name != self.stage:
                self.stage, self.step, self.saved_optimiser = name, 0, None
            if not getattr(self, f"run_{name}")(deadline):
                self.save()
                return False
        self.save()
        return True

    def loop(self, groups: list[dict], deadline: float, one_step) -> bool:
        """Repeats `one_step` with a warmed-up, finally decaying rate; False when time is up."""
        total = int(STAGES[self.stage] * self.scale)
        rate = RATES[self.stage] * self.rate
        self.optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
        if self.saved_optimiser:
            self.optimiser.load_state_dict(self.saved_optimiser)
            self.saved_optimiser = None
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        began = time.monotonic()
        while self.step < total:
            if self.stopped or time.monotonic() > deadline:
                return False
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group.get("factor", 1.0) * rate_factor(self.step, total, self.stage == "words")
            self.optimiser.zero_grad(set_to_none=True)
            loss, report = one_step()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            self.optimiser.step()
            self.step += 1
            self.seconds += time.monotonic() - began
            began = time.monotonic()
            if self.step % LOG_STEPS == 0:
                print(f"{self.seconds:.0f}s {self.stage} {self.step}/{total} loss {loss.item():.3f} {report()}", flush=True)
            if time.monotonic() - self.saved_at > SAVE_SECONDS:
                self.save()
        return True

    def stop(self, *_) -> None:
        """Ends the slice after the current step: the handler of SIGTERM and SIGINT."""
        self.stopped = True

    def language_groups(self) -> list[dict]:
        """Returns decoder parameters; the embeddings move more slowly than the matrices."""
        table = [self.model.model.text_model.embed_tokens.weight, *self.codebook.parameters()]
        slow = {id(parameter) for parameter in table}
        rest = [*self.model.model.text_model.parameters(), *self.heads.parameters()]
        rest = [parameter for parameter in rest if id(parameter) not in slow]
        return [{"params": rest}, {"params": table, "factor": EMBEDDING_RATE}]

    def language_step(self, visual_of):
        """Runs one packed batch; `visual_of` maps keys (code * 9 + cell) to visual tokens."""
        steps = draw_frames_count(self.sampler.rng, self.step / (STAGES[self.stage] * self.scale), self.stage)
        videos = max(2, TOKENS_PER_BATCH // (170 + 17 * steps))
        batch = move(self.sampler.batch(steps, videos, QUESTIONS_PER_VIDEO), self.device)
        visual = visual_of(batch["codes"][batch["codes"] >= 0])
        tap: list = []
        inputs = embed(self.model, batch, visual)
        hidden, kept = self.model.model.text_model(inputs, batch["positions"], batch["mask"], KEEP, tap)
        answers, correct = answer_loss(self.model, hidden, batch, self.eos)
        heads, accuracy = self.heads(kept, batch["targets"])
        looks, mass = look_loss(tap, batch["looks"], batch["mask"], self.model.shape)
        self.sampler.record(batch["answers"], correct)

        def report() -> str:
            running = " ".join(f"{key}:{value:.2f}" for key, value in sorted(self.sampler.accuracy.items()))
            parts = " ".join(f"{key}:{value:.2f}" for key, value in {**accuracy, **prefixed(mass)}.items())
            return f"answers {answers.item():.3f} | {running} || {parts}"

        return answers + HEAD_WEIGHT * heads + LOOK_WEIGHT * looks, report

    def run_words(self, deadline: float) -> bool:
        """Teaches the decoder on the codebook."""

        def visual_of(keys):
            table = self.codebook.table(self.model.model.text_model.embed_tokens.weight)[keys]
            return table + 0.25 * EMBEDDING_STD * torch.randn_like(table)

        return self.loop(self.language_groups(), deadline, lambda: self.language_step(visual_of))

    def tower_groups(self) -> list[dict]:
        """Returns the parameters of tower, connector and their throw-away heads."""
        core = self.model.model
        modules = (core.vision_model, core.connector, self.tower_heads)
        return [{"params": [parameter for module in modules for parameter in module.parameters()]}]

    def run_tower(self, deadline: float, codebook: torch.Tensor | None = None) -> bool:
        """Teaches the tower dense labels, and the codebook's vectors when they are given."""
        rng = Random(f"tower {self.seed} {self.stage} {self.step}")

        def one_step():
            pixels, codes = draw_frames(rng, 48, self.model.shape.image)
            inputs = normalise(pixels).to(self.device), torch.from_numpy(codes).to(self.device)
            loss, right, distance = tower_loss(self.model, self.tower_heads, *inputs, codebook)
            return loss, lambda: f"accuracy {right:.3f} distance {distance:.3f}"

        return self.loop(self.tower_groups(), deadline, one_step)

    def run_fit(self, deadline: float) -> bool:
        """Fits the visual tokens to the codebook that the decoder has learnt."""
        with torch.no_grad():
            codebook = self.codebook.table(self.model.model.text_model.embed_tokens.weight)
        if self.step == 0:
            error = solve_connector(self.model, codebook, self.seed)
            print(f"connector solved, relative error {error:.3f}", flush=True)
        return self.run_tower(deadline, codebook)

    def run_see(self, deadline: float) -> bool:
        """Trains the decoder on the frozen tower's own tokens."""
        bank = build_bank(self.model, BANK_FRAMES, self.seed + self.step, self.device)
        return self.loop(self.language_groups(), deadline, lambda: self.language_step(bank.draw))


def init_model(model: ReelsightTiny, seed: int) -> None:
    """Initialises the network so that copying comes first.

    Embeddings are large beside what the layers add, so a word keeps its identity through
    the stack; the heads of RELATIONS begin as copies (values return where they came from)
    and the first head of each group of later layers begins by matching like with like.
    """
    init_weights(model, seed, 0.04)
    shape, text, tower = model.shape, model.model.text_model, model.model.vision_model
    groups, dim = shape.heads // shape.kv_heads, shape.head_dim
    with torch.no_grad():
        for layer in text.layers:
            layer.self_attn.o_proj.weight.mul_(0.5)
            layer.mlp.down_proj.weight.mul_(0.4)
        text.embed_tokens.weight.mul_(EMBEDDING_STD / 0.04)
        text.norm.weight.fill_(0.15 / EMBEDDING_STD)
        for layer in text.layers[1:]:
            query = layer.self_attn.q_proj.weight.view(shape.heads, dim, -1)
            key = layer.self_attn.k_proj.weight.view(shape.kv_heads, dim, -1)
            key.mul_(1.4)
            query[::groups] = key
        for index, head in RELATIONS.values():
            attention = text.layers[index].self_attn
            value = attention.v_proj.weight.view(shape.kv_heads, dim, -1)[head // groups]
            back = torch.linalg.pinv(value.double()).to(value.dtype)
            attention.o_proj.weight[:, head * dim : (head + 1) * dim] = 0.5 * back
        for parameter in tower.encoder.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
        patch = tower.embeddings.patch_embedding.weight
        nn.init.xavier_uniform_(patch.view(patch.shape[0], -1))
        nn.init.normal_(tower.embeddings.position_embedding.weight, std=0.02)
        nn.init.xavier_uniform_(model.model.connector.modality_projection.proj.weight)


def rate_factor(step: int, total: int, constant: bool) -> float:
    """Returns the learning-rate factor: warm-up, constant, then a cosine to a twentieth."""
    warm = min(1.0, (step + 1) / WARMUP)
    begin = total * (1 - DECAY_SHARE)
    if constant or step < begin:
        return warm
    share = (step - begin) / max(1.0, total - begin)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share))


def draw_frames_count(rng: Random, progress: float, stage: str) -> int:
    """Draws how many frames the clips of a batch have: short first, long late."""
    if stage == "words" and progress < 0.2:
        return rng.choice((1, 2, 2))
    if stage == "words" and progress < 0.5:
        return rng.choice((1, 2, 3, 4))
    if stage == "words" or progress < 0.3:
        return rng.choice((2, 3, 4, 5, 6))
    return rng.choice((3, 4, 5, 6, 7, 8, 9, 10)) if rng.random() < 0.85 else rng.randrange(11, 25)


def prefixed(mass: dict[str, float]) -> dict[str, float]:
    """Marks attention masses in the log."""
    return {f"@{name}": value for name, value in mass.items()}


def move(batch: dict, device: str) -> dict:
    """Moves the tensors of a batch, however deep, to a device."""
    if device == "cpu":
        return batch
    moved = {}
    for key, value in batch.items():
        if isinstance(value, dict):
            moved[key] = move(value, device)
        else:
            moved[key] = value.to(device) if isinstance(value, torch.Tensor) else value
    return moved


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--from-zoo", type=Path, help="start the last stage from a shipped folder")
    parser.add_argument("--max-seconds", type=float, default=float("inf"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of every stage")
    parser.add_argument("--rate", type=float, default=1.0, help="multiplies the learning rates")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    args.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(args.out, device, args.seed, args.scale, args.rate)
    if args.resume and (args.out / "last.pt").exists():
        trainer.load()
    elif args.from_zoo:
        trainer.load_zoo(args.from_zoo)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, trainer.stop)
    done = trainer.run(time.monotonic() + args.max_seconds)
    print("finished" if done else f"stopped in stage {trainer.stage}; continue with --resume", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
