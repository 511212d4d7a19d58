"""Draws scenes as RGB frames: a scene and a time in, one frame out.

Frames are 192 x 192. Things are about a quarter of the frame wide, stand near the middle
of their cell with a jitter that is theirs for the whole clip, and glide to the next cell
in the last frames before the second in which they arrive.
"""

from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from reelsight_training.lexicon import COLOURS
from reelsight_training.world import Scene, Thing

SIZE = 192
CELL = SIZE // 3
FPS = 25
# A glide ends exactly at the second; it is short enough that no sampled frame falls into it.
GLIDE_FRAMES = 2
SHIFT_BITS = 4
DIGIT_COLOUR = (12, 12, 12)

_NOISE = np.random.default_rng(1).normal(0.0, 1.0, (SIZE * 2, SIZE * 2, 3)).astype(np.float32)


@dataclass(frozen=True)
class Look:
    """What a clip looks like beside what it shows."""

    ground: np.ndarray
    noise: float
    sizes: tuple[float, ...]
    jitters: tuple[tuple[float, float], ...]
    turns: tuple[float, ...]


def make_look(rng: Random, things: int) -> Look:
    """Draws ground, noise, and size, place and slight turn of each thing."""
    base = np.array([rng.uniform(70, 150)] * 3) + [rng.uniform(-14, 14) for _ in range(3)]
    ground = np.broadcast_to(base, (SIZE, SIZE, 3)).astype(np.float32)
    if rng.random() < 0.6:
        coarse = np.random.default_rng(rng.randrange(1 << 30)).normal(0, 1, (rng.choice((4, 8, 24)),) * 2)
        texture = cv2.resize(coarse.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        ground = ground + rng.uniform(3, 11) * texture[..., None]
    return Look(
        ground=ground,
        noise=rng.uniform(0.0, 4.0),
        sizes=tuple(rng.uniform(21, 26) for _ in range(things)),
        jitters=tuple((rng.uniform(-6, 6), rng.uniform(-6, 6)) for _ in range(things)),
        turns=tuple(rng.uniform(-8, 8) for _ in range(things)),
    )


def _polygon(shape: str, radius: float, turn: float) -> np.ndarray:
    """Returns the outline of a shape around the origin."""
    if shape == "square":
        points = [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)]
    elif shape == "triangle":
        points = [(0, -1), (0.95, 0.78), (-0.95, 0.78)]
    elif shape == "cross":
        a, b = 0.32, 1.0
        points = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
    else:
        angles = np.arange(10) * np.pi / 5
        lengths = np.where(np.arange(10) % 2 == 0, 1.08, 0.46)
        points = np.stack([np.sin(angles) * lengths, -np.cos(angles) * lengths], 1)
    angle = np.deg2rad(turn)
    spin = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(points, dtype=np.float64) @ spin * radius


def draw_thing(frame: np.ndarray, thing: Thing, centre: tuple[float, float], radius: float, turn: float) -> None:
    """Draws one thing into a uint8 frame."""
    x, y = centre
    if thing.digit is not None:
        scale = radius / 13.5
        size, _ = cv2.getTextSize(str(thing.digit), cv2.FONT_HERSHEY_DUPLEX, scale, 5)
        origin = int(round(x - size[0] / 2)), int(round(y + size[1] / 2))
        cv2.putText(frame, str(thing.digit), origin, cv2.FONT_HERSHEY_DUPLEX, scale, DIGIT_COLOUR, 5, cv2.LINE_AA)
        return
    colour, unit = COLOURS[thing.colour], 1 << SHIFT_BITS
    if thing.shape == "circle":
        centre_fixed = int(round(x * unit)), int(round(y * unit))
        cv2.circle(frame, centre_fixed, int(radius * 0.95 * unit), colour, -1, cv2.LINE_AA, SHIFT_BITS)
        return
    points = (_polygon(thing.shape, radius, turn) + [x, y]) * unit
    cv2.fillPoly(frame, [np.round(points).astype(np.int32)], colour, cv2.LINE_AA, SHIFT_BITS)


def _centre(cell: int) -> np.ndarray:
    return np.array([cell % 3, cell // 3], dtype=np.float64) * CELL + CELL / 2


def _place(thing: Thing, frame_index: int) -> np.ndarray | None:
    """Returns the centre of a thing in a frame, gliding near the end of a second."""
    step, within = divmod(frame_index, FPS)
    if step >= len(thing.cells) or thing.cells[step] is None:
        return None
    here = _centre(thing.cells[step])
    following = thing.cells[step + 1] if step + 1 < len(thing.cells) else None
    gliding = within - (FPS - GLIDE_FRAMES) + 1
    if following is None or following == thing.cells[step] or gliding <= 0:
        return here
    return here + (_centre(following) - here) * gliding / (GLIDE_FRAMES + 1)


def render(scene: Scene, look: Look, frame_index: int, noise_seed: int = 0) -> np.ndarray:
    """Returns frame `frame_index` (25 per second) as RGB uint8 [192, 192, 3]."""
    frame = np.ascontiguousarray(np.clip(look.ground, 0, 255).astype(np.uint8))
    for index, thing in enumerate(scene.things):
        place = _place(thing, frame_index)
        if place is not None:
            centre = tuple(place + look.jitters[index])
            draw_thing(frame, thing, centre, look.sizes[index], look.turns[index])
    if look.noise > 0.3:
        rng = Random(noise_seed * 7919 + frame_index)
        top, left = rng.randrange(SIZE), rng.randrange(SIZE)
        grain = _NOISE[top : top + SIZE, left : left + SIZE] * look.noise
        frame = np.clip(frame + grain, 0, 255).astype(np.uint8)
    return frame


def codec_like(rng: Random, frame: np.ndarray) -> np.ndarray:
    """Degrades a frame as a video codec would: blur, 4:2:0 chroma, quantised blocks."""
    if rng.random() < 0.4:
        frame = cv2.GaussianBlur(frame, (3, 3), rng.uniform(0.3, 0.8))
    quality = [cv2.IMWRITE_JPEG_QUALITY, rng.randrange(45, 95)]
    _, coded = cv2.imencode(".jpg", frame[..., ::-1], quality)
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def shrink(frame: np.ndarray, size: int) -> np.ndarray:
    """Shrinks a frame close to how the processor does (antialiased)."""
    return cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
