"""The conversations that golden tests hold: words, pictures by formula, videos by their number of frames."""

import numpy as np

QUESTIONS = (
    "What is in this picture?",
    "How many objects are there?",
    "What color is the circle?",
    "Describe the image.",
    "¿Qué se mueve? — 何が見える 🙂",
    "  spaces   and\n\nnew lines  ",
    "A) red B) blue C) 12. Which color is the square?",
    "Yes or No: is there a red square?",
)
SYSTEM = "You are a terse assistant. Answer in 3 words."
SIZES = ((96, 64), (64, 96), (56, 56), (140, 90), (33, 47), (200, 120), (28, 300))


def picture(seed: int, width: int, height: int) -> np.ndarray:
    """Returns a made picture, [height, width, 3] u8."""
    y, x = np.mgrid[0:height, 0:width]
    ground = np.stack([x * 3 + seed, y * 4 + seed * 7, (x * y // 5 + seed * 11) * 2], axis=-1)
    inside = ((x + seed * 5) // 16 + (y + seed * 3) // 16) % 5 == 0
    square = np.array([(seed * 53) % 256, (seed * 17 + 90) % 256, 220])
    return (np.where(inside[..., None], square, ground) % 256).astype(np.uint8)


def image(seed: int) -> dict:
    """Returns a still picture."""
    width, height = SIZES[seed % len(SIZES)]
    return {"kind": "image", "seed": seed, "width": width, "height": height}


def video(seed: int, frames: int, fps: int) -> dict:
    """Returns a video whose frame i is the picture of seed + i."""
    width, height = SIZES[seed % 4]
    return {"kind": "video", "seed": seed, "width": width, "height": height, "frames": frames, "fps": fps}


def turn(question: int, *media: dict, answer: str | None = None) -> dict:
    """Returns one turn."""
    return {"media": list(media), "question": QUESTIONS[question % len(QUESTIONS)], "answer": answer}


def texts() -> list[dict]:
    """Twenty conversations without pictures."""
    cases = [{"system": None, "turns": [turn(at)]} for at in range(8)]
    cases += [{"system": SYSTEM, "turns": [turn(at)]} for at in range(4)]
    for at in range(8):
        past = [turn(at + step, answer=f"It is {step} red squares, No.") for step in range(1 + at % 3)]
        cases.append({"system": SYSTEM if at % 2 else None, "turns": [*past, turn(at + 4)]})
    return cases


def pictures(videos: bool = True) -> list[dict]:
    """Twenty conversations: text, one image, many images, videos, several turns, system prompts."""
    plain = [{"system": None, "turns": [turn(at)]} for at in (0, 5)]
    one = [{"system": None, "turns": [turn(at, image(at))]} for at in range(6)]
    many = [{"system": None, "turns": [turn(at, *(image(at + k) for k in range(2 + at % 2)))]} for at in range(3)]
    shown = ((4, 2), (30, 10), (75, 25), (200, 25), (90, 30))
    seen = [{"system": None, "turns": [turn(at, video(at, *size))]} for at, size in enumerate(shown)]
    if not videos:
        seen = [{"system": None, "turns": [turn(at, image(at + 2), image(at))]} for at in range(5)]
    told = [
        {"system": SYSTEM, "turns": [turn(1, image(3))]},
        {"system": None, "turns": [turn(2, image(1), answer="A red circle."), turn(7)]},
        {"system": None, "turns": [turn(3, video(2, 60, 20) if videos else image(6), answer="Yes."), turn(4)]},
        {"system": SYSTEM, "turns": [turn(0, image(2), answer="No."), turn(6, image(5))]},
    ]
    return [*plain, *one, *many, *seen, *told]
