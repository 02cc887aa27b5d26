"""Latte (Ma et al., arXiv 2401.03048, variant 1): a diffusion transformer that alternates attention over space and time.

State-dict keys and initialisation are those of the official code (github.com/Vchitect/Latte at b27c24a1), so that released
checkpoints load strictly. The arithmetic is arranged differently: tokens stay (B, F, N, D) throughout, and what depends on
the timestep and label is computed once per sample, where the official code repeats it for every frame and every token.

    latent (B, C, F, H, W) -> patches (B, F, N, D) -> [space, time] x depth/2 -> (B, C or 2C, F, H, W)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vaebench.pickled import load_tensors
from vaebench.state_dicts import load_strict, state_dict_of

SIZES = {
    "XL": (28, 1152, 16),
    "L": (24, 1024, 16),
    "B": (12, 768, 12),
    "S": (12, 384, 6),
}  # depth, hidden, heads


@dataclass(frozen=True)
class LatteConfig:
    """The shape of a Latte; the defaults are Latte-L/2 on the 5 latent frames of 17 frames at 256 x 256."""

    channels: int = 4  # of the latent
    frames: int = 5  # latent frames
    height: int = 32  # of the latent
    width: int = 32
    patch: int = 2  # latent positions along each side of a token
    depth: int = 24  # blocks, half of them over space and half over time
    hidden: int = 1024
    heads: int = 16
    classes: int = 0  # 0: unconditional; otherwise label `classes` is the null label of classifier-free guidance
    learn_sigma: bool = True  # predict the variance beside the noise: twice the channels come out

    def __post_init__(self) -> None:
        if self.height % self.patch or self.width % self.patch:
            raise ValueError(
                f"patches of {self.patch} do not tile latents of {self.height} x {self.width}; "
                "take a patch size that divides both sides"
            )
        if self.hidden % self.heads or self.hidden % 4:
            raise ValueError(f"hidden must be a multiple of 4 and of heads, got {self.hidden} and {self.heads} heads")
        if self.depth % 2 or self.depth < 2:
            raise ValueError(f"depth counts pairs of a spatial and a temporal block and must be even, got {self.depth}")

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens down and across one frame."""
        return self.height // self.patch, self.width // self.patch

    @property
    def out_channels(self) -> int:
        return self.channels * (2 if self.learn_sigma else 1)


def sincos(positions: Tensor, dim: int) -> Tensor:
    """float64 (n,) -> float64 (n, dim): the sines of geometrically spaced frequencies, then their cosines."""
    frequencies = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angles = torch.outer(positions, frequencies)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def frame_positions(frames: int, dim: int) -> Tensor:
    """float32 (frames, dim)."""
    return sincos(torch.arange(frames, dtype=torch.float64), dim).float()


