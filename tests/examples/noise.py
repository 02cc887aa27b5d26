"""Two clips of noise."""

import torch

from vaebench.video import Clip


class Noise:
    def __init__(self, config):
        self.config = config
        self.identity = {"name": "noise", "sha256": "seed 0 and 1", "clips": "2"}  # what decides the pixels

    def __iter__(self):
        shape = (3, self.config.num_frames, self.config.size, self.config.size)
        for seed in range(2):
            generator = torch.Generator().manual_seed(seed)
            frames = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
            yield Clip(id=f"noise/{seed}", fps=24.0, load=lambda frames=frames: frames)


def build(config):
    return Noise(config)
