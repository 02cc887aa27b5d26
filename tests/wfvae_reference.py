"""WF-VAE's forward pass in plain functions on (B, C, T, H, W): no stream, no windows, nothing in place.  Read it first.

It takes the weights from a `wfvae.WFVAE` with norm "layernorm", and is the oracle of `tests/test_wfvae_reference.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wfvae.blocks import Attention, Conv2d, Downsample, Pointwise, Pointwise2d, ResnetBlock, TimeDownsample, Upsample
from wfvae.causal import CausalConv3d
from wfvae.model import WFVAE
from wfvae.wavelet import haar_kernels_2d, haar_kernels_3d


def encode(model: WFVAE, video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, T, H, W) in -1..1 -> moments (B, 2c, t, h, w) and the wavelet coefficients W2, W3."""
    e, eight = model.encoder, model.config.temporal_compression == 8
    w1 = analysis_3d(video)
    w2 = analysis_3d(w1[:, :3]) if eight else analysis_2d(w1[:, :3])  # of the low band, its first three channels
    w3 = analysis_3d(w2[:, :3])
    h = stage(e.down1, w1)
    h = stage(e.down2, torch.cat([h, layer(e.connect_l1, w2)], dim=1))
    h = stage(e.mid, torch.cat([h, layer(e.connect_l2, w3)], dim=1))
    return layer(e.conv_out, F.silu(norm(e.norm_out, h))), w2, w3


def decode(model: WFVAE, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, c, t, h, w) -> video (B, 3, T, H, W) and the wavelet coefficients W2, W3."""
    d, eight = model.decoder, model.config.temporal_compression == 8
    h = stage(d.mid, layer(d.conv_in, latent))
    w3 = stage(d.connect_l2, h[:, d.width :])  # the channels behind the backbone's are the energy flow
    h = stage(d.up2, h[:, : d.width])
    w2 = add_low_band(stage(d.connect_l1, h[:, d.width :]), synthesis_3d(w3))
    l1 = synthesis_3d(w2) if eight else synthesis_2d(w2)
    h = stage(d.layer, stage(d.up1, h[:, : d.width]))
    w1 = add_low_band(layer(d.conv_out, F.silu(norm(d.norm_out, h))), l1)
    return synthesis_3d(w1), w2, w3


def add_low_band(coefficients: Tensor, low: Tensor) -> Tensor:
    return torch.cat([coefficients[:, :3] + low, coefficients[:, 3:]], dim=1)


def stage(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for module in layers:
        x = layer(module, x)
    return x


def layer(module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, CausalConv3d):  # the video opens with three equal frames
        x = torch.cat([x[:, :, :1], x[:, :, :1], x], dim=2)
        return module.conv(F.pad(x, (0, 1, 0, 1)) if module.stride == 2 else x)
    if isinstance(module, (Conv2d, Pointwise2d)):
        x = F.pad(x, (0, 1, 0, 1)) if module.stride[0] == 2 else x
        return F.conv3d(x, module.weight[:, :, None], module.bias, (1, *module.stride), (0, *module.padding))
    if isinstance(module, Pointwise):
        return module.conv(x)
    if isinstance(module, ResnetBlock):
        h = layer(module.conv1, F.silu(norm(module.norm1, x)))
        h = layer(module.conv2, F.silu(norm(module.norm2, h)))
        return h + (x if module.nin_shortcut is None else layer(module.nin_shortcut, x))
    if isinstance(module, Attention):
        h = norm(module.norm, x)
        q, k, v = (layer(m, h).movedim(1, -1).flatten(2, 3) for m in (module.q, module.k, module.v))  # (B, T, H W, C)
        h = torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5, dim=-1) @ v
        return x + layer(module.proj_out, h.unflatten(2, x.shape[3:]).movedim(-1, 1))
    if isinstance(module, (Downsample, TimeDownsample)):
        return layer(module.conv, x)
    if isinstance(module, Upsample):
        return layer(module.conv, F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="nearest"))
    rest = x[:, :, 1:]  # TimeUpsample: the first frame stays alone, the others double
    if rest.shape[2]:
        rest = F.interpolate(rest, scale_factor=(2.0, 1.0, 1.0), mode=module.time.interpolation)
    x = torch.cat([x[:, :, :1], rest], dim=2)
    return layer(module.conv, F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="trilinear"))


def norm(module: nn.Module, x: Tensor) -> Tensor:
    return module.norm(x.movedim(1, -1)).movedim(-1, 1)  # over the channels of each position


def analysis(x: Tensor, kernels: Tensor) -> Tensor:
    """Kernels (N, t, 2, 2) of each channel, bands outermost: (B, C, T, H, W) -> (B, N * C, T / t, H / 2, W / 2)."""
    found = [F.conv3d(x[:, [c]], kernels[:, None].to(x), stride=kernels.shape[1:]) for c in range(x.shape[1])]
    return torch.stack(found, dim=2).flatten(1, 2)


def synthesis(x: Tensor, kernels: Tensor) -> Tensor:
    """The transpose of `analysis`."""
    bands = x.unflatten(1, (len(kernels), -1)).unbind(2)
    return torch.cat([F.conv_transpose3d(b, kernels[:, None].to(x), stride=kernels.shape[1:]) for b in bands], dim=1)


def analysis_3d(x: Tensor) -> Tensor:
    return analysis(torch.cat([x[:, :, :1], x], dim=2), haar_kernels_3d())  # the video opens with its first frame twice


def synthesis_3d(x: Tensor) -> Tensor:
    return synthesis(x, haar_kernels_3d())[:, :, 1:]


def analysis_2d(x: Tensor) -> Tensor:
    return analysis(x, haar_kernels_2d())


def synthesis_2d(x: Tensor) -> Tensor:
    return synthesis(x, haar_kernels_2d())
