"""Frames that transformers' video processors sample.

Reads one request per line, writes the indices of each as one line:
`smolvlm TOTAL_FRAMES VIDEO_FPS DURATION FPS MAX_FRAMES`, `qwen TOTAL_FRAMES VIDEO_FPS FPS MIN_FRAMES MAX_FRAMES` or
`uniform TOTAL_FRAMES FRAMES`.
"""

import sys

from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor
from transformers.video_utils import VideoMetadata


def smolvlm(total, video_fps, duration, fps, max_frames):
    metadata = VideoMetadata(total_num_frames=int(total), fps=float(video_fps), duration=float(duration))
    return SmolVLMVideoProcessor().sample_frames(metadata, num_frames=int(max_frames), fps=float(fps))


def qwen(total, video_fps, fps, min_frames, max_frames):
    processor = Qwen2VLVideoProcessor(min_frames=int(min_frames), max_frames=int(max_frames), fps=float(fps))
    return processor.sample_frames(VideoMetadata(total_num_frames=int(total), fps=float(video_fps))).tolist()


def uniform(total, frames):
    processor = LlavaOnevisionVideoProcessor(num_frames=int(frames))
    return processor.sample_frames(VideoMetadata(total_num_frames=int(total))).tolist()


def main():
    for line in sys.stdin:
        kind, *numbers = line.split()
        print(*globals()[kind](*numbers), flush=True)


if __name__ == "__main__":
    main()
