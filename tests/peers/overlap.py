"""What overlapping decode, encode and prefill brings: the same ask with and without it, in turns, in one run.

    python tests/peers/overlap.py --binary target/release/reelsight [--pairs 5]

Prints wall time, time to first token and CPU-seconds of both, their medians and ratios: once with one thread per stage and
once with default threads. The clip is made with a real encoder; the frame rate is chosen so that no single stage is most of the work.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

CLIP = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=60", "-c:v", "libx264", "-g", "50", "-bf", "2",
        "-pix_fmt", "yuv420p"]


def ask(binary: str, clip: pathlib.Path, model: str, extra: list[str]) -> dict:
    """Wall, first-token and CPU seconds of one in-process ask, as the engine reports them."""
    before = os.times()
    run = subprocess.run([binary, "ask", str(clip), "How many objects are shown?", "--json", "--fps", "3",
                          "--max-frames", "180", "--model", model, *extra], capture_output=True, check=True)
    after = os.times()
    usage = json.loads(run.stdout)["usage"]
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": usage["wall_s"], "first_token_s": usage["first_token_s"], "cpu_s": cpu, "usage": usage}


def compare(binary: str, clip: pathlib.Path, model: str, name: str, threads: list[str], pairs: int):
    runs = {"overlapped": [], "serial": []}
    for _ in range(pairs):
        runs["serial"].append(ask(binary, clip, model, [*threads, "--no-overlap"]))
        runs["overlapped"].append(ask(binary, clip, model, threads))
    stages = {k: round(v, 3) for k, v in runs["serial"][0]["usage"].items() if k.endswith("_s")}
    print(f"\n### {name}\n\nserial stages of one run: {stages}\n")
    print("| | serial | overlapped | overlapped / serial |\n|---|---|---|---|")
    for key in ("wall_s", "first_token_s", "cpu_s"):
        serial, overlapped = (statistics.median(r[key] for r in runs[kind]) for kind in ("serial", "overlapped"))
        print(f"| {key} | {serial:.3f} | {overlapped:.3f} | {overlapped / serial:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--model", default="reelsight-tiny")
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = pathlib.Path(folder) / "clip.mp4"
        subprocess.run(["ffmpeg", "-v", "error", *CLIP, str(clip)], check=True)
        compare(args.binary, clip, args.model, "one thread per stage", ["--intra-threads", "1"], args.pairs)
        compare(args.binary, clip, args.model, "default threads", [], args.pairs)


if __name__ == "__main__":
    main()
