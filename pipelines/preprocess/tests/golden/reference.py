"""Resampled and preprocessed pictures by Pillow, torchvision and transformers.

Reads one request per line, writes one answer per line:
`pillow|torch FILTER WIDTH HEIGHT TO_WIDTH TO_HEIGHT SEED` -> SHA-256 of the packed RGB bytes;
`smolvlm LONGEST_EDGE MAX_IMAGE_SIZE RESAMPLE WIDTH HEIGHT SEED` -> SHA-256 of the little-endian f32 tensor [3, H, W].
The picture of a seed is made by `picture`, which the caller knows, too.
"""

import hashlib
import sys

import numpy as np


def picture(width, height, seed):
    """Noise over a gradient: [height, width, 3] u8 from a 64-bit linear congruential generator."""
    state = seed
    out = np.empty(width * height * 3, np.uint8)
    for at in range(out.size):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[at] = state >> 56 if at // 3 % 5 else (at * 255) // out.size
    return out.reshape(height, width, 3)


def pillow(name, width, height, to_width, to_height, seed):
    from PIL import Image

    filters = {name.lower(): getattr(Image.Resampling, name)
               for name in ("BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS")}
    image = Image.fromarray(picture(width, height, seed))
    return np.asarray(image.resize((to_width, to_height), filters[name])).tobytes()


def torch(name, width, height, to_width, to_height, seed):
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional

    tensor = torch.from_numpy(picture(width, height, seed)).permute(2, 0, 1)[None]
    mode = InterpolationMode[name.upper()]
    out = functional.resize(tensor, [to_height, to_width], interpolation=mode, antialias=True)
    return out[0].permute(1, 2, 0).contiguous().numpy().tobytes()


def smolvlm(longest_edge, max_image_size, resample, width, height, seed):
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    processor = SmolVLMVideoProcessor(
        size={"longest_edge": longest_edge}, max_image_size={"longest_edge": max_image_size}, resample=resample,
        image_mean=[0.5] * 3, image_std=[0.5] * 3, do_sample_frames=False,
        video_sampling={"fps": 1, "max_frames": 64, "video_size": {"longest_edge": longest_edge}})
    frame = picture(width, height, seed).transpose(2, 0, 1)
    video = np.stack([frame, frame])
    out = processor([video], return_tensors="np")
    assert out["pixel_attention_mask"].all()
    return out["pixel_values"][0, 1].astype("<f4").tobytes()


def main():
    for line in sys.stdin:
        kind, *rest = line.split()
        rest = [int(word) if word.lstrip("-").isdigit() else word for word in rest]
        data = {"pillow": pillow, "torch": torch, "smolvlm": smolvlm}[kind](*rest)
        print(hashlib.sha256(data).hexdigest(), flush=True)


if __name__ == "__main__":
    main()
