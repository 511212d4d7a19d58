"""The network: a genuine SmolVLM configuration and a lean torch twin of it for training.

The training modules carry exactly the parameter names of transformers'
`SmolVLMForConditionalGeneration`, so a state dict moves between both without a table.
They exist because training needs what the reference forward hides: any boolean
attention mask, positions that restart, and hidden states from the middle.
"""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """Sizes of the network; the defaults are the shipped model."""

    vocab: int = 800
    hidden: int = 192
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    mlp: int = 512
    rope_theta: float = 500000.0
    max_positions: int = 4096
    image: int = 96
    patch: int = 16
    scale: int = 2
    tower_hidden: int = 160
    tower_layers: int = 4
    tower_heads: int = 5
    tower_mlp: int = 640

    @property
    def image_seq_len(self) -> int:
        """Returns how many visual tokens one frame costs."""
        return (self.image // self.patch // self.scale) ** 2

    def as_dict(self) -> dict:
        """Returns the sizes as plain values, for checkpoints."""
        return asdict(self)


def hf_config(shape: Shape, ids: dict[str, int]):
    """Builds the transformers configuration; `ids` maps special tokens to their ids."""
    from transformers import SmolVLMConfig

    text = {
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "tie_word_embeddings": True,
        "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"],
        "pad_token_id": ids["pad"],
    }
    vision = {
        "hidden_size": shape.tower_hidden,
        "intermediate_size": shape.tower_mlp,
        "num_hidden_layers": shape.tower_layers,
        "num_attention_heads": shape.tower_heads,
        "image_size": shape.image,
        "patch_size": shape.patch,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    }
    return SmolVLMConfig(
        text_config=text,
        vision_config=vision,
        scale_factor=shape.scale,
        image_token_id=ids["image"],
        pad_token_id=ids["pad"],
        tie_word_embeddings=True,
        architectures=["SmolVLMForConditionalGeneration"],
        dtype="float32",
    )


class RmsNorm(nn.Module):
    """Root-mean-square norm with a gain, as Llama uses it."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rope_tables(shape: Shape, positions: torch.Tensor):
    """Returns cos and sin of shape [..., head_dim / 2] for integer positions."""
    exponent = torch.arange(0, shape.head_dim, 2, device=positions.device).float() / shape.head_dim
    angles = positions.float()[..., None] * (1.0 / shape.rope_theta**exponent)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Applies rotary positions in the half-split layout of Llama; x is [b, h, s, d]."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.hidden, bias=False)

    def forward(self, x, cos, sin, mask, tap=None):
        batch, length, _ = x.shape
        dim = self.shape.head_dim
        q = rotate(self.q_proj(x).view(batch, length, -1, dim).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(batch, length, -1, dim).transpose(1, 2), cos, sin)
        if tap is not None:
            tap.append((q, k))
        v = self.v_proj(x).view(batch, length, -1, dim).transpose(1, 2)
        groups = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    """Gated feed-forward block."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.down_proj = nn.Linear(shape.mlp, shape.hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """One Llama block."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Mlp(shape)
        self.input_layernorm = RmsNorm(shape.hidden)
        self.post_attention_layernorm = RmsNorm(shape.hidden)

    def forward(self, x, cos, sin, mask, tap=None):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, tap)
        return x + self.mlp(self.post_attention_layernorm(x))


class TextModel(nn.Module):
    """The Llama decoder without its head; the head is the tied embedding."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList([DecoderLayer(shape) for _ in range(shape.layers)])
        self.norm = RmsNorm(shape.hidden)

    def forward(self, embeds, positions, mask, keep=(), tap=None):
        """Returns the normed output and the hidden states after the layers in `keep`.

        A list given as `tap` receives each layer's rotated queries and keys.
        Shapes: embeds [b, s, D]; positions [b, s]; mask bool [b, 1, s, s] or None for causal.
        """
        cos, sin = rope_tables(self.shape, positions)
        x, kept = embeds, {}
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, mask, tap)
            if index + 1 in keep:
                kept[index + 1] = x
        return self.norm(x), kept


class TowerAttention(nn.Module):
    """Bidirectional attention of the vision tower."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.heads = shape.tower_heads
        width = shape.tower_hidden
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = (
            proj(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).reshape(batch, length, width))


