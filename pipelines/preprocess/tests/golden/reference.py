"""Resampled and preprocessed pictures by Pillow, torchvision and transformers.

Reads one request per line, writes one answer per line:
`pillow|torch FILTER WIDTH HEIGHT TO_WIDTH TO_HEIGHT SEED` -> SHA-256 of the packed RGB bytes;
`smolvlm LONGEST_EDGE MAX_IMAGE_SIZE RESAMPLE WIDTH HEIGHT SEED` -> SHA-256 of the little-endian f32 tensor [3, H, W];
`tiles BACKEND LONGEST_EDGE MAX_IMAGE_SIZE SPLIT WIDTH HEIGHT SEED` -> rows, columns and SHA-256 of all its pictures;
`qwen BACKEND MIN_PIXELS MAX_PIXELS WIDTH HEIGHT SEED` -> grid and SHA-256 of an image's patches;
`qwenvideo CAP MIN_PIXELS MAX_PIXELS FRAMES WIDTH HEIGHT SEED` -> grid and SHA-256 of a video's patches;
`llava BACKEND SIDE IMAGES WIDTH HEIGHT SEED` -> pictures and SHA-256 of all of them.
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


def hashed(array):
    return hashlib.sha256(np.ascontiguousarray(array).astype("<f4").tobytes()).hexdigest()


def tiles(backend, longest_edge, max_image_size, split, width, height, seed):
    from transformers.models.idefics3 import image_processing_idefics3, image_processing_pil_idefics3
    from PIL import Image

    kind = {"torchvision": image_processing_idefics3.Idefics3ImageProcessor,
            "pillow": image_processing_pil_idefics3.Idefics3ImageProcessorPil}[backend]
    processor = kind(size={"longest_edge": longest_edge}, max_image_size={"longest_edge": max_image_size},
                     do_image_splitting=bool(split), return_row_col_info=True)
    out = processor(Image.fromarray(picture(width, height, seed)), return_tensors="np")
    return f"{out['rows'][0][0]} {out['cols'][0][0]} {hashed(out['pixel_values'])}"


def qwen(backend, min_pixels, max_pixels, width, height, seed):
    from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl, image_processing_qwen2_vl
    from PIL import Image

    kind = {"torchvision": image_processing_qwen2_vl.Qwen2VLImageProcessor,
            "pillow": image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil}[backend]
    processor = kind(size={"shortest_edge": min_pixels, "longest_edge": max_pixels})
    out = processor(Image.fromarray(picture(width, height, seed)), return_tensors="np")
    return " ".join(map(str, out["image_grid_thw"][0])) + " " + hashed(out["pixel_values"])


def qwenvideo(cap, min_pixels, max_pixels, frames, width, height, seed):
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    processor = Qwen2VLVideoProcessor(size={"shortest_edge": min_pixels, "longest_edge": max_pixels},
                                      do_sample_frames=False, cap_pixels_per_frame=bool(cap), max_video_tokens=60)
    video = np.stack([picture(width, height, seed + at).transpose(2, 0, 1) for at in range(frames)])
    out = processor([video], return_tensors="np")
    return " ".join(map(str, out["video_grid_thw"][0])) + " " + hashed(out["pixel_values_videos"])


def llava(backend, side, images, width, height, seed):
    from transformers.models.llava_onevision import (
        image_processing_llava_onevision,
        image_processing_pil_llava_onevision,
    )
    from PIL import Image

    kind = {"torchvision": image_processing_llava_onevision.LlavaOnevisionImageProcessor,
            "pillow": image_processing_pil_llava_onevision.LlavaOnevisionImageProcessorPil}[backend]
    pins = [[side * rows, side * columns] for rows in range(1, 4) for columns in range(1, 4)]
    processor = kind(size={"height": side, "width": side}, image_grid_pinpoints=pins)
    shown = [Image.fromarray(picture(width, height, seed + at)) for at in range(images)]
    out = processor([shown], return_tensors="np")["pixel_values"]
    return f"{out.shape[0] * out.shape[1]} {hashed(out)}"


def main():
    for line in sys.stdin:
        kind, *rest = line.split()
        rest = [int(word) if word.lstrip("-").isdigit() else word for word in rest]
        data = globals()[kind](*rest)
        print(data if isinstance(data, str) else hashlib.sha256(data).hexdigest(), flush=True)


if __name__ == "__main__":
    main()
