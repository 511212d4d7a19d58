"""Log-likelihood of an answer in transformers when frames are hidden from question and answer.

    python models/engine/tests/masked.py FOLDER REQUEST_JSON

The video's part of the prompt is prefilled with everything shown; the rest runs on that cache with zeros in the
attention mask at the hidden frames' tokens. Prints one number per entry of `hidden`.
"""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoProcessor, SmolVLMForConditionalGeneration

sys.path.insert(0, str(Path(__file__).parent))
from reference import frame  # noqa: E402


def main() -> None:
    folder, request = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(folder)
    model = SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    video = np.stack([frame(request["seed"], index) for index in request["frames"]]).transpose(0, 3, 1, 2)
    pixels = processor.video_processor([video], do_sample_frames=False, return_tensors="pt")
    start, answer = request["video_tokens"], request["answer"]
    ids = torch.tensor([request["ids"] + answer])
    scores = []
    with torch.inference_mode():
        seen = model(
            input_ids=ids[:, :start],
            pixel_values=pixels["pixel_values"],
            pixel_attention_mask=pixels["pixel_attention_mask"],
            use_cache=True,
        )
        for hidden in request["hidden"]:
            mask = torch.ones_like(ids)
            for index in hidden:
                first, end = request["blocks"][index]
                mask[:, first:end] = 0
            logits = model(
                input_ids=ids[:, start:],
                attention_mask=mask,
                position_ids=torch.arange(start, ids.shape[1])[None],
                past_key_values=copy.deepcopy(seen.past_key_values),
            ).logits[0]
            likely = torch.log_softmax(logits[-len(answer) - 1 : -1].double(), dim=-1)
            scores.append(float(likely[torch.arange(len(answer)), torch.tensor(answer)].sum()))
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
