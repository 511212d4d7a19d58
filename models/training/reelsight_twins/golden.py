"""What transformers makes of the twins: ids, positions, pixels, logits, greedy tokens.

    python -m reelsight_twins.golden [FAMILY ...]     rewrites models/families/tests/golden

Needs the pinned transformers and torch; what it writes is committed, so that tests need neither.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.video_utils import VideoMetadata

from reelsight_twins import cases, twins
from reelsight_twins.graph import parameter
from reelsight_twins.mrope import max_all

OUT = Path(__file__).parents[2] / "families/tests/golden"
SEED = 0
NEW_TOKENS = 8
MODELS = {
    "llama": transformers.LlamaForCausalLM,
    "qwen2": transformers.Qwen2ForCausalLM,
    "qwen2_vl": transformers.Qwen2VLForConditionalGeneration,
    "qwen2_5_vl": transformers.Qwen2_5_VLForConditionalGeneration,
    "llava_onevision": transformers.LlavaOnevisionForConditionalGeneration,
    "idefics3": transformers.Idefics3ForConditionalGeneration,
    "smolvlm": transformers.SmolVLMForConditionalGeneration,
}
PIXELS = ("pixel_values", "pixel_values_videos")


def load(family: str, folder: Path):
    """Returns the model with the weights that the graphs of the twin have."""
    kind = MODELS[family]
    config = kind.config_class.from_pretrained(folder)
    model = kind(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(parameter(SEED, name, tuple(weight.shape))))
    return model


def messages(case: dict, plain: bool) -> list[dict]:
    """Returns the conversation as transformers takes it."""
    def content(text: str, media: list) -> object:
        return text if plain else [*({"type": medium["kind"]} for medium in media), {"type": "text", "text": text}]

    told = [{"role": "system", "content": content(case["system"], [])}] if case["system"] else []
    for turn in case["turns"]:
        told.append({"role": "user", "content": content(turn["question"], turn["media"])})
        if turn["answer"] is not None:
            told.append({"role": "assistant", "content": content(turn["answer"], [])})
    return told


def media(case: dict) -> tuple[list, list, list]:
    """Returns images, videos and what is known of the videos."""
    from PIL import Image

    images, videos, known = [], [], []
    for medium in (medium for turn in case["turns"] for medium in turn["media"]):
        size = medium["width"], medium["height"]
        if medium["kind"] == "image":
            images.append(Image.fromarray(cases.picture(medium["seed"], *size)))
            continue
        frames = [cases.picture(medium["seed"] + at, *size) for at in range(medium["frames"])]
        videos.append(np.stack(frames).transpose(0, 3, 1, 2))
        duration = medium["frames"] / medium["fps"]
        known.append(VideoMetadata(total_num_frames=len(frames), fps=medium["fps"], duration=duration))
    return images, videos, known


def inputs(processor, tokenizer, case: dict) -> tuple[dict, list[list[int]]]:
    """Returns what the model gets, and which frames of each video it sees."""
    if processor is None:
        text = tokenizer.apply_chat_template(messages(case, plain=True), tokenize=False, add_generation_prompt=True)
        return dict(tokenizer(text, add_special_tokens=False, return_tensors="pt")), []
    text = processor.apply_chat_template(messages(case, plain=False), add_generation_prompt=True)
    images, videos, known = media(case)
    # One list per conversation, as apply_chat_template gives it: some processors treat single images differently.
    kwargs = {"images": [images]} if images else {}
    if videos:
        kwargs |= {"videos": videos, "video_metadata": known, "do_sample_frames": True, "return_metadata": True}
    made = processor(text=[text], return_tensors="pt", **kwargs)
    made.pop("video_metadata", None)
    return dict(made), [[int(at) for at in one.frames_indices] for one in sampled(processor, videos, known)]


def sampled(processor, videos: list, known: list) -> list:
    """Returns what is known of the videos after sampling; not every processor hands it on."""
    if not videos:
        return []
    options = {"do_sample_frames": True, "return_metadata": True}
    return processor.video_processor(videos=videos, video_metadata=known, **options)["video_metadata"]


def greedy(model, given: dict, positions: torch.Tensor) -> list[int]:
    """Generates with given positions, one pass for each token: the slow way that depends on no cache."""
    ids, kinds, tokens = given["input_ids"], given["mm_token_type_ids"], []
    for _ in range(NEW_TOKENS):
        rest = {key: value for key, value in given.items() if key not in ("input_ids", "mm_token_type_ids")}
        rest["attention_mask"] = torch.ones_like(ids)
        out = model(input_ids=ids, position_ids=positions, mm_token_type_ids=kinds, use_cache=False, **rest)
        tokens.append(int(out.logits[0, -1].argmax()))
        if tokens[-1] in end_tokens(model):
            break
        ids = torch.cat([ids, torch.tensor([[tokens[-1]]])], dim=1)
        kinds = torch.cat([kinds, torch.zeros_like(kinds[:, :1])], dim=1)
        positions = torch.cat([positions, positions.max().reshape(1, 1, 1).expand(3, 1, 1) + 1], dim=2)
    return tokens


def end_tokens(model) -> list[int]:
    """Returns the ids that end an answer."""
    end = model.generation_config.eos_token_id
    return end if isinstance(end, list) else [end]


def told(values) -> str:
    """Numbers in one text: short, and readable in a diff."""
    return " ".join(str(int(value)) for value in values)


def run(model, processor, tokenizer, case: dict) -> tuple[list[dict], list[np.ndarray]]:
    """Runs one conversation; twice where two rules for positions differ."""
    given, seen = inputs(processor, tokenizer, case)
    ids = given["input_ids"][0].tolist()
    with torch.inference_mode():
        logits = model(**given).logits[0, -1].numpy()
        tokens = model.generate(**given, max_new_tokens=NEW_TOKENS, do_sample=False)[0, len(ids) :].tolist()
    pixels = b"".join(given[name].numpy().astype("<f4").tobytes() for name in PIXELS if name in given)
    made = {**case, "frames": [told(one) for one in seen], "ids": told(ids)}
    made |= {"pixels": hashlib.sha256(pixels).hexdigest() if pixels else None, "tokens": told(tokens)}
    if not hasattr(model, "model") or not hasattr(model.model, "get_rope_index"):
        return [made], [logits]
    names = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")
    grids = {name: given[name] for name in names if name in given}
    if model.config.model_type == "qwen2_vl":
        grids.pop("second_per_grid_ts", None)
    kinds = given["mm_token_type_ids"]
    positions = model.model.get_rope_index(given["input_ids"], kinds, attention_mask=given["attention_mask"], **grids)[0]
    made |= {"positions": [told(axis[0]) for axis in positions]}
    other = max_all(kinds[0].tolist(), grids, model.config.vision_config)
    if np.array_equal(other, positions[:, 0].numpy()):
        return [made], [logits]
    made["mrope_text_restart"] = "max_hw"
    with torch.inference_mode():
        places = torch.from_numpy(other)[:, None]
        rest = {key: value for key, value in given.items() if key != "position_ids"}
        logits_other = model(position_ids=places, **rest).logits[0, -1].numpy()
        tokens_other = greedy(model, rest, places)
    second = {**made, "positions": [told(axis) for axis in other], "mrope_text_restart": "max_all"}
    return [made, {**second, "tokens": told(tokens_other)}], [logits, logits_other]


def write(family: str) -> None:
    """Writes OUT/family.json and the last rows of logits as OUT/family.f32."""
    with tempfile.TemporaryDirectory() as folder:
        twins.FAMILIES[family](Path(folder), SEED)
        model = load(family, Path(folder))
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        sees = hasattr(model.config, "vision_config")
        processor = transformers.AutoProcessor.from_pretrained(folder) if sees else None
        made, logits = [], []
        told = cases.pictures(videos=hasattr(processor, "video_processor")) if sees else cases.texts()
        for case in told:
            rows, values = run(model, processor, tokenizer, case)
            made += rows
            logits += values
    OUT.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in made)
    (OUT / f"{family}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    np.concatenate(logits).astype("<f4").tofile(OUT / f"{family}.f32")
    print(f"{family}: {len(made)} cases")


def main() -> None:
    """Writes the families that were named, or all."""
    torch.set_num_threads(1)
    for family in sys.argv[1:] or MODELS:
        write(family)


if __name__ == "__main__":
    main()
