"""Runs an exported folder with ONNX Runtime on the CPU: enough to evaluate it.

It decodes with PyAV, samples by the SmolVLM rule and resizes with the reference processor,
so what it measures is the model in its published form on really encoded video.
"""

from pathlib import Path

import av
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from reelsight_training import prompt, tokenizer
from reelsight_training.folder import FPS, MAX_FRAMES
from reelsight_training.lexicon import NOT_SHOWN


def sample_indices(frames: int, fps: float) -> np.ndarray:
    """Returns the frames to look at: transformers 5.23 SmolVLMVideoProcessor.sample_frames."""
    duration = frames / fps
    wanted = max(1, min(int(round(FPS * duration)), MAX_FRAMES))
    start, end = 0, frames - 1
    if duration - 2 > MAX_FRAMES * FPS:
        start, end = int(fps), min(int(frames - fps), frames - 1)
    return np.unique(np.linspace(start, end, wanted, dtype=int))


def read_frames(path: Path) -> tuple[np.ndarray, list[int], int]:
    """Returns the sampled frames [n, h, w, 3], their stamps and the duration in seconds."""
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    indices = sample_indices(len(frames), rate)
    stamps = [int(index / rate) for index in indices]
    return np.stack([frames[index] for index in indices]), stamps, int(len(frames) / rate)


class Runtime:
    """The three sessions of a folder with its tokenizer and video processor."""

    def __init__(self, folder: Path, threads: int = 1):
        from transformers import AutoVideoProcessor

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]

        def session(name: str):
            return onnxruntime.InferenceSession(str(folder / "onnx" / f"{name}.onnx"), options, providers)

        self.embed, self.vision = session("embed_tokens"), session("vision_encoder")
        self.decoder = session("decoder_model_merged")
        self.words = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.processor = AutoVideoProcessor.from_pretrained(folder)
        self.image, self.eos = (self.words.token_to_id(text) for text in (tokenizer.IMAGE, tokenizer.EOS))
        inputs = self.decoder.get_inputs()
        self.cache = {value.name: value.shape for value in inputs if value.name.startswith("past")}
        self.outputs = ["logits", *(name.replace("past_key_values", "present") for name in self.cache)]
        self.tokens_per_frame = self.vision.get_outputs()[0].shape[1]

    def pixels(self, frames: np.ndarray) -> np.ndarray:
        """Returns pixel_values [1, n, 3, h, w] as the processor makes them."""
        out = self.processor(videos=[frames], do_sample_frames=False, return_tensors="np")
        return np.asarray(out["pixel_values"], dtype=np.float32)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Returns the visual tokens [n * tokens, D]."""
        mask = np.ones(pixels.shape[:2] + pixels.shape[3:], dtype=bool)
        out = self.vision.run(None, {"pixel_values": pixels, "pixel_attention_mask": mask})[0]
        return out.reshape(-1, out.shape[-1])

    def answer(self, features: np.ndarray, stamps: list[int], duration: int, question: str, limit: int = 40) -> str:
        """Returns the greedy answer to a question."""
        text = prompt.video_text(stamps, duration, self.tokens_per_frame) + question + prompt.ASK
        ids = np.asarray([self.words.encode(text, add_special_tokens=False).ids], dtype=np.int64)
        embeds = self.embed.run(None, {"input_ids": ids})[0]
        embeds[ids == self.image] = features
        past = {name: np.zeros((1, shape[1], 0, shape[3]), np.float32) for name, shape in self.cache.items()}
        total, output = 0, []
        while len(output) < limit:
            length = embeds.shape[1]
            total += length
            feed = {
                "inputs_embeds": embeds,
                "attention_mask": np.ones((1, total), np.int64),
                "position_ids": np.arange(total - length, total, dtype=np.int64)[None],
                "num_logits_to_keep": np.asarray(1, np.int64),
            }
            logits, *present = self.decoder.run(self.outputs, {**feed, **past})
            past = dict(zip(past, present, strict=True))
            token = int(logits[0, -1].argmax())
            if token == self.eos:
                break
            output.append(token)
            embeds = self.embed.run(None, {"input_ids": np.asarray([[token]], np.int64)})[0]
        return self.words.decode(output).strip()


def is_refusal(answer: str) -> bool:
    """Tells whether an answer says that the video does not show it."""
    return answer == NOT_SHOWN
