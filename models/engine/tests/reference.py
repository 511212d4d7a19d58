"""What transformers makes of the same model, frames and questions (SmolVLMProcessor, generate).

    python models/engine/tests/reference.py FOLDER OUT

FOLDER holds a model with random weights as safetensors beside the graphs. Writes OUT/cases.json and, for each case, the
pixel values as little-endian f32. Frames follow the formula of support/mod.rs, so nothing is decoded.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoProcessor, SmolVLMForConditionalGeneration
from transformers.video_utils import VideoMetadata

WIDTH, HEIGHT, FPS = 64, 48, 25
MAX_TOKENS = 16
QUESTIONS = [
    "What moves?",
    "What color is the circle?",
    "How many objects are there?",
    "Which shape appears first? Answer in one word.",
    "Where is the star at 00:02?",
    "Is there a red square?",
    "Describe the video.",
    "¿Qué se mueve? — 何が見える 🙂",
    "  spaces   and\n\nnew lines  ",
    "A) red B) blue C) green. Which color is the triangle?",
]


def frame(seed: int, index: int) -> np.ndarray:
    """Frame `index` of the made video `seed`, [H, W, 3] u8."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    left, top = (index * 3 + seed * 7) % (WIDTH - 16), (index + seed * 5) % (HEIGHT - 16)
    ground = np.stack([x * 3 + seed, y * 4 + index, (x + y + seed * 11) * 2], axis=-1)
    square = np.array([(seed * 53) % 256, (index * 17 + 90) % 256, 220])
    inside = (x >= left) & (x < left + 16) & (y >= top) & (y < top + 16)
    return (np.where(inside[..., None], square, ground) % 256).astype(np.uint8)


def chat(turns: list[tuple[str, str | None]]) -> list[dict]:
    """The conversation as transformers takes it."""
    messages = []
    for at, (question, answer) in enumerate(turns):
        video = [{"type": "video"}] if at == 0 else []
        messages.append({"role": "user", "content": [*video, {"type": "text", "text": question}]})
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return messages


def run(processor, model, seed: int, frames: int, turns: list) -> dict:
    """One prompt: ids, pixels, greedy tokens."""
    video = np.stack([frame(seed, index) for index in range(frames)])
    metadata = VideoMetadata(
        total_num_frames=frames, fps=FPS, duration=frames / FPS, frames_indices=list(range(frames))
    )
    text = processor.apply_chat_template(chat(turns), add_generation_prompt=True)
    inputs = processor(
        text=[text],
        videos=[video.transpose(0, 3, 1, 2)],
        video_metadata=[metadata],
        do_sample_frames=True,
        num_frames=processor.video_processor.num_frames,
        fps=processor.video_processor.fps,
        add_special_tokens=False,
        return_tensors="pt",
    )
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
    ids = inputs["input_ids"][0].tolist()
    tokens = out[0].tolist()[len(ids) :]
    answer = processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    pixels = inputs["pixel_values"][0].numpy().astype("<f4")
    return {"seed": seed, "frames": frames, "ids": ids, "tokens": tokens, "answer": answer, "pixels": pixels}


def main() -> None:
    folder, out = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(folder)
    model = SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    cases = []
    for at in range(24):
        seed, frames = at + 1, [1, 30, 200, 75, 333, 60, 901, 125][at % 8]
        first = run(processor, model, seed, frames, [(QUESTIONS[at % 10], None)])
        # The second turn takes the first answer as it was printed.
        turns = [(QUESTIONS[at % 10], first["answer"]), (QUESTIONS[(at + 3) % 10], None)]
        second = run(processor, model, seed, frames, turns)
        first["pixels"].tofile(out / f"pixels-{at}.f32")
        for case in (first, second):
            del case["pixels"]
        cases.append({**first, "question": turns[0][0], "next_question": turns[1][0], "next": second})
    (out / "cases.json").write_text(json.dumps(cases), encoding="utf-8")


if __name__ == "__main__":
    main()
