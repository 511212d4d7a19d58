"""What transformers answers with the dequantised weights, and whether a folder's graphs answer the same.

    python -m convert.golden --source DIR/source --write        makes smollm2_golden.json (committed)
    python -m convert.golden --folder DIR/fp32                  compares; exit status 1 when a token differs
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from convert import source

FILE = Path(__file__).with_name("smollm2_golden.json")
NEW_TOKENS = 32
PROMPTS = (
    "What is gravity?",
    "Name three primary colours.",
    "Write one sentence about a river in autumn.",
    "The train left the harbour town at 7:45 and needed 95 minutes. When did it arrive?",
    "Translate to French: the red bicycle stands behind the house.",
    "List the numbers from 1 to 12, separated by commas.",
    "Give me a short recipe for tomato soup.",
    "Why do cats purr? Answer in two sentences.",
)


def write(gguf: Path) -> None:
    """Writes ids and greedy tokens of every prompt."""
    import torch

    from convert.smollm2 import as_published

    model, tokenizer = source.load(gguf)
    as_published(tokenizer)
    cases = []
    for prompt in PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False)
        cases.append({"prompt": prompt, "ids": ids, "tokens": out[0, len(ids) :].tolist()})
    rows = ",\n".join(json.dumps(case) for case in cases)
    FILE.write_text(f"[\n{rows}\n]\n", encoding="utf-8")


class Folder:
    """Greedy decoding with the graphs of a folder, one cache that grows, nothing clever."""

    def __init__(self, root: Path, threads: int = 0):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        graphs = root / "onnx"

        def load(path: Path):
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        embeds = sorted(graphs.glob("embed_tokens*.onnx"))
        [decoder] = graphs.glob("decoder_model_merged*.onnx" if embeds else "model*.onnx")
        self.embed = load(embeds[0]) if embeds else None
        self.decoder = load(decoder)
        self.past = [port for port in self.decoder.get_inputs() if port.name.startswith("past_key_values")]

    def step(self, ids: list[int], past: list[np.ndarray] | None, keep: int = 1):
        """Returns the logits [keep, vocabulary] and the cache."""
        begin = past[0].shape[2] if past else 0
        total = begin + len(ids)
        rows = np.asarray([ids], np.int64)
        feed = {"input_ids": rows} if self.embed is None else {
            "inputs_embeds": self.embed.run(None, {"input_ids": rows})[0]
        }
        feed["attention_mask"] = np.ones((1, total), np.int64)
        feed["position_ids"] = np.arange(begin, total, dtype=np.int64)[None]
        feed["num_logits_to_keep"] = np.asarray(keep, np.int64)
        empty = [np.zeros((1, port.shape[1], 0, port.shape[3]), np.float32) for port in self.past]
        feed |= {port.name: value for port, value in zip(self.past, past or empty, strict=True)}
        names = ["logits", *(port.name.replace("past_key_values", "present") for port in self.past)]
        logits, *present = self.decoder.run(names, feed)
        return logits[0], present

    def greedy(self, ids: list[int], count: int, stop: int = 2) -> list[int]:
        """Returns up to `count` tokens, the one that stops included."""
        tokens, past, new = [], None, ids
        while len(tokens) < count and stop not in tokens:
            logits, past = self.step(new, past)
            new = [int(logits[-1].argmax())]
            tokens += new
        return tokens


def main() -> None:
    """Writes or compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.write:
        write(source.fetch(args.source))
    if args.folder:
        folder, different = Folder(args.folder), 0
        for case in json.loads(FILE.read_text(encoding="utf-8")):
            same = folder.greedy(case["ids"], NEW_TOKENS) == case["tokens"]
            different += not same
            print("same" if same else "DIFFERENT", case["prompt"])
        sys.exit(different > 0)


if __name__ == "__main__":
    main()
