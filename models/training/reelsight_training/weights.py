"""Moves weights between the training network, transformers and the ONNX graphs.

Initialisers in the graphs carry the state-dict name of the parameter they hold; linear
weights are stored transposed because MatMul wants [in, out]. That is the whole mapping.
"""

from pathlib import Path

import numpy as np

EMBEDDING_KEYS = ("embed_tokens.weight", "position_embedding.weight", "patch_embedding.weight")
TIED_HEAD = "lm_head.weight"
EMBED = "model.text_model.embed_tokens.weight"
GRAPHS = ("embed_tokens", "vision_encoder", "decoder_model_merged")


def is_transposed(name: str, rank: int) -> bool:
    """Tells whether a parameter is stored transposed in the graphs."""
    return rank == 2 and name.endswith(".weight") and not name.endswith(EMBEDDING_KEYS)


def to_graph(name: str, value: np.ndarray) -> np.ndarray:
    """Returns a parameter as the graphs store it."""
    value = value.astype(np.float32)
    return np.ascontiguousarray(value.T) if is_transposed(name, value.ndim) else value


def state_dict_from_onnx(folder: Path) -> dict[str, np.ndarray]:
    """Reads the parameters back from the three graphs of a model folder.

    The tied head is left out: it equals the embedding.
    """
    import onnx
    from onnx import numpy_helper

    state: dict[str, np.ndarray] = {}
    for graph in GRAPHS:
        model = onnx.load(Path(folder) / "onnx" / f"{graph}.onnx")
        for tensor in model.graph.initializer:
            if not tensor.name.startswith("model.") or tensor.name == TIED_HEAD:
                continue
            value = numpy_helper.to_array(tensor)
            state[tensor.name] = value.T.copy() if is_transposed(tensor.name, value.ndim) else value.copy()
    return state
