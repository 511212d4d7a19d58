"""Copies a model folder and makes its decoder compute what is no number.

    python models/engine/tests/broken.py FOLDER OUT
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("SHA256SUMS", "*.safetensors", "reference"))
    manifest = out / "reelsight.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "name": "broken"}))
    path = next(out.glob("onnx/decoder_model_merged*.onnx"))
    model = onnx.load(path)
    logits = next(node for node in model.graph.node if "logits" in node.output)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name in logits.input)
    values = numpy_helper.to_array(weight).copy()
    # One column of the language head: every row of logits has one value that is no number.
    values[..., 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)


if __name__ == "__main__":
    main()
