"""Vision towers of the SigLIP kind as graphs, with the connectors of LLaVA-OneVision and of Idefics3 / SmolVLM."""

from dataclasses import dataclass

from reelsight_training.graph import BOOL, FLOAT

from reelsight_twins.graph import Twin


@dataclass(frozen=True)
class Tower:
    """Sizes of a tower."""

    out: int
    prefix: str
    image: int
    patch: int = 14
    hidden: int = 32
    heads: int = 2
    layers: int = 2
    inner: int = 64
    scale: int = 2

    @property
    def side(self) -> int:
        return self.image // self.patch

    @property
    def dim(self) -> int:
        return self.hidden // self.heads


def _layer(g: Twin, tower: Tower, index: int, x: str) -> str:
    name, size = f"{tower.prefix}.encoder.layers.{index}", tower.hidden
    normed = g.layer_norm(x, f"{name}.layer_norm1", size)

    def head(part: str) -> str:
        y = g.dense(normed, f"{name}.self_attn.{part}", size, size)
        return g.op("Transpose", g.op("Reshape", y, g.ints(0, 0, tower.heads, tower.dim)), perm=[0, 2, 1, 3])

    mixed = g.attend(head("q_proj"), head("k_proj"), head("v_proj"), tower.dim, None)
    mixed = g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), g.ints(0, 0, size))
    x = g.op("Add", x, g.dense(mixed, f"{name}.self_attn.out_proj", size, size))
    inner = g.dense(g.layer_norm(x, f"{name}.layer_norm2", size), f"{name}.mlp.fc1", size, tower.inner)
    inner = g.op("Gelu", inner, approximate="tanh")
    return g.op("Add", x, g.dense(inner, f"{name}.mlp.fc2", tower.inner, size))


def _tower(g: Twin, tower: Tower, pixels: str) -> str:
    name, kernel = f"{tower.prefix}.embeddings", [tower.patch, tower.patch]
    weight = g.param(f"{name}.patch_embedding.weight", tower.hidden, 3, *kernel)
    bias = g.param(f"{name}.patch_embedding.bias", tower.hidden)
    x = g.op("Conv", pixels, weight, bias, kernel_shape=kernel, strides=kernel)
    x = g.op("Transpose", g.op("Reshape", x, g.ints(0, tower.hidden, tower.side**2)), perm=[0, 2, 1])
    x = g.op("Add", x, g.param(f"{name}.position_embedding.weight", tower.side**2, tower.hidden))
    for index in range(tower.layers):
        x = _layer(g, tower, index, x)
    return x


def llava_encoder(tower: Tower, seed: int, newline: bool):
    """Builds pixel_values [pictures, 3, h, w] -> image_features; `newline` adds the learnt marker as an output."""
    g = Twin(seed)
    x = _tower(g, tower, "pixel_values")
    x = g.op("Gelu", g.dense(x, "model.multi_modal_projector.linear_1", tower.hidden, tower.out))
    x = g.dense(x, "model.multi_modal_projector.linear_2", tower.out, tower.out)
    g.emit("Identity", [x], ["image_features"])
    outputs = [("image_features", FLOAT, ["pictures", tower.side**2, tower.out])]
    if newline:
        g.emit("Identity", [g.param("model.image_newline", tower.out)], ["image_newline"])
        outputs.append(("image_newline", FLOAT, [tower.out]))
    inputs = [("pixel_values", FLOAT, ["pictures", 3, tower.image, tower.image])]
    return g.finish("vision_encoder", inputs, outputs)


def idefics_encoder(tower: Tower, seed: int):
    """Builds pixel_values and pixel_attention_mask [batch, pictures, ...] -> image_features, for whole pictures."""
    g = Twin(seed)
    shape = [3, tower.image, tower.image]
    x = _tower(g, tower, g.op("Reshape", "pixel_values", g.ints(-1, *shape)))
    x = g.layer_norm(x, f"{tower.prefix}.post_layernorm", tower.hidden)
    coarse, width = tower.side // tower.scale, tower.scale**2 * tower.hidden
    x = g.op("Reshape", x, g.ints(-1, coarse, tower.scale, coarse, tower.scale * tower.hidden))
    x = g.op("Reshape", g.op("Transpose", x, perm=[0, 1, 3, 2, 4]), g.ints(-1, coarse**2, width))
    x = g.dense(x, "model.connector.modality_projection.proj", width, tower.out, False)
    g.emit("Identity", [x], ["image_features"])
    dims = ["batch_size", "num_images"]
    inputs = [("pixel_values", FLOAT, [*dims, *shape]), ("pixel_attention_mask", BOOL, [*dims, *shape[1:]])]
    return g.finish("vision_encoder", inputs, [("image_features", FLOAT, ["pictures", coarse**2, tower.out])])
