"""Fewer bits for the weights of a model folder: MatMul becomes MatMulNBits, by onnxruntime's own quantiser.

    python -m convert.bits --folder DIR --to q8 --out DIR-q8        (what `reelsight models quantize` runs)

Weights are stored in fewer bits. The fast kernel rounds activations, too, but block by block within a row: what else is
in a run does not matter to a row. Dynamic int8 takes one scale for all rows of a run, so that its answers depend on how a
prompt is cut into chunks; it is not offered. Bit for bit equal in all chunk sizes is neither: rounding makes much of the
last bits in which matrix products of other heights differ.

Prints one JSON document: bytes, decode speed, and how far the new decoder is from the old one along the answers that
the old one gives to a few prompts.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path

try:
    import numpy as np
    import onnx
    import onnxruntime
    import tokenizers
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
except ImportError as missing:
    print(f"a Python package is missing: {missing.name}", file=sys.stderr)
    sys.exit(3)

BITS = {"q4": 4, "q8": 8}
SUFFIX = {"q4": "_q4", "q8": "_quantized"}
STEMS = ("decoder_model_merged", "model", "vision_encoder", "embed_tokens")
DECODERS = ("decoder_model_merged", "model")
BLOCK = 32
# 4: the kernel may round activations to 8 bits block by block, row by row; the fast path of CPUs.
ACCURACY_LEVEL = 4
EXTERNAL_FROM = 64 << 20
PROMPTS = (
    "What is gravity?",
    "Name three primary colours.",
    "The train left the harbour town at 7:45 and needed 95 minutes. When did it arrive?",
    "Is there a red circle? Answer yes or no.",
)
NEW_TOKENS = 24


def quantize(model: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    """Returns the model with every MatMul by a constant as MatMulNBits."""
    logging.disable(logging.INFO)
    # 8 bits are enough for a symmetric grid, which needs no zero points; 4 bits want every level they can get.
    quantizer = MatMulNBitsQuantizer(
        model, bits=bits, block_size=BLOCK, is_symmetric=bits == 8, accuracy_level=ACCURACY_LEVEL
    )
    quantizer.process()
    return quantizer.model.model


def save(model: onnx.ModelProto, path: Path) -> None:
    """Writes a graph as published ones are: weights beside it in `<name>_data` once they are large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_name(f"{path.name}_data")
    data.unlink(missing_ok=True)
    large = model.ByteSize() > EXTERNAL_FROM
    onnx.save(model, path, save_as_external_data=large, location=data.name, size_threshold=1024)
    if large:
        data.chmod(0o644)


def graphs_of(folder: Path) -> Path:
    """Returns where the graphs of a folder lie."""
    return folder / "onnx" if (folder / "onnx").is_dir() else folder


def bytes_of(graph: Path) -> int:
    """Returns the size of a graph and of its weights."""
    return sum(path.stat().st_size for path in graph.parent.glob(f"{graph.name}*"))


