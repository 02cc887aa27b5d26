"""The settings of the trainer, and the learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class TrainerConfig:
    """How to train; the defaults are the released code's for stage one."""

    steps: int = field(
        default=800_000,
        metadata={
            "help": "total number of steps; a finished run can be extended, and with cosine decay its remaining "
            "steps follow the new schedule"
        },
    )
    order: Literal["alternating", "simultaneous"] = field(
        default="alternating",
        metadata={
            "help": "alternating: autoencoder and discriminator take turns; simultaneous: each step updates both"
        },
    )
    batch_size: int = field(default=1, metadata={"help": "clips per process and forward pass"})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "forward passes per step"})
    learning_rate: float = field(default=1e-5, metadata={"help": "learning rate of AdamW, for both networks"})
    warmup: int = field(default=0, metadata={"help": "steps of linear learning rate warmup"})
    decay: Literal["constant", "cosine"] = field(
        default="constant", metadata={"help": "learning rate schedule after the warmup; cosine ends at 0"}
    )
    decay_steps: int = field(
        default=0, metadata={"help": "length of the cosine decay at the end of the run, in steps; 0 = all steps"}
    )
    weight_decay: float = field(default=1e-4, metadata={"help": "weight decay of AdamW"})
    beta2: float = field(default=0.999, metadata={"help": "beta2 of AdamW; beta1 is 0.9"})
    max_grad_norm: float = field(
        default=0.0, metadata={"help": "maximum gradient norm of either network; 0 = no clipping"}
    )
    ema: float = field(
        default=0.999, metadata={"help": "decay of the exponential moving average of the weights; 0 = no EMA"}
    )
    discriminator_start: int = field(default=0, metadata={"help": "first step with an adversarial loss"})
    discriminator_width: int = field(default=64, metadata={"help": "channels of the discriminator's first layer"})
    discriminator_layers: int = field(default=4, metadata={"help": "layers of the discriminator that downsample"})
    freeze_encoder: bool = field(default=False, metadata={"help": "train the decoder only"})
    precision: Literal["no", "bf16", "fp16"] = field(
        default="no", metadata={"help": "precision of autocast; weights and optimizer states stay float32"}
    )
    checkpoint_activations: bool = field(
        default=False, metadata={"help": "recompute residual blocks in the backward pass: less memory, 1/3 more time"}
    )
    compile: bool = field(
        default=False, metadata={"help": "compile the autoencoder with torch.compile; needs a C++ compiler"}
    )
    shard: bool = field(
        default=False,
        metadata={
            "help": "shard the autoencoder's weights, gradients, EMA and optimizer states over all processes "
            "(FSDP2): less memory, more traffic"
        },
    )
    seed: int = field(default=0, metadata={"help": "random seed of weights, clips and noise"})
    save_every: int = field(default=5000, metadata={"help": "steps between checkpoints"})
    keep: int = field(default=3, metadata={"help": "newest checkpoints to keep, besides the best one"})
    validate_every: int = field(default=5000, metadata={"help": "steps between validations"})
    workers: int = field(
        default=4, metadata={"help": "processes that decode training clips; 0 = decode in the training process"}
    )

    def __post_init__(self) -> None:
        for name in ("warmup", "decay_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"trainer.{name} should be at least 0, got {getattr(self, name)}")
        at_least_one = ("steps", "batch_size", "gradient_accumulation_steps", "save_every", "keep", "validate_every")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"trainer.{name} should be at least 1, got {getattr(self, name)}")
        if self.precision == "fp16" and self.order == "simultaneous":
            raise ValueError(
                "trainer.precision=fp16 supports trainer.order=alternating only (it scales one loss at a time); "
                "set trainer.order=alternating, or trainer.precision=bf16"
            )
        if self.shard and (self.compile or self.precision == "fp16"):
            raise ValueError(
                "trainer.shard=true needs trainer.compile=false and trainer.precision=no or bf16; "
                f"got compile={self.compile} and precision={self.precision}"
            )
        if not 0 <= self.ema < 1 or self.learning_rate <= 0 or self.max_grad_norm < 0:
            raise ValueError(
                "trainer.ema should be in [0, 1), trainer.learning_rate > 0 and trainer.max_grad_norm >= 0; "
                f"got {self.ema}, {self.learning_rate}, {self.max_grad_norm}"
            )


def learning_rate(config: TrainerConfig, step: int) -> float:
    """The learning rate of a step (from 0); it depends on nothing but the settings and the step."""
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.decay == "constant":
        return config.learning_rate * rise
    length = min(config.decay_steps or config.steps, config.steps)
    progress = max(0.0, step - (config.steps - length)) / length
    return config.learning_rate * rise * (0.5 + 0.5 * math.cos(math.pi * progress))
