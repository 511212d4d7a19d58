"""Writes sampling.json: rows of logits before and after transformers' processors, and numbers of numpy's Philox.

    .venv/bin/python models/engine/tests/golden/sampling.py

Written with transformers 5.23, torch 2.15, numpy 2.
"""

import json
from pathlib import Path

import numpy as np
import torch
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


def counts(ids: list[int], size: int) -> torch.Tensor:
    return torch.bincount(torch.tensor(ids, dtype=torch.long), minlength=size).float()


def processed(logits: list[float], settings: dict, prompt: list[int], generated: list[int]) -> list[float | None]:
    ids = torch.tensor([prompt + generated], dtype=torch.long)
    scores = torch.tensor([logits], dtype=torch.float32)
    if "repetition_penalty" in settings:
        scores = RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"])(ids, scores)
    # OpenAI's formula: mu[j] - c[j] * frequency - float(c[j] > 0) * presence, c counting sampled tokens.
    count = counts(generated, len(logits))
    scores = scores - count * settings.get("frequency_penalty", 0.0)
    scores = scores - (count > 0).float() * settings.get("presence_penalty", 0.0)
    warpers = [
        ("temperature", TemperatureLogitsWarper),
        ("top_h", TopHLogitsWarper),
        ("top_k", TopKLogitsWarper),
        ("top_p", TopPLogitsWarper),
        ("min_p", MinPLogitsWarper),
    ]
    for name, warper in warpers:
        if name in settings:
            scores = warper(settings[name])(ids, scores)
    return [None if value == float("-inf") else round(value, 6) for value in scores[0].tolist()]


def main() -> None:
    rng = np.random.default_rng(1)

    def row(size: int, scale: float) -> list[float]:
        # Exact in JSON, and no two alike: which of equals torch takes first is nowhere said.
        values = {round(float(value) * 4096) / 4096 for value in rng.normal(0, scale, 2 * size)}
        return rng.permutation(sorted(values))[:size].tolist()

    logits = {"flat": row(40, 0.5), "peaked": row(40, 3.0), "wide": row(160, 1.5), "sharp": row(40, 12.0)}
    settings = [
        {},
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_k": 1},
        {"top_p": 0.9},
        {"top_p": 0.05},
        {"min_p": 0.1},
        {"top_h": 0.4},
        {"top_h": 0.9},
        {"repetition_penalty": 1.3},
        {"frequency_penalty": 0.5, "presence_penalty": 0.25},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
        {
            "temperature": 0.8,
            "top_h": 0.8,
            "top_k": 30,
            "top_p": 0.95,
            "min_p": 0.02,
            "repetition_penalty": 1.1,
            "frequency_penalty": -0.2,
            "presence_penalty": 0.3,
        },
    ]
    rows = []
    for name, values in logits.items():
        for setting in settings:
            prompt = rng.integers(0, len(values), 6).tolist()
            generated = rng.integers(0, len(values), 9).tolist()
            rows.append(
                {
                    "logits": name,
                    "settings": setting,
                    "prompt": prompt,
                    "generated": generated,
                    "scores": processed(values, setting, prompt, generated),
                }
            )
    philox = []
    for counter, key in [([0, 0, 0, 0], [0, 0]), ([5, 0, 0, 0], [7, 0]), ([2**63, 1, 2, 3], [2**64 - 1, 9])]:
        # numpy counts up before it draws.
        whole = sum(word << (64 * at) for at, word in enumerate(counter)) - 1
        before = [(whole >> (64 * at)) & (2**64 - 1) for at in range(4)]
        bits = np.random.Philox(counter=np.array(before, dtype=np.uint64), key=np.array(key, dtype=np.uint64))
        words = [str(int(word)) for word in bits.random_raw(4)]
        philox.append({"counter": [str(w) for w in counter], "key": [str(w) for w in key], "words": words})
    out = Path(__file__).with_suffix(".json")
    lines = [json.dumps({"logits": logits}), json.dumps({"philox": philox}), json.dumps({"rows": rows})]
    out.write_text("{" + ",\n".join(line[1:-1] for line in lines) + "}\n")


if __name__ == "__main__":
    main()
