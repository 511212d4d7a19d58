"""Feeds mutated media files to `reelsight frames`: every run must end by itself, with frames or with a typed reason.
Then the same files to one long-lived server, which must stay alive and give back every worker and descriptor.

    python tests/fuzz/mutate_media.py --binary target/release/reelsight --count 2000 [--seed 0] [--seconds 150] [--asks 200]

Mutations: bit flips, truncation, lost and swapped stretches (packets, in a transport stream), zeroed tails, header
bytes, and boxes of one MP4 spliced into another. A crash (signal, exit code 1), a hang (over 30 s) or an untyped failure
fails the run and keeps the file.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

SEEDS = {  # Real encoders and containers; small, so that thousands of runs fit into minutes.
    "h264.mp4": ["-c:v", "libx264", "-g", "25", "-bf", "2"],
    "open.ts": ["-c:v", "libx264", "-bf", "2", "-x264-params", "open-gop=1:keyint=12:min-keyint=12:scenecut=0"],
    "frag.mp4": ["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov"],
    "hevc.mkv": ["-c:v", "libx265", "-x265-params", "log-level=error"],
    "hevc.mp4": ["-c:v", "libx265", "-x265-params", "log-level=error:keyint=12"],
    "av1.mp4": ["-c:v", "libsvtav1", "-preset", "12", "-g", "20"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
    "vp8.webm": ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"],
    "mpeg2.ts": ["-c:v", "mpeg2video"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-bf", "2"],
    "mjpeg.mov": ["-c:v", "mjpeg"],
    "prores.mov": ["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"],
    "bare.h264": ["-c:v", "libx264", "-bf", "2", "-g", "12"],
    "flash.flv": ["-c:v", "libx264", "-g", "12"],
    "anim.gif": ["-r", "5"],
}
SMALLEST = 64
CONTAINER_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex", b"dinf"}


def make_seeds(folder: pathlib.Path) -> dict[str, bytes]:
    for name, options in SEEDS.items():
        pixels = [] if name == "anim.gif" else ["-pix_fmt", "yuv420p"]
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2",
                        *pixels, *options, str(folder / name)], check=True, stderr=subprocess.DEVNULL)
    return {name: (folder / name).read_bytes() for name in SEEDS}


def boxes(data: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """Offsets of MP4 boxes, those inside of others too."""
    found = []
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < 8 or start + size > end:
            break
        found.append((start, start + size))
        if data[start + 4 : start + 8] in CONTAINER_BOXES:
            found += boxes(data, start + 8, start + size)
        start += size
    return found


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A box of `other` in the place of a box of `data`, beside it, or nothing in its place."""
    mine, theirs = boxes(data, 0, len(data)), boxes(other, 0, len(other))
    (start, end), (a, b) = rng.choice(mine), rng.choice(theirs)
    piece = rng.choice([other[a:b], other[a:b], b""])
    return data[:start] + piece + data[rng.choice([start, end]) :]


