"""Frames that transformers' SmolVLM video processor samples.

Reads `TOTAL_FRAMES VIDEO_FPS DURATION FPS MAX_FRAMES` per line, writes the indices of each as one line.
"""

import sys

from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor
from transformers.video_utils import VideoMetadata


def main():
    processor = SmolVLMVideoProcessor()
    for line in sys.stdin:
        total, video_fps, duration, fps, max_frames = line.split()
        metadata = VideoMetadata(total_num_frames=int(total), fps=float(video_fps), duration=float(duration))
        indices = processor.sample_frames(metadata, num_frames=int(max_frames), fps=float(fps))
        print(*indices, flush=True)


if __name__ == "__main__":
    main()
