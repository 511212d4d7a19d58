"""Tokenizers as published ones are, with few words: byte-level BPE, the true splitting rules, the true markers."""

import json
from pathlib import Path

WORDS = (
    " the What is in this video color are there How many objects circle square red blue green Describe picture"
    " image first second left right Yes No You helpful assistant user system Frame from series frames of and to a"
)
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def alphabet() -> list[str]:
    """Returns the letter that stands for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {}, 0
    for byte in range(256):
        letters[byte] = chr(byte) if byte in printable else chr(256 + extra)
        extra += byte not in printable
    return [letters[byte] for byte in range(256)]


def _merges(letters: list[str]) -> list[tuple[str, str]]:
    """Joins each word letter by letter from its start."""
    merges: list[tuple[str, str]] = []
    for word in WORDS.split():
        for text in (f" {word}", word):
            parts = [letters[byte] for byte in text.encode()]
            while len(parts) > 1:
                pair = (parts[0], parts[1])
                if pair not in merges:
                    merges.append(pair)
                parts[:2] = ["".join(pair)]
    return merges


def _pre_tokenizer(style: str) -> dict:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": style != "qwen"}
    if style == "qwen":
        split = {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated", "invert": False}
        return {"type": "Sequence", "pretokenizers": [split, level]}
    return {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]}


def write(out: Path, style: str, specials: list[str], named: dict, plain: tuple[str, ...] = ()) -> dict[str, int]:
    """Writes tokenizer.json and tokenizer_config.json; returns the ids of the markers.

    `named` are entries like eos_token, `plain` markers that are no control tokens.
    """
    letters = alphabet()
    merges = _merges(letters)
    vocab = {token: at for at, token in enumerate(sorted(letters))}
    for pair in merges:
        vocab.setdefault("".join(pair), len(vocab))
    ids = {token: len(vocab) + at for at, token in enumerate(specials)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": at, "content": token, **flags, "special": token not in plain} for token, at in ids.items()]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if style == "qwen" else None,
        "pre_tokenizer": _pre_tokenizer(style),
        "post_processor": None,
        "decoder": level,
        "model": {**model, "vocab": vocab, "merges": [list(pair) for pair in merges]},
    }
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **named}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return ids


def count(specials: list[str]) -> int:
    """Returns the size of the vocabulary with these markers."""
    letters = alphabet()
    return len({*letters, *("".join(pair) for pair in _merges(letters))}) + len(specials)