def swap(rng: random.Random, data: bytearray, unit: int):
    """Exchanges two stretches of the same length."""
    length = unit * rng.randrange(1, max(2, min(8192, len(data) // 4) // unit))
    a, b = (rng.randrange(max(1, (len(data) - length) // unit)) * unit for _ in range(2))
    first, second = bytes(data[a : a + length]), bytes(data[b : b + length])
    if abs(a - b) >= length:
        data[a : a + length], data[b : b + length] = second, first


def mutate(rng: random.Random, name: str, seeds: dict[str, bytes]) -> bytes:
    data, mp4 = bytearray(seeds[name]), [other for other in seeds if other.endswith((".mp4", ".mov"))]
    kind = rng.randrange(7 if name in mp4 else 6)
    if kind == 0:  # A truncated download.
        del data[rng.randrange(SMALLEST, len(data)) :]
    elif kind == 1:  # A lost middle.
        start = rng.randrange(len(data))
        del data[start : start + rng.randrange(1, 4096)]
    elif kind == 2:  # Header bytes, where sizes and counts live.
        for _ in range(rng.randrange(1, 16)):
            data[rng.randrange(min(len(data), 2048))] = rng.randrange(256)
    elif kind == 3:  # A tail of zeros, as a crashed writer leaves it.
        start = rng.randrange(len(data))
        data[start:] = bytes(len(data) - start)
    elif kind == 4:
        for _ in range(rng.randrange(1, 4)):
            swap(rng, data, 188 if name.endswith(".ts") else 1)
    elif kind == 5:
        for _ in range(rng.randrange(1, max(2, len(data) // 500))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        return splice(rng, bytes(data), seeds[rng.choice(mp4)]) or bytes(data)
    return bytes(data)


def verdict(binary: str, path: pathlib.Path, request: list[str]) -> tuple[str, bool]:
    """What is wrong with how the run ended, if anything, and whether there were frames."""
    try:
        run = subprocess.run([binary, "frames", str(path), *request, "--json"], capture_output=True, timeout=30)
    except subprocess.TimeoutExpired:
        return "hang", False
    if run.returncode not in (0, 3):
        return f"exit code {run.returncode}: {run.stderr[-200:]!r}", False
    document = json.loads(run.stdout)
    if run.returncode == 3:
        reason = document["error"]["reason"]
        typed = reason.replace("_", "").isupper() and reason not in ("INTERNAL", "DECODER_FAILED")
        return "" if typed else f"untyped failure: {document}", False
    return "", True


def descendants(pid: int) -> set[int]:
    """Processes below `pid`."""
    found = set()
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | descendants(child)
    return found


def serve_mutants(binary: str, model: str, mutants: list[pathlib.Path], healthy: pathlib.Path) -> list[str]:
    """Asks one server about each file, then looks at what it still holds."""
    sys.path += [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("quality", "load")]
    import grpc
    import soak
    from reflection_client import Client

    problems = []
    with tempfile.TemporaryDirectory() as data:
        server = subprocess.Popen([binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--model", model,
                                   "--media-root", str(healthy.parent)], stdout=subprocess.PIPE, text=True)
        try:
            client = Client(server.stdout.readline().split()[-1])
            call, message = client.method("reelsight.v1.QaService", "Ask"), client.message("reelsight.v1.AskRequest")

            def ask(path: pathlib.Path) -> str:
                request = message(question="How many objects are shown?")
                request.source.server_path = path.name
                try:
                    for _ in call(request, timeout=60):
                        pass
                except grpc.RpcError as error:
                    code = error.code().name
                    return code if code in ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED") else ""
                return ""

            def ask_all(paths: list[pathlib.Path]):
                for path in paths:
                    if problem := ask(path):
                        problems.append(f"{path.name}: {problem}")
                    if server.poll() is not None:
                        raise SystemExit(f"the server died after {path.name}")

            quarter = len(mutants) // 4
            ask_all([healthy, *mutants[:quarter], healthy])
            early, workers = soak.at_rest(server.pid, None), len(descendants(server.pid))
            ask_all(mutants[quarter:])
            if problem := ask(healthy):
                problems.append(f"a healthy file afterwards: {problem}")
            late = soak.at_rest(server.pid, early)
            print(f"server at rest: {early}, {workers} workers; after {len(mutants)} mutants: {late}, "
                  f"{len(descendants(server.pid))} workers")
            if late["files"] > early["files"] or late["threads"] > early["threads"]:
                problems.append(f"the server keeps descriptors or threads: {early} -> {late}")
            if len(descendants(server.pid)) > max(workers, 1):
                problems.append(f"{workers} workers before, {len(descendants(server.pid))} now")
            below = descendants(server.pid)
        finally:
            server.terminate()
            server.wait(timeout=30)
    alive = [pid for pid in below if os.path.exists(f"/proc/{pid}")]
    return problems + ([f"workers outlive the server: {alive}"] if alive else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--asks", type=int, default=100, help="how many of the files the server is asked about")
    parser.add_argument("--model", default="reelsight-tiny")
    args = parser.parse_args()
    rng, end, bad, done, frames = random.Random(args.seed), time.monotonic() + args.seconds, [], 0, 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = pathlib.Path(folder)
        seeds = make_seeds(folder)
        mutants = []
        for number in range(args.count):
            name = rng.choice(list(seeds))
            mutants.append(folder / f"{number}-{name}")
            mutants[-1].write_bytes(mutate(rng, name, seeds))
        requests = [["--count", "4"], ["--fps", "3"], ["--count", "1", "--size", "64x48"]]

        def run(path: pathlib.Path):
            if time.monotonic() < end:
                return path, verdict(args.binary, path, requests[path.stat().st_size % len(requests)])

        for outcome in pool.map(run, mutants):
            if outcome:
                path, (problem, has_frames) = outcome
                done, frames = done + 1, frames + has_frames
                if problem:
                    bad.append(f"{path.name}: {problem}")
                    kept = pathlib.Path(tempfile.gettempdir()) / f"reelsight-mutant-{args.seed}-{path.name}"
                    kept.write_bytes(path.read_bytes())
                    print(f"{kept}: {problem}", file=sys.stderr)
        print(f"mutated media: {done} files, {frames} gave frames, {len(bad)} ended badly")
        if args.asks:
            problems = serve_mutants(args.binary, args.model, mutants[: args.asks], folder / "h264.mp4")
            print("\n".join(problems), file=sys.stderr)
            bad += problems
    sys.exit(1 if bad or not done else 0)


if __name__ == "__main__":
    main()
