"""Exports a checkpoint, or random weights, as a published three-part model folder.

    python -m reelsight_training.export --checkpoint C --out DIR
    python -m reelsight_training.export --random --seed 0 --out DIR --decoder plain

The graphs are written node by node, so there is no tracing and nothing to guess. With
`--random` the folder also holds model.safetensors, so that transformers loads it too.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch

from reelsight_training import folder, onnx_decoder, onnx_grounding, onnx_vision, tokenizer
from reelsight_training.model import ReelsightTiny, Shape, init_weights

# Wide enough that greedy text wanders, narrow enough that logits stay in a trained range.
RANDOM_STD = 0.12


def write_graphs(out: Path, state: dict[str, np.ndarray], shape: Shape, form: str, grounding: dict | None) -> None:
    """Writes the three graphs, and the grounding head where there is one, under out/onnx."""
    (out / "onnx").mkdir(parents=True, exist_ok=True)
    graphs = {
        "embed_tokens": onnx_vision.embed_tokens(state, shape),
        "vision_encoder": onnx_vision.vision_encoder(state, shape),
        "decoder_model_merged": onnx_decoder.decoder(state, shape, form),
    }
    if grounding:
        graphs["grounding"] = onnx_grounding.grounding(grounding, shape)
    for name, graph in graphs.items():
        onnx.save(graph, out / "onnx" / f"{name}.onnx")


def write_folder(
    out: Path, model: ReelsightTiny, form: str = "gqa", safetensors: bool = False, grounding: dict | None = None
) -> None:
    """Writes a whole model folder from the network's weights."""
    out.mkdir(parents=True, exist_ok=True)
    words = tokenizer.build()
    if words.get_vocab_size() != model.shape.vocab:
        raise ValueError(f"vocabulary of {words.get_vocab_size()} does not fit {model.shape.vocab}")
    folder.write_config(out, model.shape, words)
    folder.write_tokenizer(out, words)
    folder.write_processor(out, model.shape)
    folder.write_manifest(out)
    state = {key: value.detach().cpu().float().numpy() for key, value in model.state_dict().items()}
    write_graphs(out, state, model.shape, form, grounding)
    if safetensors:
        from safetensors.numpy import save_file

        arrays = {key: np.ascontiguousarray(value) for key, value in state.items()}
        save_file(arrays, out / "model.safetensors", metadata={"format": "pt"})
    folder.write_hashes(out)


def random_model(seed: int, shape: Shape) -> ReelsightTiny:
    """Builds the network with weights drawn from a seed."""
    model = ReelsightTiny(shape)
    init_weights(model, seed, RANDOM_STD)
    return model


def model_from_checkpoint(path: Path) -> ReelsightTiny:
    """Loads the network of a training checkpoint."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model = ReelsightTiny(Shape(**saved["shape"]))
    model.load_state_dict(saved["model"])
    return model


def grounding_from_checkpoint(path: Path) -> dict[str, np.ndarray] | None:
    """Loads the grounding head of a training checkpoint, if ground.py has trained one."""
    head = torch.load(path, map_location="cpu", weights_only=True).get("grounding")
    return head and {key: value.float().numpy() for key, value in head.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path)
    source.add_argument("--random", action="store_true", help="weights drawn from --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--decoder", choices=onnx_decoder.FORMS, default="gqa")
    parser.add_argument("--safetensors", action="store_true", help="also write model.safetensors")
    parser.add_argument("--layers", type=int, help="with --random: decoder layers")
    parser.add_argument("--hidden", type=int, help="with --random: decoder width")
    args = parser.parse_args()
    if args.random:
        sizes = {key: value for key in ("layers", "hidden") if (value := getattr(args, key))}
        model = random_model(args.seed, replace(Shape(), **sizes))
    else:
        model = model_from_checkpoint(args.checkpoint)
    grounding = grounding_from_checkpoint(args.checkpoint) if args.checkpoint else None
    write_folder(args.out, model, args.decoder, args.random or args.safetensors, grounding)


if __name__ == "__main__":
    main()
