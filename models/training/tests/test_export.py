"""Exported graphs agree with transformers, in every form of the decoder."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
transformers = pytest.importorskip("transformers")

from reelsight_training import prompt  # noqa: E402
from reelsight_training.export import random_model, write_folder  # noqa: E402
from reelsight_training.model import Shape  # noqa: E402
from reelsight_training.onnx_decoder import FORMS  # noqa: E402
from reelsight_training.weights import state_dict_from_onnx  # noqa: E402

SHAPE = replace(Shape(), layers=2)
STAMPS = [0, 1, 2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    out = {}
    for form in FORMS:
        out[form] = tmp_path_factory.mktemp(form)
        write_folder(out[form], random_model(3, SHAPE), form, safetensors=True)
    return out


@pytest.fixture(scope="module")
def reference(folders):
    folder = folders["gqa"]
    model = transformers.SmolVLMForConditionalGeneration.from_pretrained(folder).eval()
    return transformers.AutoProcessor.from_pretrained(folder), model


@pytest.fixture(scope="module")
def inputs(reference):
    processor, model = reference
    text = prompt.video_text(STAMPS, 3, 9) + "What color is the circle?" + prompt.ASK
    ids = processor.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    torch.manual_seed(1)
    pixels = torch.rand(1, len(STAMPS), 3, 96, 96) * 2 - 1
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=pixels).logits.numpy()
    return ids.numpy(), pixels.numpy(), logits


def session(folder, name):
    return onnxruntime.InferenceSession(str(folder / "onnx" / f"{name}.onnx"), providers=["CPUExecutionProvider"])


def embeds_of(folder, ids, pixels, image):
    mask = np.ones((1, pixels.shape[1], 96, 96), bool)
    feed = {"pixel_values": pixels, "pixel_attention_mask": mask}
    features = session(folder, "vision_encoder").run(None, feed)[0]
    embeds = session(folder, "embed_tokens").run(None, {"input_ids": ids})[0]
    embeds[ids == image] = features.reshape(-1, features.shape[-1])
    return embeds


def run(decoder, embeds, past, mask=None, keep=0):
    begin = past[0].shape[2] if past else 0
    total = begin + embeds.shape[1]
    feed = {
        "inputs_embeds": embeds,
        "attention_mask": np.ones((1, total), np.int64) if mask is None else mask,
        "num_logits_to_keep": np.asarray(keep, np.int64),
    }
    names = [value.name for value in decoder.get_inputs()]
    if "position_ids" in names:
        feed["position_ids"] = np.arange(begin, total, dtype=np.int64)[None]
    caches = [name for name in names if name.startswith("past")]
    empty = np.zeros((1, SHAPE.kv_heads, 0, SHAPE.head_dim), np.float32)
    feed |= dict(zip(caches, past or [empty] * len(caches), strict=True))
    outputs = ["logits", *(name.replace("past_key_values", "present") for name in caches)]
    logits, *present = decoder.run(outputs, feed)
    return logits, present


@pytest.mark.parametrize("form", FORMS)
def test_decoder_equals_transformers(folders, reference, inputs, form):
    ids, pixels, wanted = inputs
    embeds = embeds_of(folders[form], ids, pixels, reference[1].config.image_token_id)
    decoder = session(folders[form], "decoder_model_merged")
    full, _ = run(decoder, embeds, None)
    assert np.abs(full - wanted).max() < 2e-4
    assert (full.argmax(-1) == wanted.argmax(-1)).all()
    last, _ = run(decoder, embeds, None, keep=1)
    assert np.abs(last - full[:, -1:]).max() < 1e-5
    past, parts = None, []
    for begin in range(0, ids.shape[1], 37):
        part, past = run(decoder, embeds[:, begin : begin + 37], past)
        parts.append(part)
    assert np.abs(np.concatenate(parts, 1) - full).max() < 2e-5


@pytest.mark.parametrize("form", FORMS)
def test_mask_zeros_hide_keys(folders, reference, inputs, form):
    ids, pixels, _ = inputs
    model = reference[1]
    embeds = embeds_of(folders[form], ids, pixels, model.config.image_token_id)
    mask = np.ones_like(ids)
    mask[:, 30:50] = 0
    got, _ = run(session(folders[form], "decoder_model_merged"), embeds, None, mask, keep=1)
    positions = torch.arange(ids.shape[1])[None]
    with torch.no_grad():
        wanted = model(
            inputs_embeds=torch.from_numpy(embeds), attention_mask=torch.from_numpy(mask), position_ids=positions
        ).logits[:, -1:]
    assert np.abs(got - wanted.numpy()).max() < 2e-4


def test_partly_padded_frames(folders, reference, inputs):
    _, pixels, _ = inputs
    mask = np.ones((1, pixels.shape[1], 96, 96), bool)
    mask[:, :, 60:] = False
    mask[:, :, :, 40:] = False
    feed = {"pixel_values": pixels, "pixel_attention_mask": mask}
    got = session(folders["gqa"], "vision_encoder").run(None, feed)[0]
    with torch.no_grad():
        out = reference[1].model.get_image_features(torch.from_numpy(pixels), torch.from_numpy(mask))
    wanted = torch.cat(list(out.pooler_output)).numpy().reshape(got.shape)
    assert np.abs(got - wanted).max() < 2e-4


def test_processor_writes_the_training_prompt(reference):
    processor, _ = reference
    message = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Is there a star?"}]}]
    text = processor.apply_chat_template(message, add_generation_prompt=True)
    metadata = transformers.video_utils.VideoMetadata(total_num_frames=125, fps=25.0, duration=5.0)
    video = np.zeros((125, 120, 160, 3), np.uint8)
    out = processor(text=[text], videos=[video], video_metadata=[metadata], return_tensors="np")
    wanted = prompt.video_text([0, 1, 2, 3, 4], 5, 9) + "Is there a star?" + prompt.ASK
    assert processor.tokenizer.decode(out["input_ids"][0]) == wanted
    assert out["pixel_values"].shape == (1, 5, 3, 96, 96)


def test_weights_come_back_from_the_graphs(folders):
    state = state_dict_from_onnx(folders["gqa"])
    wanted = random_model(3, SHAPE).state_dict()
    assert set(state) == set(wanted)
    assert all(np.array_equal(state[key], wanted[key].numpy()) for key in wanted)
