"""How a training runs: its settings, checked when they are made, and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainerConfig:
    """How to train; the defaults are the released code's for stage one."""

    steps: int = 800_000  # a run may be extended; with cosine decay, the steps that are left follow the new schedule
    order: Literal["alternating", "simultaneous"] = "alternating"
    batch: int = 1  # clips per process and pass
    accumulate: int = 1  # passes per step
    learning_rate: float = 1e-5
    warmup: int = 0  # steps of linear rise
    decay: Literal["constant", "cosine"] = "constant"
    decay_steps: int = 0  # steps at the end of the run over which the learning rate decays; 0: all steps
    weight_decay: float = 1e-4
    beta2: float = 0.999
    clip: float = 0.0  # largest gradient norm of either network; 0: no clipping
    ema: float = 0.999  # decay; 0: no EMA
    discriminator_start: int = 0  # first step with an adversarial term
    discriminator_width: int = 64
    discriminator_layers: int = 4
    freeze_encoder: bool = False
    precision: Literal["no", "bf16", "fp16"] = "no"  # of autocast; weights and optimiser are float32
    # recompute residual blocks in the backward pass: less memory, a third more time
    checkpoint_activations: bool = False
    compile: bool = False
    # Each process keeps its part of weights, gradients, EMA and optimiser state of the autoencoder: fewer bytes for more traffic.
    # The discriminator is small and stays whole.  Gradients are dealt out in every pass, also where passes accumulate.
    shard: bool = False
    seed: int = 0
    save_every: int = 5000
    keep: int = 3  # newest checkpoints; the best one stays as well
    validate_every: int = 5000
    workers: int = 4  # decoding processes

    def __post_init__(self) -> None:
        if self.decay_steps < 0:
            raise ValueError(f"trainer.decay_steps should be at least 0, got {self.decay_steps}")
        at_least_one = ("steps", "batch", "accumulate", "save_every", "keep", "validate_every")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"trainer.{name} is at least 1, got {getattr(self, name)}")
        if self.precision == "fp16" and self.order == "simultaneous":
            raise ValueError(
                "trainer.precision=fp16 scales one loss at a time: say trainer.order=alternating, or trainer.precision=bf16"
            )
        if self.shard and (self.compile or self.precision == "fp16"):
            raise ValueError(
                "trainer.shard goes with trainer.compile=false and trainer.precision=no or bf16; "
                f"got compile={self.compile} and precision={self.precision}"
            )
        if not 0 <= self.ema < 1 or self.learning_rate <= 0 or self.clip < 0:
            raise ValueError(
                "trainer.ema lies in [0, 1), learning_rate above 0, clip at 0 or above; "
                f"got {self.ema}, {self.learning_rate}, {self.clip}"
            )


def learning_rate(config: TrainerConfig, step: int) -> float:
    """Of a step; a function of the step alone."""
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.decay == "constant":
        return config.learning_rate * rise
    length = min(config.decay_steps or config.steps, config.steps)
    progress = max(0.0, step - (config.steps - length)) / length
    return config.learning_rate * rise * (0.5 + 0.5 * math.cos(math.pi * progress))
