"""Three hours of 4K and ten hours of video: memory, time to index, time to frames.

    python tests/load/large.py --binary target/release/reelsight [--hours 3] [--folder DIR]

The files are a short clip over and over, copied without encoding (`-stream_loop`), in MP4 and in MPEG-TS, which has no
index of its own. Fails when a process holds more than 512 MiB, or when frames are missing. A second run of each finds the
index in the cache.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

LIMIT_MIB = 512
CLIPS = {  # name: (source, encoder, seconds of the clip)
    "4k": ("testsrc2=size=3840x2160:rate=30:duration=4", ["-c:v", "libx264", "-preset", "veryfast", "-crf", "36", "-g", "60"], 4),
    "long": ("testsrc2=size=640x360:rate=30:duration=20", ["-c:v", "libx264", "-preset", "veryfast", "-crf", "36", "-g", "60"], 20),
}


def make(folder: pathlib.Path, clip: str, hours: float, suffix: str) -> pathlib.Path:
    source, encoder, seconds = CLIPS[clip]
    short, out = folder / f"{clip}.mp4", folder / f"{clip}-{hours:g}h.{suffix}"
    quiet = ["ffmpeg", "-nostdin", "-v", "error", "-y"]
    if not short.exists():
        subprocess.run([*quiet, "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", *encoder, short], check=True)
    if not out.exists():
        loops = str(int(hours * 3600 / seconds) - 1)
        subprocess.run([*quiet, "-stream_loop", loops, "-i", short, "-c", "copy", out], check=True)
    return out


def run(binary: str, path: pathlib.Path, count: int, cache: str) -> dict:
    """One request in a process of its own, whose largest child counts, too."""
    out = subprocess.run([sys.executable, __file__, "--child", binary, str(path), str(count), cache],
                         capture_output=True, text=True)
    if out.returncode:
        raise SystemExit(out.stderr)
    return json.loads(out.stdout)


def child(binary: str, path: str, count: str, cache: str):
    began = time.monotonic()
    # A cache of its own, so that the first run indexes and the second does not.
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    command = [binary, "frames", path, "--count", count, "--size", "448x448", "--json"]
    done = subprocess.run(command, capture_output=True, env=environment)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    document = json.loads(done.stdout)
    if done.returncode:
        raise SystemExit(f"{path}: {document}")
    print(json.dumps({"wall_s": time.monotonic() - began, "cpu_s": usage.ru_utime + usage.ru_stime,
                      "rss_mib": usage.ru_maxrss / 1024, "frames": len(document["frames"])}))


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--hours", type=float, default=3, help="of 4K; the other file is 10 / 3 as long")
    parser.add_argument("--folder", type=pathlib.Path, help="where files are kept; default: a temporary one")
    parser.add_argument("--count", type=int, default=32)
    args = parser.parse_args()
    bad = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("| file | GiB | what | wall s | CPU s | largest process, MiB |\n|---|---|---|---|---|---|")
        for clip, hours, suffix in [("4k", args.hours, "mp4"), ("4k", args.hours, "ts"),
                                    ("long", args.hours * 10 / 3, "mp4"), ("long", args.hours * 10 / 3, "ts")]:
            path = make(folder, clip, hours, suffix)
            cache = tempfile.mkdtemp(dir=temporary)
            for what, count in (("one frame", 1), ("one frame, index cached", 1), (f"{args.count} frames, index cached", args.count)):
                result = run(args.binary, path, count, cache)
                size = path.stat().st_size / 2**30
                print(f"| {path.name} | {size:.2f} | {what} | {result['wall_s']:.2f} | {result['cpu_s']:.2f} | "
                      f"{result['rss_mib']:.0f} |", flush=True)
                if result["rss_mib"] > LIMIT_MIB or result["frames"] != count:
                    bad.append(f"{path.name}, {what}: {result}")
            if not args.folder:
                path.unlink()
    print("\n".join(bad), file=sys.stderr)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