class TowerMlp(nn.Module):
    """Feed-forward block of the vision tower."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.fc1 = nn.Linear(shape.tower_hidden, shape.tower_mlp)
        self.fc2 = nn.Linear(shape.tower_mlp, shape.tower_hidden)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class TowerLayer(nn.Module):
    """One pre-norm block of the vision tower."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.self_attn = TowerAttention(shape)
        self.layer_norm1 = nn.LayerNorm(shape.tower_hidden, eps=1e-6)
        self.mlp = TowerMlp(shape)
        self.layer_norm2 = nn.LayerNorm(shape.tower_hidden, eps=1e-6)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TowerEmbeddings(nn.Module):
    """Patch projection plus learned positions, whole frames only."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, shape.tower_hidden, shape.patch, shape.patch)
        self.position_embedding = nn.Embedding((shape.image // shape.patch) ** 2, shape.tower_hidden)

    def forward(self, pixels):
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        return patches + self.position_embedding.weight


class TowerEncoder(nn.Module):
    """The stack of tower layers; a module of its own to keep the reference names."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.layers = nn.ModuleList([TowerLayer(shape) for _ in range(shape.tower_layers)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Tower(nn.Module):
    """The SigLIP-type vision tower."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.embeddings = TowerEmbeddings(shape)
        self.encoder = TowerEncoder(shape)
        self.post_layernorm = nn.LayerNorm(shape.tower_hidden, eps=1e-6)

    def forward(self, pixels):
        """Maps pixels [n, 3, 96, 96] to patch states [n, 36, W]."""
        return self.post_layernorm(self.encoder(self.embeddings(pixels)))


class Projection(nn.Module):
    """The linear map from shuffled patches to the decoder's width."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.proj = nn.Linear(shape.tower_hidden * shape.scale**2, shape.hidden, bias=False)

    def forward(self, x):
        return self.proj(x)


class Connector(nn.Module):
    """Pixel shuffle and projection: 2 x 2 patches become one visual token."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.scale = shape.scale
        self.modality_projection = Projection(shape)

    def shuffle(self, x):
        """Stacks the channels of 2 x 2 patches: [n, 36, W] becomes [n, 9, 4 W]."""
        batch, patches, width = x.shape
        side, scale = int(patches**0.5), self.scale
        x = x.view(batch, side // scale, scale, side // scale, scale * width)
        return x.transpose(2, 3).reshape(batch, patches // scale**2, width * scale**2)

    def forward(self, x):
        return self.modality_projection(self.shuffle(x))


class Core(nn.Module):
    """Tower, connector and decoder under the reference's attribute names."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.vision_model = Tower(shape)
        self.connector = Connector(shape)
        self.text_model = TextModel(shape)


class ReelsightTiny(nn.Module):
    """The trainable network; state-dict keys equal transformers' (less the tied head)."""

    def __init__(self, shape: Shape = Shape()):
        super().__init__()
        self.shape = shape
        self.model = Core(shape)

    def image_features(self, pixels):
        """Maps pixels [n, 3, 96, 96], normalised to -1..1, to visual tokens [n, 9, D]."""
        return self.model.connector(self.model.vision_model(pixels))

    def logits(self, hidden):
        """Scores the vocabulary with the tied embedding."""
        return hidden @ self.model.text_model.embed_tokens.weight.T


def init_weights(model: ReelsightTiny, seed: int, std: float = 0.02) -> None:
    """Draws every weight from a seed: matrices and embeddings by `std`, norms one, biases zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            if "norm" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, std, generator=generator)
