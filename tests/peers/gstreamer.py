"""The same frames by GStreamer and by us: which frame comes for a time, whether its samples are right, and the CPU time.

    tests/peers/gstreamer.py --binary target/release/reelsight [--frames 48] [--seconds 120]

Makes its own clips. GStreamer is driven as its documentation says for frames at given times: a paused pipeline with an
appsink and one flushing, accurate seek per frame. Needs PyGObject and GStreamer with its libav plugin (Debian: python3-gi
gir1.2-gst-plugins-base-1.0 gstreamer1.0-libav gstreamer1.0-plugins-good gstreamer1.0-plugins-bad) in the Python given by
--gst-python, and PyAV in this one.
"""

import argparse
import hashlib
import json
import pathlib
import resource
import subprocess
import sys
import tempfile

CLIPS = {
    "H.264, keyint 250, MP4": ("a.mp4", "-c:v libx264 -g 250 -bf 3"),
    "H.264, open GOPs, TS": ("b.ts", "-c:v libx264 -x264-params keyint=60:open-gop=1:bframes=3"),
    "H.264, variable rate, MKV": ("c.mkv", "-vf select='not(mod(n\\,3))+not(mod(n\\,7))' -fps_mode vfr -c:v libx264 -g 100"),
    "H.264, edit list, MP4": ("d.mp4", "-c:v libx264 -g 100 -bf 2"),
    "HEVC, open GOPs, MP4": ("e.mp4", "-c:v libx265 -x265-params log-level=none:keyint=100:bframes=4"),
}

GSTREAMER = r'''
import hashlib, json, sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import Gst, GstApp
Gst.init(None)
path, times = sys.argv[1], json.loads(sys.argv[2])
pipeline = Gst.parse_launch("filesrc name=source ! decodebin ! videoconvert ! video/x-raw,format=I420 "
                            "! appsink name=sink sync=false max-buffers=1")
pipeline.get_by_name("source").set_property("location", path)
sink = pipeline.get_by_name("sink")
pipeline.set_state(Gst.State.PAUSED)
pipeline.get_state(20 * Gst.SECOND)
out = []
for time in times:
    flags = Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE
    pipeline.seek_simple(Gst.Format.TIME, flags, round(time * Gst.SECOND))
    sample = sink.try_pull_preroll(20 * Gst.SECOND)
    if sample is None:
        out.append(None)
        continue
    caps, buffer = sample.get_caps().get_structure(0), sample.get_buffer()
    width, height = caps.get_value("width"), caps.get_value("height")
    data = buffer.extract_dup(0, buffer.get_size())
    stride = (width + 3) // 4 * 4
    rows = b"".join(data[y * stride:y * stride + width] for y in range(height))
    out.append([hashlib.sha256(rows).hexdigest(), buffer.pts / Gst.SECOND])
pipeline.set_state(Gst.State.NULL)
print(json.dumps(out))
'''


def make(folder: pathlib.Path, name: str, options: str, seconds: int) -> pathlib.Path:
    path = folder / name
    source = f"testsrc2=s=1280x720:r=30:d={seconds}"
    first = folder / f"first-{name}" if name == "d.mp4" else path
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source]
    subprocess.run([*command, *options.split(), "-preset", "veryfast", str(first)], check=True)
    if first != path:
        # Cut between key frames without encoding again: the cut is an edit list.
        subprocess.run(
            ["ffmpeg", "-v", "error", "-y", "-ss", "1.5", "-i", str(first), "-c", "copy", str(path)], check=True
        )
    return path


def reference(path: pathlib.Path) -> tuple[list[float], list[str]]:
    """Times as a player shows them and digests of luma, by a whole decode."""
    import av

    times, luma = [], []
    with av.open(str(path)) as container:
        base = 0.0 if path.suffix != ".ts" else None
        for frame in container.decode(video=0):
            base = frame.time if base is None else base
            times.append(frame.time - base)
            plane = frame.planes[0]
            data = bytes(plane)
            rows = (data[y * plane.line_size : y * plane.line_size + frame.width] for y in range(frame.height))
            luma.append(hashlib.sha256(b"".join(rows)).hexdigest())
    order = sorted(range(len(times)), key=lambda at: times[at])
    return [times[at] for at in order], [luma[at] for at in order]


def best_shift(got: list, picks: list[int], luma: list[str]) -> int:
    """How many frames are right when the whole file may be off by the same number of frames."""
    number = {digest: at for at, digest in enumerate(luma)}
    shifts = [number[frame[0]] - at for frame, at in zip(got, picks) if frame and frame[0] in number]
    return max((shifts.count(shift) for shift in set(shifts)), default=0)


def timed(command: list[str]) -> tuple[object, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if run.returncode:
        sys.exit(f"{command[0]}: {run.stderr[-2000:]}")
    return json.loads(run.stdout), cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--gst-python", default="/usr/bin/python3")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--seconds", type=int, default=120)
    arguments = parser.parse_args()
    print("| clip | GStreamer: right frames | after one shift for all | CPU s | ours: right frames | CPU s |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for title, (file, options) in CLIPS.items():
            path = make(pathlib.Path(name), file, options, arguments.seconds)
            times, luma = reference(path)
            # The middle of the time for which a frame is shown, so that no rounding decides.
            picks = [round((at + 0.5) * (len(times) - 1) / arguments.frames) for at in range(arguments.frames)]
            asked = [(times[at] + times[at + 1]) / 2 for at in picks]
            got, gst_cpu = timed([arguments.gst_python, "-c", GSTREAMER, str(path), json.dumps(asked)])
            gst_right = sum(frame is not None and frame[0] == luma[at] for frame, at in zip(got, picks))
            shifted = best_shift(got, picks, luma)
            at_list = ",".join(f"{time:.6f}" for time in asked)
            command = [arguments.binary, "frames", str(path), "--at", at_list, "--json", "--no-index-cache"]
            document, cpu = timed([*command, "--threads", "1"])
            shown = {round(frame["time_s"], 4) for frame in document["frames"]}
            right = sum(round(times[at], 4) in shown for at in picks)
            of = len(picks)
            print(f"| {title} | {gst_right} of {of} | {shifted} | {gst_cpu:.1f} | {right} of {of} | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    main()
