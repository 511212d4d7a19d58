"""Says how close `frames --scale-in-yuv` comes to the exact pixels, and what it saves.

    python tests/quality/scale_in_yuv.py --binary target/release/reelsight [--size 336x336]

The same frames once exactly (YUV to RGB at full size, then Pillow's bicubic) and once straight from YUV by swscale: PSNR
over all samples of all frames, the worst frame, the largest difference of a sample, and CPU time of conversion and
resampling as `frames --json` counts it.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SOURCES = {
    "testsrc2 1080p": "testsrc2=size=1920x1080:rate=25:duration=2",
    "mandelbrot 1080p": "mandelbrot=size=1920x1080:rate=25,trim=duration=2",
    "noise 720p": "color=gray:size=1280x720:rate=25:duration=2,noise=alls=60:allf=t",
    "zone plate 720p": "nullsrc=size=1280x720:rate=25:duration=2,geq=lum='128+127*sin(hypot(X-640,Y-360)^2/600)':cb=128:cr=128",
}
CAMERAS = ["stock-nature", "carnd-driving", "dreamix-inputs", "lumiere-inputs"]


def pixels(binary: str, video: Path, size: str, fast: bool) -> tuple:
    """Returns frames as [n, samples] and the CPU seconds of conversion and resampling."""
    with tempfile.NamedTemporaryFile() as raw:
        command = [binary, "frames", str(video), "--count", "8", "--size", size, "--threads", "1", "--json"]
        command += ["--raw", raw.name] + (["--scale-in-yuv"] if fast else [])
        done = subprocess.run(command, capture_output=True, check=True)
        document = json.loads(done.stdout)
        data = np.frombuffer(Path(raw.name).read_bytes(), np.uint8).astype(np.int16)
    cpu = document["stats"]["cpu_s"]
    return data.reshape(len(document["frames"]), -1), cpu["convert"] + cpu["resize"]


def psnr(difference: np.ndarray) -> float:
    """Returns decibels."""
    return 10 * np.log10(255**2 / max(float((difference.astype(float) ** 2).mean()), 1e-12))


def row(name: str, binary: str, video: Path, size: str) -> str:
    """Returns a row of the table."""
    exact, exact_cpu = pixels(binary, video, size, fast=False)
    fast, fast_cpu = pixels(binary, video, size, fast=True)
    difference = exact - fast
    worst = min(psnr(frame) for frame in difference)
    times = f"{1000 * exact_cpu / len(exact):.1f} | {1000 * fast_cpu / len(exact):.1f}"
    return f"| {name} | {psnr(difference):.1f} | {worst:.1f} | {np.abs(difference).max()} | {times} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--size", default="336x336")
    args = parser.parse_args()
    print(f"| source, to {args.size} | PSNR dB | worst frame | largest difference | exact, ms a frame | in YUV |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, source in SOURCES.items():
            video = Path(folder) / "clip.mp4"
            make = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset"]
            subprocess.run([*make, "ultrafast", "-crf", "18", "-pix_fmt", "yuv420p", str(video)], check=True)
            print(row(name, args.binary, video, args.size), flush=True)
    clips = Path(os.environ.get("REELSIGHT_SHARED", "../shared")) / "data/genvid-mini/clips/real"
    for camera in CAMERAS:
        for video in sorted((clips / camera).glob("*.mp4"))[:1]:
            print(row(f"{camera} (camera, 224 lines)", args.binary, video, args.size), flush=True)


if __name__ == "__main__":
    main()
