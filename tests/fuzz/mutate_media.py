"""Feeds mutated media files to `reelsight frames`: every run must end by itself, with frames or with a typed reason.

    python tests/fuzz/mutate_media.py --binary target/release/reelsight --count 2000 [--seed 0] [--seconds 150]

A crash (signal, exit code 1), a hang (over 30 s) or an untyped failure fails the run and keeps the file.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

SEEDS = {  # Real encoders and containers; small, so that thousands of runs fit into minutes.
    "h264.mp4": ["-c:v", "libx264", "-g", "25", "-bf", "2"],
    "frag.mp4": ["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov"],
    "hevc.mkv": ["-c:v", "libx265", "-x265-params", "log-level=error"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
    "mpeg2.ts": ["-c:v", "mpeg2video"],
    "mpeg4.avi": ["-c:v", "mpeg4"],
    "mjpeg.mov": ["-c:v", "mjpeg"],
    "anim.gif": [],
}


def make_seeds(folder: pathlib.Path) -> list[bytes]:
    for name, options in SEEDS.items():
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2",
                        "-pix_fmt", "yuv420p", *options, str(folder / name)] if name != "anim.gif" else
                       ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=5:duration=2",
                        str(folder / name)], check=True)
    return [(folder / name).read_bytes() for name in SEEDS]


def mutate(rng: random.Random, data: bytes) -> bytes:
    data = bytearray(data)
    kind = rng.randrange(5)
    if kind == 0:  # A truncated download.
        return bytes(data[: rng.randrange(len(data))])
    if kind == 1:  # A lost middle.
        start = rng.randrange(len(data))
        del data[start : start + rng.randrange(1, 4096)]
        return bytes(data)
    if kind == 2:  # Header bytes, where sizes and counts live.
        for _ in range(rng.randrange(1, 16)):
            data[rng.randrange(min(len(data), 2048))] = rng.randrange(256)
        return bytes(data)
    if kind == 3:  # A tail of zeros, as a crashed writer leaves it.
        start = rng.randrange(len(data))
        data[start:] = bytes(len(data) - start)
        return bytes(data)
    for _ in range(max(1, len(data) // 500)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def verdict(binary: str, path: pathlib.Path) -> str:
    """Empty when the run ended as it must."""
    try:
        run = subprocess.run([binary, "frames", str(path), "--count", "4", "--json"], capture_output=True, timeout=30)
    except subprocess.TimeoutExpired:
        return "hang"
    if run.returncode not in (0, 3):
        return f"exit code {run.returncode}: {run.stderr[-200:]!r}"
    document = json.loads(run.stdout)
    if run.returncode == 3 and not document["error"]["reason"].replace("_", "").isupper():
        return f"untyped failure: {document}"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    args = parser.parse_args()
    rng, end, bad, done, frames = random.Random(args.seed), time.monotonic() + args.seconds, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        seeds = make_seeds(folder)
        while done < args.count and time.monotonic() < end:
            path = folder / "mutant.bin"
            path.write_bytes(mutate(rng, rng.choice(seeds)))
            problem = verdict(args.binary, path)
            done += 1
            if problem:
                bad += 1
                kept = pathlib.Path(tempfile.gettempdir()) / f"reelsight-mutant-{args.seed}-{done}.bin"
                kept.write_bytes(path.read_bytes())
                print(f"{kept}: {problem}", file=sys.stderr)
    print(f"mutated media: {done} files, {bad} ended badly")
    sys.exit(1 if bad or not done else 0)


if __name__ == "__main__":
    main()
