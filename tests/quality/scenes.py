"""Scores shot detectors against cuts that are known because they were made.

    python tests/quality/scenes.py --binary target/release/reelsight [--seed N] [--videos N] [--models-root DIR]

Shots come from lavfi sources and, where the folder `shared` is there, from real camera clips. They are joined by hard
cuts, dissolves, fades through black and wipes, and disturbed by what is no cut: flashes, pans, zooms, shakes, light that
changes, things that pass in front. A detection counts when it lies in the transition, two frames more on each side; each
counts once. The peer is PySceneDetect, where `pip install scenedetect==0.7.2` has been done.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, FPS, SHOT = 320, 180, 25, 50
LAVFI = ["testsrc2", "mandelbrot", "life=mold=10:ratio=0.3", "cellauto", "gradients", "smptehdbars", "sierpinski",
         "rgbtestsrc", "pal75bars", "allrgb"]  # fmt: skip
# Sources of clips that are one shot each.
CAMERAS = ["carnd-driving", "counting-cctv", "davis-som", "bgs-cctv", "stock-nature", "dreamix-inputs",
           "nav-robot", "intel-street", "rt1-robot", "lumiere-inputs"]  # fmt: skip
TOLERANCE = 2


def read(arguments: list) -> np.ndarray:
    """Returns frames [n, height, width, 3] of what ffmpeg makes of `arguments`."""
    fit = f"fps={FPS},scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=increase,crop={WIDTH}:{HEIGHT}"
    command = ["ffmpeg", "-v", "error", *arguments, "-vf", fit, "-frames:v", str(SHOT), "-pix_fmt", "rgb24"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def sources(rng: random.Random, kind: str) -> list:
    """Returns what shots of a video are made from, in random order."""
    if kind == "lavfi":
        made = []
        for source in LAVFI:
            separator = ":" if "=" in source else "="
            size = f"{source}{separator}rate={FPS}" if source == "allrgb" else None
            made.append(["-f", "lavfi", "-i", size or f"{source}{separator}size={WIDTH}x{HEIGHT}:rate={FPS}"])
        rng.shuffle(made)
        return made
    clips = Path(os.environ.get("REELSIGHT_SHARED", "../shared")) / "data/genvid-mini/clips/real"
    found = sorted(path for camera in CAMERAS for path in (clips / camera).glob("*.mp4"))
    rng.shuffle(found)
    return [["-i", str(path)] for path in found]


def whole(frames: np.ndarray) -> np.ndarray:
    """Plays a short clip forth and back until it fills a shot."""
    parts = [frames, frames[-2:0:-1]] if len(frames) > 2 else [frames]
    while sum(map(len, parts)) < SHOT:
        parts += parts
    return np.concatenate(parts)[:SHOT]


def is_one_shot(frames: np.ndarray) -> bool:
    """Whether no step of a clip stands out: clips with cuts of their own would spoil the truth."""
    small = frames[:, ::4, ::4].astype(int)
    steps = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3))
    return len(steps) > 10 and steps.max() < max(10, 3 * np.median(steps))


def disturb(frames: np.ndarray, rng: random.Random) -> tuple:
    """Returns the shot with something in it that is no cut, and its name."""
    kind = rng.choice(["none", "none", "flash", "pan", "zoom", "shake", "light", "passer"])
    frames, middle = frames.copy(), rng.randrange(18, SHOT - 18)
    if kind == "flash":
        for at in range(middle, middle + rng.randint(1, 3)):
            frames[at] = np.clip(frames[at].astype(int) + rng.randint(90, 220), 0, 255)
    elif kind == "light":
        for at in range(SHOT):
            gain = 1 + 0.6 * np.sin(at / SHOT * np.pi)
            frames[at] = np.clip(frames[at] * gain * 0.8, 0, 255)
    elif kind == "passer":
        color, width = [rng.randrange(256) for _ in range(3)], rng.randrange(60, 140)
        for at in range(SHOT):
            left = int((at - 15) * rng.choice([14, 14, 14]))
            frames[at, 40:, max(left, 0) : max(left + width, 0)] = color
    elif kind in ("pan", "zoom", "shake"):
        still = np.kron(frames[0], np.ones((2, 2, 1), np.uint8))
        for at in range(SHOT):
            y, x, side = HEIGHT // 2, 0, 1.0
            if kind == "pan":
                x = int(at / SHOT * WIDTH)
            elif kind == "zoom":
                side, x, y = 2 - at / SHOT, int(at / SHOT * WIDTH / 2), int(at / SHOT * HEIGHT / 2)
            else:
                x, y = WIDTH // 2 + rng.randint(-24, 24), HEIGHT // 2 + rng.randint(-16, 16)
            ys = np.clip(y + (np.arange(HEIGHT) * side).astype(int), 0, 2 * HEIGHT - 1)
            xs = np.clip(x + (np.arange(WIDTH) * side).astype(int), 0, 2 * WIDTH - 1)
            frames[at] = still[ys][:, xs]
    return frames, kind


def join(shots: list, rng: random.Random) -> tuple:
    """Returns the frames of a video and its transitions: (kind, first frame, last frame) of the new shot's coming."""
    out, truth = list(shots[0]), []
    for shot in shots[1:]:
        kind = rng.choices(["cut", "dissolve", "fade", "wipe"], [6, 2, 1, 1])[0]
        if kind == "cut":
            truth.append((kind, len(out), len(out)))
            out += list(shot)
            continue
        length = rng.randint(8, 20)
        old, new = np.array(out[-length:], float), shot[:length].astype(float)
        ramp = ((np.arange(length) + 1) / (length + 1)).reshape(-1, 1, 1, 1)
        begin = len(out) - length
        if kind == "fade":
            black = [np.zeros((HEIGHT, WIDTH, 3))] * rng.randint(0, 6)
            mixed = [*(old * (1 - ramp)), *black, *(new * ramp)]
        elif kind == "wipe":
            edge = np.arange(WIDTH).reshape(1, 1, -1, 1) < ramp * WIDTH
            mixed = list(np.where(edge, new, old))
        else:
            mixed = list(old * (1 - ramp) + new * ramp)
        del out[begin:]
        out += [frame.astype(np.uint8) for frame in mixed]
        truth.append((kind, begin, len(out) - 1))
        out += list(shot[length:])
    return out, truth


