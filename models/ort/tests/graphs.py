"""Writes one small Llama of random weights as every kind of decoder graph, and what transformers says about it.

    python graphs.py OUT

OUT gets gqa.onnx, plain.onnx and gqa-implicit.onnx (the exporter of this repository), eager.onnx and sdpa.onnx (traced by
torch from transformers), and the observation of a prompt: ids.i64, embeds.f32, logits.f32, hidden.f32, mass.f32.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import transformers

from convert import bits, smollm2
from reelsight_training import onnx_decoder

LAYERS, OBSERVED = 2, 4
CONFIG = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "initializer_range": 0.3,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def llama(attention: str) -> transformers.LlamaForCausalLM:
    """Returns the model, the same weights for every attention."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**CONFIG, attn_implementation=attention)
    return transformers.LlamaForCausalLM(config).eval()


class Step(torch.nn.Module):
    """The call that exporters trace: a cache in, logits and a longer cache out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, position_ids, *past):
        """Runs one step."""
        cache = transformers.DynamicCache()
        for layer in range(LAYERS):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        present = [tensor for layer in out.past_key_values.layers for tensor in (layer.keys, layer.values)]
        return (out.logits, *present)


def trace(attention: str, path: Path) -> None:
    """Writes the graph that torch makes of transformers' own code."""
    pasts = [f"past_key_values.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    presents = [name.replace("past_key_values", "present") for name in pasts]
    ids, positions = torch.randint(0, 96, (2, 5)), torch.arange(3, 8)[None].expand(2, 5).contiguous()
    inputs = (ids, torch.ones(2, 8, dtype=torch.long), positions, *[torch.randn(2, 2, 3, 32) for _ in pasts])
    axes = {"input_ids": {0: "batch_size", 1: "sequence_length"}, "position_ids": {0: "batch_size", 1: "sequence_length"}}
    axes["attention_mask"] = {0: "batch_size", 1: "total_sequence_length"}
    axes |= {name: {0: "batch_size", 2: "past_sequence_length"} for name in pasts}
    axes |= {name: {0: "batch_size", 2: "total_sequence_length"} for name in presents}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Step(llama(attention)),
            inputs,
            path,
            input_names=["input_ids", "attention_mask", "position_ids", *pasts],
            output_names=["logits", *presents],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )


def observe(out: Path) -> None:
    """Writes what transformers computes for a prompt."""
    model = llama("eager")
    ids = torch.tensor([[(at * 7 + 3) % 96 for at in range(13)]])
    with torch.no_grad():
        seen = model(ids, output_attentions=True, output_hidden_states=True)
        embeds = model.model.embed_tokens(ids)
    # [layers, kv heads, keys]: mass of the last rows, averaged over the heads of a group.
    attention = torch.stack(seen.attentions)[:, 0, :, -OBSERVED:]
    mass = attention.reshape(LAYERS, 2, 2, OBSERVED, -1).sum(3).mean(2)
    for name, value in (("embeds", embeds), ("logits", seen.logits), ("hidden", seen.hidden_states[-1]), ("mass", mass)):
        (out / f"{name}.f32").write_bytes(value.numpy().astype(np.float32).tobytes())
    (out / "ids.i64").write_bytes(ids.numpy().tobytes())


def window(decoder: onnx.ModelProto, out: Path) -> None:
    """Writes a decoder that sees its last keys only and caps its scores, and its mass by hand in numpy."""
    span, cap, heads, groups, size = 5, 2.0, 4, 2, 32
    fused = [node for node in decoder.graph.node if node.op_type == "GroupQueryAttention"]
    for node in fused:
        node.attribute.append(onnx.helper.make_attribute("local_window_size", span))
        node.attribute.append(onnx.helper.make_attribute("softcap", cap))
    onnx.save(decoder, out / "window.onnx")
    for node in fused:
        decoder.graph.output.append(onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(decoder.SerializeToString(), providers=["CPUExecutionProvider"])
    embeds = np.frombuffer((out / "embeds.f32").read_bytes(), np.float32).reshape(1, -1, 64)
    length = embeds.shape[1]
    feed = {"inputs_embeds": embeds, "attention_mask": np.ones((1, length), np.int64)}
    feed |= {"position_ids": np.arange(length)[None], "num_logits_to_keep": np.asarray(0)}
    feed |= {name: np.zeros((1, groups, 0, size), np.float32) for node in fused for name in node.input[3:5]}
    mass = []
    for node in fused:
        query, key = session.run([node.input[0], node.output[1]], feed)
        query = query.reshape(length, heads, size).transpose(1, 0, 2)[:, -OBSERVED:]
        scores = query @ np.repeat(key[0], heads // groups, axis=0).transpose(0, 2, 1) * size**-0.5
        scores = cap * np.tanh(scores / cap)
        rows, keys = np.arange(length - OBSERVED, length)[:, None], np.arange(length)[None]
        weights = np.where((keys <= rows) & (keys > rows - span), np.exp(scores), 0)
        weights /= weights.sum(-1, keepdims=True)
        mass.append(weights.sum(1).reshape(groups, heads // groups, length).mean(1))
    (out / "window.f32").write_bytes(np.stack(mass).astype(np.float32).tobytes())


def main() -> None:
    """Writes everything."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    model = llama("eager")
    shape, state = smollm2.shape_of(model.config), smollm2.state_of(model)
    for form in onnx_decoder.FORMS:
        onnx.save(onnx_decoder.decoder(state, shape, form), out / f"{form}.onnx")
    beside = onnx_decoder.decoder(state, shape, "plain")
    onnx.save(beside, out / "beside.onnx", save_as_external_data=True, location="beside.onnx_data", size_threshold=1024)
    onnx.save(bits.quantize(onnx_decoder.decoder(state, shape, "plain"), 8), out / "q8.onnx")
    for attention in ("eager", "sdpa"):
        trace(attention, out / f"{attention}.onnx")
    observe(out)
    window(onnx_decoder.decoder(state, shape), out)


if __name__ == "__main__":
    main()
