"""VideoMAE-v2 ViT-g/14 fine-tuned on Something-Something v2 (Wang et al. 2023): the features of cd-fvd (Ge et al. 2024).

It was pretrained without labels and fine-tuned on classes of motion, so its distance is more sensitive to motion than that of I3D.
Keys are those of `vit_g_hybrid_pt_1200e_ssv2_ft.pth` (OpenGVLab).  The 1408 features are the normalised mean over all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebench.pickled import load_tensors
from vaebench.state_dicts import load_strict, state_dict_of


@dataclass(frozen=True)
class ViTConfig:
    """The shape of the network; the defaults are ViT-g/14."""

    side: int = 224
    hidden: int = 1408
    depth: int = 40
    heads: int = 16
    classes: int = 174
    patch: int = 14
    tubelet: int = 2  # frames per token
    frames: int = 16

    @property
    def mlp(self) -> int:
        return self.hidden * 48 // 11


def prepared(video: Tensor, side: int = 224) -> Tensor:
    """float (B, 3, T, H, W) in 0..1 -> (B, 3, T, side, side) in 0..1: bilinear, ignores the aspect ratio, not normalised."""
    images = F.interpolate(video.transpose(1, 2).flatten(0, 1), size=(side, side), mode="bilinear", align_corners=False)
    return images.unflatten(0, (len(video), -1)).transpose(1, 2)


def positions(count: int, dim: int) -> Tensor:
    """Position embeddings, float32 (1, count, dim): features 2i and 2i + 1 are sine and cosine of the same frequency."""
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.outer(torch.arange(count, dtype=torch.float64), frequencies)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[None].float()


class PatchEmbed(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        size = (config.tubelet, config.patch, config.patch)
        self.proj = nn.Conv3d(3, config.hidden, size, size)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, tokens, D), ordered by frame, row and column."""
        return self.proj(video).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention with a bias for queries and values, but not for keys."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_bias = nn.Parameter(torch.zeros(config.hidden))
        self.v_bias = nn.Parameter(torch.zeros(config.hidden))
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden, bias=False)
        self.proj = nn.Linear(config.hidden, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden, config.mlp)
        self.fc2 = nn.Linear(config.mlp, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden, eps=1e-6)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden, eps=1e-6)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VideoMAE(nn.Module):
    """Created in evaluation mode, without gradients."""

    table: Tensor

    def __init__(self, config: ViTConfig = ViTConfig()) -> None:
        super().__init__()
        self.config = config
        tokens = (config.frames // config.tubelet) * (config.side // config.patch) ** 2
        self.patch_embed = PatchEmbed(config)
        self.register_buffer("table", positions(tokens, config.hidden), persistent=False)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.fc_norm = nn.LayerNorm(config.hidden, eps=1e-6)
        self.head = nn.Linear(config.hidden, config.classes)
        self.eval().requires_grad_(False)

    def forward(self, video: Tensor) -> Tensor:
        """float (B, 3, 16, 224, 224) in 0..1 -> features (B, 1408).

        Raises:
            ValueError: another shape
        """
        expected = (3, self.config.frames, self.config.side, self.config.side)
        if video.ndim != 5 or tuple(video.shape[1:]) != expected:
            raise ValueError(f"this VideoMAE takes (B, {', '.join(map(str, expected))}), got {tuple(video.shape)}")
        x = self.patch_embed(video) + self.table
        for block in self.blocks:
            x = block(x)
        return self.fc_norm(x.mean(dim=1))

    def logits(self, video: Tensor) -> Tensor:
        """float (B, 3, 16, 224, 224) in 0..1 -> logits (B, 174) of the classes of Something-Something v2."""
        return self.head(self(video))


def load(path: Path) -> VideoMAE:
    """Load `vit_g_hybrid_pt_1200e_ssv2_ft.pth`.

    Raises:
        OSError: the file is missing or unreadable
        ValueError: it does not have the weights of this network
    """
    with torch.device("meta"):
        network = VideoMAE()
    network.table = positions(network.table.shape[1], network.table.shape[2])
    state = state_dict_of(load_tensors(path, mmap=True), path, "module", "model")
    load_strict(network, {key: value.float() for key, value in state.items()}, str(path))
    return network.requires_grad_(False)
