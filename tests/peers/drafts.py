"""What guessing ahead brings and costs: SmolLM2-135M, one answer at a time, with guesses and without, in turns.

    make llm OUT=.data/smollm2
    cargo build --release -p reelsight-engine --example tokens
    .venv/bin/python tests/peers/drafts.py --models .data/smollm2 [--threads 2] [--rounds 5]

Three kinds of answers: one that copies its prompt, one that lists, one that tells. Prints, for each, the ratio of tokens per
second (median over the rounds of the ratio within one round), and whether the tokens are the same.
"""

import argparse
import json
import os
import pathlib
import statistics

from engines import ROOT, TOKENS, Peer
from tokenizers import Tokenizer

NEW = 128
PASSAGE = (
    "The camera in the yard saw a red van at 08:14, a dog at 08:20, and a person with a blue umbrella at 08:31. "
    "The van left at 08:52. The dog came back at 09:05 and stayed until 09:40."
)
QUESTIONS = {
    "copies": f"Repeat this text word for word, three times:\n{PASSAGE}",
    "lists": "List the numbers from one to fifty in words, separated by commas.",
    "tells": "Tell a story about a lighthouse keeper who finds a strange letter.",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    folder = options.models / "fp32"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    command = [str(TOKENS), str(folder), "--threads", str(options.threads), "--draft"]
    library = os.environ.get("ORT_DYLIB_PATH", str(ROOT / ".onnxruntime/libonnxruntime.so"))
    ratios, same = {name: [] for name in QUESTIONS}, dict.fromkeys(QUESTIONS, True)
    for _ in range(options.rounds):
        # What an answer taught must not help to write it again: each round begins without any tables.
        peers = {draft: Peer(f"draft {draft}", [*command, str(draft)], ORT_DYLIB_PATH=library) for draft in (0, 10)}
        for name, question in QUESTIONS.items():
            text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            answers = {draft: peer.ask([ids], NEW)["answers"][0] for draft, peer in peers.items()}
            speed = {draft: len(answer["tokens"]) / answer["generate"] for draft, answer in answers.items()}
            ratios[name].append(speed[10] / speed[0])
            same[name] &= answers[0]["tokens"] == answers[10]["tokens"]
        for peer in peers.values():
            peer.close()
    for name, rows in ratios.items():
        print(json.dumps({"answer": name, "speed_up": round(statistics.median(rows), 2), "same_tokens": same[name]}))


if __name__ == "__main__":
    main()
