"""Evaluates an exported folder on an encoded evaluation set, in process.

    python -m reelsight_training.evaluate --model DIR --set DIR --out report.json

One question per video, greedy, exact match; beside each family's accuracy stand the share
of its most common answer, one over the number of its answers, and the blind run in which
every pixel is zero.
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from reelsight_training.runtime import Runtime, is_refusal, read_frames


def answer_all(runtime: Runtime, folder: Path, records: list[dict]) -> list[dict]:
    """Adds the model's answer and its blind answer to each record."""
    done = []
    for record in records:
        frames, stamps, duration = read_frames(folder / record["video"])
        pixels = runtime.pixels(frames)
        answers = {}
        for key, values in (("predicted", pixels), ("blind", np.zeros_like(pixels))):
            answers[key] = runtime.answer(runtime.features(values), stamps, duration, record["question"])
        done.append({**record, **answers})
    return done


def summarise(done: list[dict]) -> dict:
    """Returns accuracy and baselines per family, and how well refusals are placed."""
    families = defaultdict(list)
    for record in done:
        families[record["family"]].append(record)
    table = {}
    for family, records in families.items():
        answers = Counter(record["answer"] for record in records)
        count = len(records)
        table[family] = {
            "n": count,
            "accuracy": sum(record["predicted"] == record["answer"] for record in records) / count,
            "majority": answers.most_common(1)[0][1] / count,
            "one_over_n": 1 / len(answers),
            "blind": sum(record["blind"] == record["answer"] for record in records) / count,
        }
    refused = [record for record in done if is_refusal(record["predicted"])]
    absent = [record for record in done if is_refusal(record["answer"])]
    both = sum(is_refusal(record["answer"]) for record in refused)
    evidence = {
        "precision": both / len(refused) if refused else None,
        "recall": both / len(absent) if absent else None,
    }
    return {"families": table, "no_evidence": evidence, "questions": len(done)}


def markdown(summary: dict) -> str:
    """Formats a summary as the table of the model card."""
    lines = ["| family | n | accuracy | majority | 1/n | blind |", "|---|---|---|---|---|---|"]
    for family, row in summary["families"].items():
        shares = (row[key] for key in ("accuracy", "majority", "one_over_n", "blind"))
        lines.append(f"| {family} | {row['n']} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    lines = (args.set / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines][: args.limit]
    done = answer_all(Runtime(args.model), args.set, records)
    summary = summarise(done)
    print(markdown(summary))
    print(json.dumps(summary["no_evidence"]))
    if args.out:
        args.out.write_text(json.dumps({"summary": summary, "answers": done}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
