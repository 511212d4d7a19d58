"""Times of frames, side by side: ours, PyAV's whole decode and torchcodec's (where it is installed), over many files.

    python tests/peers/pts.py --binary target/release/reelsight FILE_OR_FOLDER...

Ours must equal PyAV's to a microsecond, on the container's clock, for every frame. torchcodec is reported beside: it has
its own ideas of frames that lead the first key frame and of edit lists.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import av

TOLERANCE_S = 1e-6
# Containers without times of presentation: what a decoder makes of them is a guess that versions of FFmpeg change.
GUESSED = (".avi", ".h264", ".hevc", ".m4v", ".m2v", ".obu")


def ours(binary: str, path: pathlib.Path, fps: float) -> list[int] | str:
    """Time stamps of all frames in the stream's units, or why there are none."""
    # More samples than frames: every frame is taken, duplicates are merged.
    command = [binary, "frames", str(path), "--fps", str(fps), "--size", "16x16", "--json"]
    run = subprocess.run(command, capture_output=True, timeout=600)
    document = json.loads(run.stdout)
    return document["error"]["reason"] if run.returncode else [frame["pts"] for frame in document["frames"]]


def pyav(path: pathlib.Path) -> tuple[list[int], float, float]:
    """Time stamps, seconds of a unit, and a rate at which every frame is sampled."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pts = [frame.pts for packet in container.demux(stream) for frame in decoded(packet)]
        base = float(stream.time_base)
    if None in pts:
        return [], base, 1.0
    # A time names one frame: where two frames share one, either is right, and a sample gives one of them.
    pts = sorted(set(pts))
    gaps = [b - a for a, b in zip(pts, pts[1:])]
    return pts, base, 2 / (min(gaps, default=1) * base)


def decoded(packet):
    try:
        return packet.decode()
    except av.error.FFmpegError:
        return []


def torchcodec(path: pathlib.Path) -> list[float] | str:
    """Seconds of all frames, or why there are none."""
    try:
        from torchcodec.decoders import VideoDecoder

        decoder = VideoDecoder(str(path), seek_mode="exact")
        return decoder.get_frames_in_range(0, len(decoder)).pts_seconds.tolist()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported and not ours
        return str(error).splitlines()[0][:60]


def agreement(theirs: list[float] | str, truth: list[float]) -> str:
    if isinstance(theirs, str):
        return f"fails: {theirs}"
    if len(theirs) != len(truth):
        return f"{len(theirs)} of {len(truth)} frames"
    wrong = sum(abs(a - b) > TOLERANCE_S for a, b in zip(theirs, truth))
    return "same" if not wrong else f"{wrong} times differ"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--every", type=int, default=1, help="only every n-th file")
    parser.add_argument("paths", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    files = [file for path in args.paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    files = [file for file in files if file.is_file() and file.suffix not in (".recipe", ".md", ".csv")]
    counts = {"ours": {}, "torchcodec": {}}
    for file in files[:: args.every]:
        pts, base, fps = pyav(file)
        if not pts or file.suffix in GUESSED:
            continue
        seconds = [at * base for at in pts]
        mine = ours(args.binary, file, fps)
        verdicts = {
            "ours": agreement(mine if isinstance(mine, str) else [at * base for at in mine], seconds),
            "torchcodec": agreement(torchcodec(file), seconds),
        }
        for name, verdict in verdicts.items():
            kind = "same" if verdict == "same" else verdict.split(":")[0] if verdict.startswith("fails") else "differs"
            counts[name][kind] = counts[name].get(kind, 0) + 1
        if any(verdict != "same" for verdict in verdicts.values()):
            print(f"{file.parent.name}/{file.name}: ours {verdicts['ours']}; torchcodec {verdicts['torchcodec']}")
    for name, kinds in counts.items():
        print(f"{name}: {kinds}")
    sys.exit(0 if set(counts["ours"]) <= {"same"} else 1)


if __name__ == "__main__":
    main()
