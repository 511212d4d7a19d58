"""Writes an evaluation set: real H.264 videos, one question each, answers and evidence.

    python -m reelsight_training.evalset --seed 7 --out DIR --count 200

Families come in turn, so they are balanced; one question in ten asks about something the
video does not show. Evidence is null there, because no part of the video decides it.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import numpy as np

from reelsight_training.questions import FAMILIES, Question, draw
from reelsight_training.render import FPS, SIZE, Look, make_look, render
from reelsight_training.world import Scene, draw_scene

ANSWERABLE = tuple(name for name in FAMILIES if name != "not_shown")
NOT_SHOWN_EVERY = 10
MAX_TRIES = 4000


def encode(path: Path, scene: Scene, look: Look, seed: int) -> None:
    """Writes a clip as H.264 with B-frames, 25 fps, yuv420p."""
    options = {"preset": "veryfast", "crf": "21", "bf": "2", "threads": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options=options)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(scene.steps * FPS):
            pixels = render(scene, look, index, seed)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode())


def draw_steps(rng: Random) -> int:
    """Draws a clip's length in seconds: mostly 3 to 10, some longer."""
    return rng.randrange(11, 25) if rng.random() < 0.1 else rng.randrange(3, 11)


def draw_item(seed: int, index: int) -> tuple[Scene, Question]:
    """Draws scene and question number `index` of a set."""
    rng = Random(f"evalset {seed} {index}")
    absent = index % NOT_SHOWN_EVERY == NOT_SHOWN_EVERY - 1
    answerable = index - index // NOT_SHOWN_EVERY
    family = "not_shown" if absent else ANSWERABLE[answerable % len(ANSWERABLE)]
    steps = draw_steps(rng)
    for _ in range(MAX_TRIES):
        scene = draw_scene(rng, steps, seed=index)
        question = draw(rng, scene, family, tries=1)
        if question is not None:
            return scene, question
    raise RuntimeError(f"no scene for {family} in {MAX_TRIES} draws")


def write_item(job: tuple[int, int, str]) -> dict:
    """Writes one video and returns its record."""
    seed, index, out = job
    scene, question = draw_item(seed, index)
    rng = Random(f"look {seed} {index}")
    name = f"{index:05d}.mp4"
    encode(Path(out) / name, scene, make_look(rng, len(scene.things)), rng.randrange(1 << 20))
    start, end = question.evidence if question.evidence else (None, None)
    return {
        "video": name,
        "question": question.text,
        "answer": question.answer,
        "family": question.family,
        "evidence_start_s": start,
        "evidence_end_s": end,
    }


def write_set(seed: int, out: Path, count: int, workers: int = 1) -> None:
    """Writes `count` videos and questions.jsonl."""
    out.mkdir(parents=True, exist_ok=True)
    jobs = [(seed, index, str(out)) for index in range(count)]
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            records = list(pool.map(write_item, jobs, chunksize=8))
    else:
        records = [write_item(job) for job in jobs]
    lines = [json.dumps(record) + "\n" for record in records]
    (out / "questions.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=420)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    write_set(args.seed, args.out, args.count, args.workers)


if __name__ == "__main__":
    main()