class Decoder:
    """A decoder fed as its own inputs ask, with a cache that grows."""

    def __init__(self, graphs: Path, suffix: str):
        self.threads = onnxruntime.SessionOptions()
        self.threads.log_severity_level = 3
        found = [graphs / f"{stem}{suffix}.onnx" for stem in DECODERS]
        self.session = self._load(next(path for path in found if path.is_file()))
        embed = graphs / f"embed_tokens{suffix}.onnx"
        self.embed = self._load(embed) if embed.is_file() else None
        self.inputs = {port.name: port for port in self.session.get_inputs()}
        self.past = [name for name in self.inputs if name.startswith("past_key_values.")]

    def _load(self, path: Path):
        return onnxruntime.InferenceSession(path, self.threads, providers=["CPUExecutionProvider"])

    def step(self, ids: list[int], past: list[np.ndarray] | None):
        """Returns the logits of every new row and the cache."""
        begin = past[0].shape[2] if past else 0
        total = begin + len(ids)
        feed = {"attention_mask": np.ones((1, total), np.int64)}
        rows = np.asarray([ids], np.int64)
        if "input_ids" in self.inputs:
            feed["input_ids"] = rows
        else:
            feed["inputs_embeds"] = self.embed.run(None, {"input_ids": rows})[0]
        if "position_ids" in self.inputs:
            positions = np.arange(begin, total, dtype=np.int64)[None]
            axes = len(self.inputs["position_ids"].shape)
            feed["position_ids"] = positions if axes == 2 else np.repeat(positions[None], 3, axis=0)
        if "num_logits_to_keep" in self.inputs:
            feed["num_logits_to_keep"] = np.zeros(self.inputs["num_logits_to_keep"].shape, np.int64)
        if "use_cache_branch" in self.inputs:
            feed["use_cache_branch"] = np.asarray([begin > 0])
        if past is None:
            ports = [self.inputs[name] for name in self.past]
            kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
            past = [np.zeros((1, port.shape[1], 0, port.shape[3]), kinds[port.type]) for port in ports]
        feed |= dict(zip(self.past, past, strict=True))
        names = ["logits", *(name.replace("past_key_values", "present") for name in self.past)]
        logits, *present = self.session.run(names, feed)
        return logits[0].astype(np.float64), present

    def greedy(self, ids: list[int]) -> tuple[list[int], float]:
        """Returns the next tokens, and seconds per token."""
        logits, past = self.step(ids, None)
        tokens, begin = [int(logits[-1].argmax())], time.perf_counter()
        while len(tokens) < NEW_TOKENS:
            logits, past = self.step(tokens[-1:], past)
            tokens.append(int(logits[-1].argmax()))
        return tokens, (time.perf_counter() - begin) / (NEW_TOKENS - 1)

    def log_probabilities(self, ids: list[int]) -> np.ndarray:
        """Returns the log-softmax of every row."""
        logits, _ = self.step(ids, None)
        logits -= logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def compare(folder: Path, old: Decoder, new: Decoder) -> dict:
    """Returns speed and divergence along the old decoder's own answers."""
    words = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    divergence, same, seconds = [], [], {"fp32": [], "quantised": []}
    for prompt in PROMPTS:
        ids = words.encode(prompt).ids
        answer, pace = old.greedy(ids)
        seconds["fp32"].append(pace)
        seconds["quantised"].append(new.greedy(ids)[1])
        wanted = old.log_probabilities(ids + answer)[len(ids) - 1 : -1]
        found = new.log_probabilities(ids + answer)[len(ids) - 1 : -1]
        divergence += (np.exp(wanted) * (wanted - found)).sum(-1).tolist()
        same += (wanted.argmax(-1) == found.argmax(-1)).tolist()
    return {
        "prompts": len(PROMPTS),
        "tokens": len(same),
        "kl_mean": float(np.mean(divergence)),
        "kl_max": float(np.max(divergence)),
        "argmax_equal": float(np.mean(same)),
        "tokens_per_second": {name: float(1 / np.median(paces)) for name, paces in seconds.items()},
    }


def copy_rest(folder: Path, out: Path, to: str) -> None:
    """Copies configuration and tokenizer; the manifest says the new precision."""
    for path in folder.iterdir():
        if path.is_file() and path.suffix in (".json", ".jinja", ".md", ".txt", ".model") or path.name == "LICENSE":
            shutil.copyfile(path, out / path.name)
    manifest = out / "reelsight.json"
    fields = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    fields.pop("precisions", None)
    fields |= {"name": f"{fields.get('name', folder.resolve().name)}-{to}", "precision": to}
    manifest.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def convert(folder: Path, to: str, out: Path) -> dict:
    """Writes the quantised folder and returns the report."""
    graphs, target = graphs_of(folder), out / "onnx"
    target.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for stem in STEMS:
        origin, result = graphs / f"{stem}.onnx", target / f"{stem}{SUFFIX[to]}.onnx"
        if not origin.is_file():
            continue
        save(quantize(onnx.load(origin), BITS[to]), result)
        sizes[stem] = {"before": bytes_of(origin), "after": bytes_of(result)}
    if not any(stem in sizes for stem in DECODERS):
        raise SystemExit(f"{graphs} has no decoder in 32 bits: onnx/decoder_model_merged.onnx or onnx/model.onnx")
    grounding = graphs / "grounding.onnx"
    if grounding.is_file():
        shutil.copyfile(grounding, target / grounding.name)
    copy_rest(folder, out, to)
    compared = compare(folder, Decoder(graphs, ""), Decoder(target, SUFFIX[to]))
    return {"folder": os.fspath(out), "precision": to, "bytes": sizes, **compared}


def main() -> None:
    """Quantises one folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--to", choices=BITS, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(json.dumps(convert(args.folder, args.to, args.out)))


if __name__ == "__main__":
    main()
