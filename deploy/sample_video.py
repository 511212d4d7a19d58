"""Makes the sample video of `make run`: six seconds of the embedded model's world, H.264 with B-frames, with sound.

    PYTHONPATH=models/training python deploy/sample_video.py OUT.mp4

A red square stands in the picture from the start, a blue circle appears at 00:02 and leaves at 00:05, and a yellow star
moves right at 00:03.
"""

import pathlib
import sys
from fractions import Fraction
from random import Random

import av
import numpy as np
from reelsight_training.render import FPS, SIZE, make_look, render
from reelsight_training.world import Scene, Thing

SAMPLE_RATE = 48_000
STEPS = 6


def scene() -> Scene:
    return Scene(STEPS, (
        Thing("square", "red", None, (0,) * STEPS),
        Thing("circle", "blue", None, (None, None, 5, 5, 5, None)),
        Thing("star", "yellow", None, (6, 6, 6, 7, 7, 7), "right"),
    ))


def tone() -> np.ndarray:
    """A beep each second, so that a player shows that sound and picture agree."""
    t = np.arange(STEPS * SAMPLE_RATE) / SAMPLE_RATE
    return (0.2 * np.sin(2 * np.pi * 440 * t) * (t % 1.0 < 0.1)).astype(np.float32)[None]


def write(path: pathlib.Path):
    content = scene()
    look = make_look(Random(7), len(content.things))
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=FPS, options={"bf": "2", "crf": "20", "g": "50"})
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        audio = out.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for index in range(STEPS * FPS):
            frame = av.VideoFrame.from_ndarray(render(content, look, index, noise_seed=7), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(tone(), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = SAMPLE_RATE, 0
        for packet in audio.encode(samples):
            out.mux(packet)
        out.mux(audio.encode())


def main():
    path = pathlib.Path(sys.argv[1])
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.mp4")
    write(partial)
    partial.rename(path)  # Never leaves half a file behind.
    print(f"sample video: {path}")


if __name__ == "__main__":
    main()
