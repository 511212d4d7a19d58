"""Writes everything of a model folder that is not a graph: configuration, tokenizer, processor.

    python -m reelsight_training.folder DIR

rewrites SHA256SUMS after the card was edited.
"""

import hashlib
import json
import sys
from pathlib import Path

from reelsight_training import tokenizer as tok
from reelsight_training.lexicon import NOT_SHOWN
from reelsight_training.model import Shape, hf_config

CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% elif line['type'] == 'video' %}{{ '<video>' }}"
    "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
MAX_FRAMES = 32
FPS = 1


def special_ids(tokenizer) -> dict[str, int]:
    """Returns the ids of the tokens that the configuration names."""
    names = {"bos": tok.BOS, "eos": tok.EOS, "pad": tok.PAD, "image": tok.IMAGE}
    return {key: tokenizer.token_to_id(text) for key, text in names.items()}


def _dump(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _image_kwargs(shape: Shape) -> dict:
    return {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "do_pad": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "rescale_factor": 1 / 255,
        "resample": 1,
        "size": {"longest_edge": shape.image},
        "max_image_size": {"longest_edge": shape.image},
    }


def write_tokenizer(out: Path, tokenizer) -> None:
    """Writes tokenizer.json and the two files that describe it."""
    tokenizer.save(str(out / "tokenizer.json"))
    specials = {
        "bos_token": tok.BOS,
        "eos_token": tok.EOS,
        "pad_token": tok.PAD,
        "unk_token": tok.UNK,
    }
    extra = [tok.FAKE, tok.IMAGE, tok.GLOBAL, tok.VIDEO]
    _dump(out / "special_tokens_map.json", {**specials, "additional_special_tokens": extra})
    _dump(
        out / "tokenizer_config.json",
        {
            **specials,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "processor_class": "SmolVLMProcessor",
            "additional_special_tokens": extra,
            "extra_special_tokens": {
                "fake_image_token": tok.FAKE,
                "image_token": tok.IMAGE,
                "global_image_token": tok.GLOBAL,
                "end_of_utterance_token": tok.EOS,
                "video_token": tok.VIDEO,
            },
            "clean_up_tokenization_spaces": False,
            "model_max_length": 4096,
        },
    )


def write_processor(out: Path, shape: Shape) -> None:
    """Writes the preprocessor, processor and chat-template files."""
    images = _image_kwargs(shape)
    sampling = {"fps": FPS, "max_frames": MAX_FRAMES, "video_size": {"longest_edge": shape.image}}
    _dump(
        out / "preprocessor_config.json",
        {
            **images,
            "do_image_splitting": False,
            "image_processor_type": "SmolVLMImageProcessor",
            "processor_class": "SmolVLMProcessor",
            "video_sampling": sampling,
        },
    )
    _dump(
        out / "video_preprocessor_config.json",
        {
            **images,
            "do_sample_frames": True,
            "fps": FPS,
            "num_frames": MAX_FRAMES,
            "video_processor_type": "SmolVLMVideoProcessor",
            "processor_class": "SmolVLMProcessor",
            "video_sampling": sampling,
        },
    )
    processor = {"image_seq_len": shape.image_seq_len, "processor_class": "SmolVLMProcessor"}
    _dump(out / "processor_config.json", processor)
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def write_config(out: Path, shape: Shape, tokenizer) -> None:
    """Writes config.json and generation_config.json."""
    ids = special_ids(tokenizer)
    hf_config(shape, ids).save_pretrained(out)
    generation = {
        "_from_model_config": True,
        "bos_token_id": ids["bos"],
        "eos_token_id": [ids["eos"], ids["pad"]],
        "pad_token_id": ids["pad"],
        "max_new_tokens": 64,
    }
    _dump(out / "generation_config.json", generation)


def write_manifest(out: Path) -> None:
    """Writes reelsight.json: what no other file of the layout says, for whoever serves the model."""
    manifest = {
        "name": "reelsight-tiny",
        "license": "Apache-2.0",
        "no_evidence": [NOT_SHOWN],
        "default_fps": FPS,
        "default_max_frames": MAX_FRAMES,
    }
    _dump(out / "reelsight.json", manifest)


def write_hashes(out: Path) -> None:
    """Writes SHA256SUMS over every other file of the folder."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out).as_posix()}\n" for path in files
    ]
    (out / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_hashes(Path(sys.argv[1]))
