"""Log-probabilities in transformers of given answers to a question about a made video.

    python models/engine/tests/chosen.py FOLDER REQUEST_JSON

Each answer is put into the conversation by the processor's own template; its tokens count from the end of the generation
prompt, with the end of the turn where `ends` says so. Prints one [logprob, ids] per answer.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoProcessor, SmolVLMForConditionalGeneration
from transformers.video_utils import VideoMetadata

sys.path.insert(0, str(Path(__file__).parent))
from reference import FPS, chat, frame  # noqa: E402


def main() -> None:
    folder, request = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(folder)
    model = SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    frames = request["frames"]
    video = np.stack([frame(request["seed"], index) for index in range(frames)]).transpose(0, 3, 1, 2)
    metadata = VideoMetadata(
        total_num_frames=frames, fps=FPS, duration=frames / FPS, frames_indices=list(range(frames))
    )

    def inputs(answer: str | None):
        turns = chat([(request["question"], answer)])
        text = processor.apply_chat_template(turns, add_generation_prompt=answer is None)
        return processor(
            text=[text],
            videos=[video],
            video_metadata=[metadata],
            do_sample_frames=True,
            num_frames=processor.video_processor.num_frames,
            fps=processor.video_processor.fps,
            add_special_tokens=False,
            return_tensors="pt",
        )

    end = processor.tokenizer.convert_tokens_to_ids("<end_of_utterance>")
    start = inputs(None)["input_ids"].shape[1]
    out = []
    for answer in request["answers"]:
        told = inputs(answer)
        ids = told["input_ids"][0]
        stop = start + ids[start:].tolist().index(end) + int(request["ends"])
        with torch.inference_mode():
            logits = model(**told).logits[0]
        likely = torch.log_softmax(logits[start - 1 : stop - 1].double(), dim=-1)
        chosen = ids[start:stop]
        out.append([float(likely[torch.arange(len(chosen)), chosen].sum()), chosen.tolist()])
    print(json.dumps(out))


if __name__ == "__main__":
    main()
