"""What PyAV makes of files, decoded from their start: one JSON object per shown frame, in order. Options: --planes.

`planes` is the SHA-256 of the decoder's samples, rows without padding; `rgb` that of packed RGB at full size, made by
swscale with the default scaler and full chroma interpolation, matrix and range as the arguments of this script's
caller would expect them: from the frame, else BT.601 and limited range, as FFmpeg takes it. `--planes` leaves it out.
"""

import hashlib
import json
import sys

import av
from av.video.reformatter import ColorRange, Colorspace, Interpolation

MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601,
            7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020}
FLAGS = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT


def plane_bytes(frame):
    """All planes, cropped to the picture."""
    out = []
    samples = (max(component.bits for component in frame.format.components) + 7) // 8
    packed = len(frame.planes) == 1 and len(frame.format.components) > 1
    for number, plane in enumerate(frame.planes):
        per_pixel = samples
        if packed:
            per_pixel = frame.format.bits_per_pixel // 8
        elif frame.format.name.startswith("nv") and number == 1:
            per_pixel = 2 * samples
        row = plane.width * per_pixel
        data = memoryview(plane)
        out.extend(bytes(data[y * plane.line_size : y * plane.line_size + row]) for y in range(plane.height))
    return b"".join(out)


def rgb_bytes(frame):
    """Packed RGB."""
    matrix = MATRICES.get(int(frame.colorspace), Colorspace.ITU601)
    span = ColorRange(frame.color_range)
    full = frame.format.name.startswith(("yuvj", "gray"))
    if span == ColorRange.UNSPECIFIED:
        span = ColorRange.JPEG if full else ColorRange.MPEG
    rgb = frame.reformat(format="rgb24", interpolation=FLAGS, src_colorspace=matrix, dst_colorspace=matrix,
                         src_color_range=span, dst_color_range=ColorRange.JPEG, threads=1)
    plane = rgb.planes[0]
    data = memoryview(plane)
    return b"".join(bytes(data[y * plane.line_size : y * plane.line_size + rgb.width * 3]) for y in range(rgb.height))


def main(path, with_rgb):
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                rgb = {"rgb": hashlib.sha256(rgb_bytes(frame)).hexdigest()} if with_rgb else {}
                print(json.dumps({
                    "file": path, "pts": frame.pts, "format": frame.format.name, "width": frame.width, "height": frame.height,
                    "time_base": [frame.time_base.numerator, frame.time_base.denominator],
                    "planes": hashlib.sha256(plane_bytes(frame)).hexdigest(), **rgb,
                }))


if __name__ == "__main__":
    files = [argument for argument in sys.argv[1:] if argument != "--planes"]
    for file in files:
        main(file, with_rgb="--planes" not in sys.argv)
