"""Whole model folders, one per family.

    python -m reelsight_twins.twins qwen2_5_vl OUT [--seed 0]
"""

import argparse
import json
from pathlib import Path

import onnx

from reelsight_twins import words
from reelsight_twins.decoder import Text, decoder, embed_tokens
from reelsight_twins.qwen_vision import Vision, vision_encoder
from reelsight_twins.siglip import Tower, idefics_encoder, llava_encoder

CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN = [*CHATML, "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
QWEN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + part['text'] }}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
IDEFICS_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def dump(path: Path, value: dict) -> None:
    """Writes JSON."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def save(out: Path, **graphs) -> None:
    """Writes graphs under out/onnx."""
    (out / "onnx").mkdir(parents=True, exist_ok=True)
    for name, graph in graphs.items():
        onnx.checker.check_model(graph)
        onnx.save(graph, out / "onnx" / f"{name}.onnx")


def text_config(text: Text, kind: str) -> dict:
    """Returns what every decoder's configuration says."""
    return {
        "model_type": kind,
        "vocab_size": text.vocab,
        "hidden_size": text.hidden,
        "intermediate_size": text.inner,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": text.epsilon,
        "rope_theta": text.theta,
        "tie_word_embeddings": False,
    }


def generation(out: Path, ids: dict[str, int], end: list[str]) -> None:
    """Writes generation_config.json."""
    dump(out / "generation_config.json", {"eos_token_id": [ids[token] for token in end], "pad_token_id": 0})


