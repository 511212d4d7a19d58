"""Fewer bits for the weights of a graph: MatMul becomes MatMulNBits, by onnxruntime's own quantiser.

    python -m convert.bits --graph onnx/decoder_model_merged.onnx --bits 8 --out onnx/decoder_model_merged_quantized.onnx

Only weights change. Activations stay in 32 bits between operators, so the same prompt gives the same tokens in
whatever chunks it is prefilled; dynamic int8 does not keep that, which is why it is not offered.
"""

import argparse
import logging
from pathlib import Path

import onnx

BLOCK = 32
# 4: the kernel may round activations to 8 bits block by block, row by row; the fast path of CPUs.
ACCURACY_LEVEL = 4
EXTERNAL_FROM = 64 << 20


def quantize(model: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    """Returns the model with every MatMul by a constant as MatMulNBits."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger("onnxruntime").setLevel(logging.ERROR)
    logging.disable(logging.INFO)
    # 8 bits are enough for a symmetric grid, which needs no zero points; 4 bits want every level they can get.
    quantizer = MatMulNBitsQuantizer(
        model, bits=bits, block_size=BLOCK, is_symmetric=bits == 8, accuracy_level=ACCURACY_LEVEL
    )
    quantizer.process()
    return quantizer.model.model


def save(model: onnx.ModelProto, path: Path) -> None:
    """Writes a graph as published ones are: weights beside it in `<name>_data` once they are large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_name(f"{path.name}_data")
    data.unlink(missing_ok=True)
    large = model.ByteSize() > EXTERNAL_FROM
    onnx.save(model, path, save_as_external_data=large, location=data.name, size_threshold=1024)
    if large:
        data.chmod(0o644)


def main() -> None:
    """Quantises one graph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--bits", type=int, choices=(4, 8), required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    save(quantize(onnx.load(args.graph), args.bits), args.out)


if __name__ == "__main__":
    main()
