"""The SmolLM2 converter: what it pins, and graphs that equal transformers on a small Llama of random weights."""

import hashlib
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
transformers = pytest.importorskip("transformers")

from convert import bits, golden, smollm2, source  # noqa: E402
from reelsight_training import onnx_decoder  # noqa: E402


@pytest.fixture(scope="module")
def small():
    config = transformers.LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        initializer_range=0.2,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("form", ["split", "whole"])
def test_graphs_equal_transformers(small, form, tmp_path):
    shape, state = smollm2.shape_of(small.config), smollm2.state_of(small)
    embed = smollm2.embedding(state, shape)
    if form == "split":
        bits.save(onnx_decoder.decoder(state, shape), tmp_path / "onnx" / "decoder_model_merged.onnx")
        bits.save(embed, tmp_path / "onnx" / "embed_tokens.onnx")
    else:
        whole = smollm2.from_ids(onnx_decoder.decoder(state, shape, "plain"), embed)
        bits.save(whole, tmp_path / "onnx" / "model.onnx")
    ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    folder = golden.Folder(tmp_path, threads=1)
    with torch.no_grad():
        wanted = small(torch.tensor([ids])).logits[0].numpy()
        tokens = small.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=95)
    logits, past = folder.step(ids[:7], None, keep=0)
    rest, _ = folder.step(ids[7:], past, keep=0)
    assert np.abs(np.concatenate([logits, rest]) - wanted).max() < 1e-4
    assert folder.greedy(ids, 12, stop=95) == tokens[0, len(ids) :].tolist()


def test_another_file_is_refused(tmp_path):
    (tmp_path / source.GGUF).write_bytes(b"GGUF")
    with pytest.raises(SystemExit, match="sha256 is " + hashlib.sha256(b"GGUF").hexdigest()):
        source.fetch(tmp_path)


def test_golden_answers_are_complete():
    cases = json.loads(golden.FILE.read_text())
    assert [case["prompt"] for case in cases] == list(golden.PROMPTS)
    for case in cases:
        assert case["ids"][0] == 1 and len(case["tokens"]) > 4
        assert len(case["tokens"]) == golden.NEW_TOKENS or case["tokens"][-1] == 2
