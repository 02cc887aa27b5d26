"""The 3-D patch discriminator: one logit for each space-time patch of a video.

State-dict keys and initial values are those of the released training code (`main.0` .. `main.18` for four layers), so its
checkpoints load.  Source: PKU-YuanGroup/WF-VAE at d858bee.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PatchDiscriminator3D(nn.Module):
    """Video (B, 3, T, H, W) in -1..1 -> logits (B, 1, t, h, w); 25 x 256 x 256 gives 7 x 16 x 16 with four layers.

    Only the first two convolutions halve time.  BatchNorm statistics are those of one process.  Dropout is active in train mode,
    in generator and discriminator steps, as in the released code.
    """

    def __init__(self, layers: int = 4, width: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        if layers < 1 or width < 1:
            raise ValueError(f"a discriminator needs layers >= 1 and width >= 1, got {layers} and {width}")
        modules: list[nn.Module] = [nn.Conv3d(3, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for n in range(1, layers + 1):
            out = width * min(2**n, 8)
            stride = 1 if n == layers else (2 if n == 1 else 1, 2, 2)
            modules += [
                nn.Conv3d(channels, out, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm3d(out),
                nn.LeakyReLU(0.2),
                nn.Dropout(dropout),
            ]
            channels = out
        modules.append(nn.Conv3d(channels, 1, 3, padding=1))
        self.main = nn.Sequential(*modules)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Initializes all weights and running statistics again: the "refreshed" discriminator of stages two and three."""
        for module in self.main:
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, 0.0, 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm3d):
                module.reset_running_stats()
                nn.init.normal_(module.weight, 1.0, 0.02)
                nn.init.zeros_(module.bias)

    def forward(self, video: Tensor) -> Tensor:
        logits: Tensor = self.main(video)
        return logits
