"""Makes the corpus of the parsers' fuzz target out of videos: the heads of the first packets of each.

    python tests/fuzz/make_corpus.py tests/fuzz/corpus/parsers FILE...

The layout is that of `pipelines/decode/src/fuzzing.rs`.
"""

import pathlib
import sys

import av

CODECS = ["h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4"]
PACKETS, HEAD = 8, 96


def part(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def entry(path: str) -> bytes | None:
    with av.open(path) as container:
        stream = container.streams.video[0]
        name = stream.codec_context.name.replace("libdav1d", "av1").replace("libaom-av1", "av1").replace("libvpx-", "")
        if name not in CODECS:
            return None
        out = bytes([CODECS.index(name)]) + part(stream.codec_context.extradata or b"")
        packets = (packet for packet in container.demux(stream) if packet.size)
        for _, packet in zip(range(PACKETS), packets):
            data = bytes(packet)
            # Whole small packets, and of large ones the head, with lengths of NAL units that then promise too much.
            out += part(data if len(data) < 2 * HEAD else data[:HEAD])
        return out


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for path in map(pathlib.Path, sys.argv[2:]):
        if data := entry(str(path)):
            (folder / path.name.replace(".", "-")).write_bytes(data)


if __name__ == "__main__":
    main()