def llama(out: Path, seed: int) -> None:
    """A text decoder without biases, one graph that takes input_ids."""
    ids = words.write(out, "llama", CHATML, {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"})
    text = Text(vocab=words.count(CHATML), prefix="model", bias=False, epsilon=1e-5)
    config = {"architectures": ["LlamaForCausalLM"], **text_config(text, "llama"), "attention_bias": False}
    dump(out / "config.json", config)
    (out / "chat_template.jinja").write_text(TEXT_TEMPLATE, encoding="utf-8")
    generation(out, ids, ["<|im_end|>"])
    save(out, model=decoder(text, seed, "plain", keep=False, embed=True))


def qwen2(out: Path, seed: int) -> None:
    """A text decoder with biases, embedding and decoder apart, grouped attention."""
    ids = words.write(out, "qwen", CHATML, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    text = Text(vocab=words.count(CHATML), prefix="model")
    dump(out / "config.json", {"architectures": ["Qwen2ForCausalLM"], **text_config(text, "qwen2")})
    (out / "chat_template.jinja").write_text(TEXT_TEMPLATE, encoding="utf-8")
    generation(out, ids, ["<|im_end|>", "<|endoftext|>"])
    save(out, embed_tokens=embed_tokens(text, seed), decoder_model_merged=decoder(text, seed, "gqa"))


def _qwen_processor(out: Path, kind: str) -> None:
    values = {
        "min_pixels": 56 * 56,
        "max_pixels": 28 * 28 * 16,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "resample": 3,
    }
    processor = "Qwen2_5_VLProcessor" if kind == "qwen2_5_vl" else "Qwen2VLProcessor"
    shared = {**values, "processor_class": processor}
    dump(out / "preprocessor_config.json", {**shared, "image_processor_type": "Qwen2VLImageProcessor"})
    videos = {"video_processor_type": "Qwen2VLVideoProcessor", "max_pixels": 28 * 28 * 6}
    videos |= {"cap_pixels_per_frame": False, "do_sample_frames": True, "fps": 2}
    dump(out / "video_preprocessor_config.json", {**shared, **videos, "min_frames": 4, "max_frames": 16})


def _qwen_vl(out: Path, seed: int, kind: str) -> None:
    ids = words.write(out, "qwen", QWEN, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    timed = kind == "qwen2_5_vl"
    text = Text(vocab=words.count(QWEN), prefix="model.language_model", sections=(2, 3, 3))
    shape = Vision(out=text.hidden, timed=timed)
    vision = {"depth": shape.depth, "num_heads": shape.heads, "patch_size": 14, "in_channels": 3}
    vision |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "model_type": kind}
    if timed:
        vision |= {"hidden_size": shape.hidden, "intermediate_size": shape.inner, "out_hidden_size": shape.out}
        vision |= {"window_size": shape.window, "fullatt_block_indexes": [1], "hidden_act": "silu"}
        vision |= {"tokens_per_second": 2}
    else:
        vision |= {"embed_dim": shape.hidden, "hidden_size": shape.out, "mlp_ratio": shape.inner // shape.hidden}
    scaling = {"type": "mrope", "mrope_section": list(text.sections)}
    marks = {f"{name}_token_id": ids[f"<|{token}|>"] for name, token in (
        ("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"), ("vision_end", "vision_end")
    )}
    name = "Qwen2_5_VLForConditionalGeneration" if timed else "Qwen2VLForConditionalGeneration"
    config = {"architectures": [name], **text_config(text, kind), "rope_scaling": scaling, "vision_config": vision}
    dump(out / "config.json", {**config, **marks})
    (out / "chat_template.jinja").write_text(QWEN_TEMPLATE, encoding="utf-8")
    _qwen_processor(out, kind)
    generation(out, ids, ["<|im_end|>", "<|endoftext|>"])
    save(
        out,
        embed_tokens=embed_tokens(text, seed),
        vision_encoder=vision_encoder(shape, seed, "image_grid_thw" if timed else "grid_thw"),
        decoder_model_merged=decoder(text, seed, "gqa" if timed else "plain", keep=timed),
    )


def qwen2_vl(out: Path, seed: int) -> None:
    """Qwen2-VL: plain attention, no choice of logits, as the older exports are."""
    _qwen_vl(out, seed, "qwen2_vl")


def qwen2_5_vl(out: Path, seed: int) -> None:
    """Qwen2.5-VL: grouped attention."""
    _qwen_vl(out, seed, "qwen2_5_vl")


def _siglip(tower: Tower) -> dict:
    return {
        "hidden_size": tower.hidden,
        "intermediate_size": tower.inner,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "image_size": tower.image,
        "patch_size": tower.patch,
    }


def llava_onevision(out: Path, seed: int, newline: bool = True) -> None:
    """LLaVA-OneVision; without `newline` as the published exports are."""
    specials = [*CHATML, "<image>", "<video>"]
    ids = words.write(out, "qwen", specials, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    text = Text(vocab=words.count(specials), prefix="model.language_model")
    tower = Tower(out=text.hidden, prefix="model.vision_tower", image=70)
    vision = {"model_type": "siglip_vision_model", **_siglip(tower), "vision_use_head": False}
    sizes = [[70 * rows, 70 * columns] for rows in range(1, 4) for columns in range(1, 4)]
    config = {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "model_type": "llava_onevision",
        "image_token_index": ids["<image>"],
        "video_token_index": ids["<video>"],
        "image_grid_pinpoints": sizes,
        "vision_aspect_ratio": "anyres_max_2",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": False,
        "text_config": text_config(text, "qwen2"),
        "vision_config": vision,
    }
    dump(out / "config.json", config)
    (out / "chat_template.jinja").write_text(LLAVA_TEMPLATE, encoding="utf-8")
    square = {"height": tower.image, "width": tower.image}
    values = {"size": square, "image_mean": CLIP_MEAN, "image_std": CLIP_STD, "resample": 3}
    images = {"image_processor_type": "LlavaOnevisionImageProcessor", "image_grid_pinpoints": sizes}
    dump(out / "preprocessor_config.json", {**values, **images})
    videos = {"video_processor_type": "LlavaOnevisionVideoProcessor", "do_sample_frames": True, "num_frames": 4}
    dump(out / "video_preprocessor_config.json", {**values, **videos})
    processor = {"processor_class": "LlavaOnevisionProcessor", "num_image_tokens": tower.side**2}
    processor |= {"vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_2"}
    dump(out / "processor_config.json", processor)
    generation(out, ids, ["<|im_end|>"])
    save(
        out,
        embed_tokens=embed_tokens(text, seed),
        vision_encoder=llava_encoder(tower, seed, newline),
        decoder_model_merged=decoder(text, seed, "plain"),
    )


def _idefics(out: Path, seed: int, kind: str, name: str, videos: bool) -> None:
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    marks = ["<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>", *rows]
    specials = [*CHATML, *marks]
    named = {"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>"}
    ids = words.write(out, "llama", specials, named)
    text = Text(vocab=words.count(specials), prefix="model.text_model", bias=False, epsilon=1e-5)
    tower = Tower(out=text.hidden, prefix="model.vision_model", image=56)
    config = {
        "architectures": [f"{name}ForConditionalGeneration"],
        "model_type": kind,
        "image_token_id": ids["<image>"],
        "pad_token_id": ids["<|im_end|>"],
        "scale_factor": tower.scale,
        "tie_word_embeddings": False,
        "text_config": text_config(text, "llama"),
        "vision_config": {"model_type": f"{kind}_vision" if videos else kind, **_siglip(tower)},
    }
    dump(out / "config.json", config)
    (out / "chat_template.jinja").write_text(IDEFICS_TEMPLATE, encoding="utf-8")
    values = {"size": {"longest_edge": 168}, "max_image_size": {"longest_edge": 56}, "resample": 1}
    values |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_image_splitting": True, "do_pad": True}
    dump(out / "preprocessor_config.json", {**values, "image_processor_type": f"{name}ImageProcessor"})
    if videos:
        sampling = {"fps": 1, "max_frames": 8, "video_size": {"longest_edge": 112}}
        values |= {"video_processor_type": f"{name}VideoProcessor", "video_sampling": sampling}
        values |= {"do_sample_frames": True, "fps": 1, "num_frames": 8}
        dump(out / "video_preprocessor_config.json", values)
    dump(out / "processor_config.json", {"processor_class": f"{name}Processor", "image_seq_len": 4})
    generation(out, ids, ["<end_of_utterance>"])
    save(
        out,
        embed_tokens=embed_tokens(text, seed),
        vision_encoder=idefics_encoder(tower, seed),
        decoder_model_merged=decoder(text, seed, "gqa"),
    )


def idefics3(out: Path, seed: int) -> None:
    """Idefics3: images alone."""
    _idefics(out, seed, "idefics3", "Idefics3", videos=False)


def smolvlm(out: Path, seed: int) -> None:
    """SmolVLM2: images and videos."""
    _idefics(out, seed, "smolvlm", "SmolVLM", videos=True)


FAMILIES = {"llama": llama, "qwen2": qwen2, "qwen2_vl": qwen2_vl, "qwen2_5_vl": qwen2_5_vl}
FAMILIES |= {"llava_onevision": llava_onevision, "idefics3": idefics3, "smolvlm": smolvlm}


def main() -> None:
    """Writes one folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--published", action="store_true", help="llava_onevision without image_newline")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.published:
        llava_onevision(args.out, args.seed, newline=False)
    else:
        FAMILIES[args.family](args.out, args.seed)


if __name__ == "__main__":
    main()