def grid_positions(rows: int, columns: int, dim: int) -> Tensor:
    """float32 (rows * columns, dim), row by row; the first half of the features encodes the column, the second the row."""
    row = torch.arange(rows, dtype=torch.float64).repeat_interleave(columns)
    column = torch.arange(columns, dtype=torch.float64).repeat(rows)
    return torch.cat([sincos(column, dim // 2), sincos(row, dim // 2)], dim=1).float()


def timestep_features(t: Tensor, dim: int = 256) -> Tensor:
    """Timesteps (B,) -> float32 (B, dim): cosines, then sines; an odd `dim` ends in a zero."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))


class PatchEmbed(nn.Module):
    def __init__(self, config: LatteConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.channels, config.hidden, config.patch, config.patch)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, F, N, D)"""
        frames = latent.transpose(1, 2)  # (B, F, C, H, W)
        return self.proj(frames.flatten(0, 1)).flatten(2).transpose(1, 2).unflatten(0, frames.shape[:2])


class TimestepEmbedder(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, features: Tensor) -> Tensor:
        """(B, 256) -> (B, D)"""
        return self.mlp(features)


class LabelEmbedder(nn.Module):
    def __init__(self, classes: int, hidden: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, hidden)

    def forward(self, labels: Tensor) -> Tensor:
        """(B,) in 0..classes -> (B, D)"""
        return self.embedding_table(labels)


class Attention(nn.Module):
    """Self-attention along the last but one axis: (..., L, D) -> (..., L, D)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).flatten(0, -3).unflatten(-1, (3, self.heads, -1))  # (n, L, 3, heads, D / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (n, heads, L, D / heads) each
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))


class Mlp(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, 4 * hidden)
        self.fc2 = nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, then one shift and scale per sample: (B, ., ., D) with (B, 1, 1, D)."""
    width, scale = x.shape[-1:], 1 + scale
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.addcmul(shift, F.layer_norm(x, width, eps=1e-6), scale)
    # in eager mode a CPU saves passes over memory if scale and shift are the weight and bias of the norm, sample by sample
    weights, biases = scale.to(x.dtype).flatten(1), shift.to(x.dtype).flatten(1)
    normed = [F.layer_norm(*row, eps=1e-6) for row in zip(x, [width] * len(x), weights, biases, strict=True)]
    return torch.stack(normed) if len(normed) > 1 else normed[0][None]


class Block(nn.Module):
    """adaLN-Zero transformer block (Peebles and Xie 2023); it does not know whether it attends over space or time."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(hidden, heads)
        self.mlp = Mlp(hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 6 * hidden))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """(B, S, L, D), attention along L, with the condition (B, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c)[:, None, None].chunk(6, dim=-1)
        x = torch.addcmul(x, gate1, self.attn(modulated(x, shift1, scale1)))
        return torch.addcmul(x, gate2, self.mlp(modulated(x, shift2, scale2)))


class FinalLayer(nn.Module):
    def __init__(self, config: LatteConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.hidden, config.patch**2 * config.out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.hidden, 2 * config.hidden))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """(B, F, N, D) with the condition (B, D) -> (B, F, N, patch * patch * out_channels)"""
        shift, scale = self.adaLN_modulation(c)[:, None, None].chunk(2, dim=-1)
        return self.linear(modulated(x, shift, scale))


class Latte(nn.Module):
    """The denoiser: noise (and variance code) of a noisy latent, given its timestep and label.

    `recompute`: activations of a block are computed again in the backward pass rather than kept.
    """

    def __init__(self, config: LatteConfig, *, recompute: bool = False) -> None:
        super().__init__()
        self.config = config
        self.recompute = recompute
        self.x_embedder = PatchEmbed(config)
        self.t_embedder = TimestepEmbedder(config.hidden)
        if config.classes:
            self.y_embedder = LabelEmbedder(config.classes, config.hidden)
        # tables, yet parameters: the official state dict and its EMA hold them
        self.pos_embed = nn.Parameter(grid_positions(*config.grid, config.hidden)[None], requires_grad=False)
        self.temp_embed = nn.Parameter(frame_positions(config.frames, config.hidden)[None], requires_grad=False)
        self.blocks = nn.ModuleList([Block(config.hidden, config.heads) for _ in range(config.depth)])
        self.final_layer = FinalLayer(config)
        self._initialise()

    def _initialise(self) -> None:
        for key, value in self.named_parameters():
            # every block starts as the identity, and the whole model at zero
            if key.endswith("bias") or "adaLN_modulation" in key or key.startswith("final_layer"):
                nn.init.zeros_(value)
            elif key.startswith(("t_embedder", "y_embedder")):
                nn.init.normal_(value, std=0.02)
            elif value.requires_grad:
                nn.init.xavier_uniform_(value.data.flatten(1))  # the patch convolution as the linear layer that it is

    def forward(self, latent: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, F, H, W), timesteps (B,) in 0..999, labels (B,) in 0..classes -> (B, C or 2C, F, H, W).

        The first C channels are the predicted noise, the others the variance code (about -1..1).
        ValueError: a latent of another shape than the configuration's, or labels where none belong, or none where they do.
        """
        x = self.x_embedder(self._checked(latent, labels)) + self.pos_embed
        c = self.t_embedder(timestep_features(t).to(self.pos_embed.dtype))
        if labels is not None:
            c = c + self.y_embedder(labels)
        for index in range(0, self.config.depth, 2):
            x = self._run(self.blocks[index], x, c).transpose(1, 2)  # (B, N, F, D)
            if index == 0:
                x = x + self.temp_embed
            x = self._run(self.blocks[index + 1], x, c).transpose(1, 2)  # (B, F, N, D)
        return self._unpatched(self.final_layer(x, c))

    def _checked(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        expected = (self.config.channels, self.config.frames, self.config.height, self.config.width)
        if latent.ndim != 5 or tuple(latent.shape[1:]) != expected:
            raise ValueError(
                f"this Latte takes latents (B, {', '.join(map(str, expected))}), got {tuple(latent.shape)}"
            )
        if (labels is not None) != bool(self.config.classes):
            state = (
                f"has {self.config.classes} classes and needs"
                if self.config.classes
                else "is unconditional and takes no"
            )
            raise ValueError(f"this Latte {state} labels")
        return latent

    def _run(self, block: nn.Module, x: Tensor, c: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, x, c, use_reentrant=False)
        return block(x, c)

    def _unpatched(self, tokens: Tensor) -> Tensor:
        """(B, F, N, patch * patch * out) -> (B, out, F, H, W)"""
        patch, (rows, columns) = self.config.patch, self.config.grid
        x = tokens.unflatten(3, (patch, patch, self.config.out_channels)).unflatten(2, (rows, columns))
        return x.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)


def load(path: Path, config: LatteConfig) -> Latte:
    """A released or own checkpoint, strictly: its EMA where it has one ({"model": ..., "ema": ...}), else the weights.

    OSError: no such file. ValueError: not a state dict, or keys or shapes other than the configuration's, which it lists.
    """
    model = Latte(config)
    load_strict(model, state_dict_of(load_tensors(path), path, "ema", "model"), str(path))
    return model.float()