def make(path: Path, seed: int, kind: str) -> tuple:
    """Writes a video; returns its transitions and where something else happens."""
    rng = random.Random(seed)
    shots, calm = [], []
    for source in sources(rng, kind):
        if len(shots) == 12:
            break
        clip = read(source)
        if kind == "camera" and not is_one_shot(clip):
            continue
        frames, disturbance = disturb(whole(clip), rng)
        shots.append(frames)
        calm.append(disturbance)
    frames, truth = join(shots, rng)
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}"]
    command += ["-r", str(FPS), "-i", "-", "-c:v", "libx264", "-preset", "veryfast", "-crf", "23"]
    encoder = subprocess.Popen([*command, "-pix_fmt", "yuv420p", str(path)], stdin=subprocess.PIPE)
    for frame in frames:
        encoder.stdin.write(np.ascontiguousarray(frame).tobytes())
    encoder.stdin.close()
    if encoder.wait():
        raise SystemExit("ffmpeg could not encode")
    return truth, calm, len(frames)


def ours(binary: str, model: str, root: str):
    """Returns a detector of ours: path -> frames."""

    def run(path: Path) -> list:
        command = [binary, "frames", str(path), "--scene", "--scene-model", model, "--json"]
        command += ["--model-root", root] if root else []
        done = subprocess.run(command, capture_output=True, check=True)
        return [cut["index"] for cut in json.loads(done.stdout)["cuts"]]

    return run


def peers() -> dict:
    """Returns PySceneDetect's detectors, when it is installed."""
    try:
        import scenedetect
    except ImportError:
        print("PySceneDetect is not installed: no peer", file=sys.stderr)
        return {}

    def wrap(*kinds):
        def run(path: Path) -> list:
            manager = scenedetect.SceneManager()
            for kind in kinds:
                manager.add_detector(kind())
            manager.detect_scenes(scenedetect.open_video(str(path)))
            return [start.frame_num for start, _ in manager.get_scene_list()][1:]

        return run

    return {
        "PySceneDetect adaptive": wrap(scenedetect.AdaptiveDetector),
        "PySceneDetect content": wrap(scenedetect.ContentDetector),
        "PySceneDetect adaptive + threshold": wrap(scenedetect.AdaptiveDetector, scenedetect.ThresholdDetector),
    }


def score(truth: list, found: list, verbose: str) -> dict:
    """Matches detections to transitions, each at most once."""
    left, hits = sorted(found), {}
    for kind, first, last in truth:
        hit = next((at for at in left if first - TOLERANCE <= at <= last + TOLERANCE), None)
        if hit is not None:
            left.remove(hit)
        hits.setdefault(kind, []).append(hit is not None)
        if hit is None and verbose:
            print(f"    {verbose}: missed {kind} {first}-{last}", file=sys.stderr)
    if left and verbose:
        print(f"    {verbose}: false {left}", file=sys.stderr)
    return {"hits": hits, "false": len(left)}


def report(name: str, scores: list) -> str:
    """Returns a row of the table."""
    kinds = ["cut", "dissolve", "fade", "wipe"]
    per_kind = {kind: [hit for s in scores for hit in s["hits"].get(kind, [])] for kind in kinds}
    true = sum(map(sum, per_kind.values()))
    total, false = sum(map(len, per_kind.values())), sum(s["false"] for s in scores)
    precision, recall = true / max(true + false, 1), true / max(total, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    cells = [f"{sum(per_kind[kind])}/{len(per_kind[kind])}" for kind in kinds]
    return f"| {name} | {precision:.3f} | {recall:.3f} | {f1:.3f} | {' | '.join(cells)} | {false} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--videos", type=int, default=8, help="of each kind of source")
    parser.add_argument("--models-root", help="folder with transnetv2, when it is not in models/zoo")
    parser.add_argument("--only", help="names of detectors, separated by commas")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    detectors = {"content": ours(args.binary, "content", "")}
    root = args.models_root or "models/zoo"
    if (Path(root) / "transnetv2/shots.json").is_file():
        detectors["transnetv2"] = ours(args.binary, "transnetv2", root)
    else:
        print("TransNetV2 is not installed: make shots", file=sys.stderr)
    detectors |= peers()
    if args.only:
        detectors = {name: run for name, run in detectors.items() if name in args.only.split(",")}
    shared = Path(os.environ.get("REELSIGHT_SHARED", "../shared")) / "data/genvid-mini/clips/real"
    kinds = ["lavfi", "camera"] if shared.is_dir() else ["lavfi"]
    print("| detector, source | precision | recall | F1 | cuts | dissolves | fades | wipes | false |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        scores = {name: [] for name in detectors}
        with tempfile.TemporaryDirectory() as folder:
            for number in range(args.videos):
                path = Path(folder) / f"{number}.mp4"
                truth, calm, _ = make(path, args.seed * 1000 + number, kind)
                if args.verbose:
                    print(f"{kind} {number}: {calm}", file=sys.stderr)
                for name, run in detectors.items():
                    scores[name].append(score(truth, run(path), name if args.verbose else ""))
        for name, values in scores.items():
            print(report(f"{name}, {kind}", values), flush=True)


if __name__ == "__main__":
    main()
