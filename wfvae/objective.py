"""The settings of the training objective: loss terms and regularizers, in a module that does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms; the defaults reproduce the released model (stage one)."""

    reconstruction: Literal["l1", "l2"] = field(default="l1", metadata={"help": "pixel loss"})
    reduction: Literal["official", "mean"] = field(
        default="official", metadata={"help": "official: sums over a frame or video; mean: mean of each term"}
    )
    perceptual: float = field(
        default=1.0, metadata={"help": "weight of LPIPS (VGG16); 0 = train without it, no weights needed"}
    )
    kl: float = field(default=1e-6, metadata={"help": "weight of the KL divergence"})
    wavelet: float = field(
        default=0.1,
        metadata={"help": "weight of the L1 loss between encoder and decoder wavelet coefficients (levels 2 and 3)"},
    )
    adversarial: float = field(
        default=0.5,
        metadata={"help": "multiplies the adaptive weight of the adversarial loss; 0 = train without discriminator"},
    )
    delta: float = field(
        default=1e-4,
        metadata={
            "help": "added to the denominator of the adaptive weight; the paper prints 1e-6, the released weights "
            "were trained with 1e-4"
        },
    )
    adaptive_limit: float = field(
        default=1e4,
        metadata={"help": "upper limit of the adaptive weight; later official releases use 1e6 with delta 1e-6"},
    )

    def __post_init__(self) -> None:
        if self.reconstruction not in ("l1", "l2") or self.reduction not in ("official", "mean"):
            raise ValueError(
                "loss.reconstruction should be l1 or l2, and loss.reduction official or mean; "
                f"got {self.reconstruction!r} and {self.reduction!r}"
            )
        for name in ("perceptual", "kl", "wavelet", "adversarial", "delta", "adaptive_limit"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"loss.{name} should be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class LCRConfig:
    """Local correlation (LCR); the defaults are those of SSVAE, except weight 0 = off."""

    weight: float = field(
        default=0.0, metadata={"help": "weight of the local correlation loss; 0 = off, SSVAE uses 0.02"}
    )
    base: float = field(default=0.1, metadata={"help": "multiplies the weight and the adaptive gradient ratio"})
    window: tuple[int, int, int] = field(
        default=(2, 2, 2),
        metadata={"help": "window in latent positions (t, h, w); the first frame has its own windows"},
    )
    threshold: float = field(
        default=0.75, metadata={"help": "the loss is zero where the correlation exceeds this value"}
    )
    average: Literal["average", "frame_weight"] = field(
        default="average",
        metadata={
            "help": "average: mean of first frame and remaining frames; frame_weight: weighted by their number of "
            "frames"
        },
    )
    pearson: bool = field(
        default=True,
        metadata={"help": "compare Pearson correlations; false = dot products divided by the number of channels"},
    )
    delta: float = field(default=1e-4, metadata={"help": "added to the denominator of the adaptive gradient ratio"})
    limit: float = field(default=1e8, metadata={"help": "upper limit of the adaptive gradient ratio"})

    def __post_init__(self) -> None:
        if min(self.window) < 1 or self.window[1] * self.window[2] < 2:
            raise ValueError(
                "lcr.window should have sizes of at least 1 and at least two positions per frame, such as 2,2,2; "
                f"got {self.window}"
            )
        for name in ("weight", "delta", "limit"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"lcr.{name} should be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class LMRConfig:
    """Latent masking in training (LMR); by default all probability is on ratio 0 = off."""

    ratios: tuple[float, ...] = field(
        default=(0.0, 0.25, 0.5, 0.75), metadata={"help": "shares of the latent to mask; one is drawn per step"}
    )
    probabilities: tuple[float, ...] = field(
        default=(1.0, 0.0, 0.0, 0.0),
        metadata={"help": "probability of each ratio; SSVAE uses .7 .1 .1 .1 at 256 pixels and .6 .1 .15 .15 at 512"},
    )
    block: tuple[int, int, int] = field(
        default=(1, 1, 1),
        metadata={
            "help": "size of a masked block in latent positions (t, h, w); SSVAE uses 1 1 1 at 256 pixels and 2 2 2 "
            "at 512"
        },
    )
    mask: Literal["positions", "channels"] = field(
        default="positions", metadata={"help": "what is masked; the released code masks positions"}
    )
    last_block: Literal["official", "pad"] = field(
        default="official",
        metadata={
            "help": "official: the block grid is rounded down, so the last latent frame of an odd number is never "
            "masked (an image never with 2 x 2 x 2 blocks); pad: it is rounded up"
        },
    )

    def __post_init__(self) -> None:
        if len(self.ratios) != len(self.probabilities) or abs(sum(self.probabilities) - 1) > 1e-6:
            raise ValueError(
                "lmr.ratios and lmr.probabilities should have the same length, and the probabilities should sum to 1; "
                f"got {self.ratios} and {self.probabilities}"
            )
        if not all(0 <= share <= 1 for share in (*self.ratios, *self.probabilities)) or min(self.block) < 1:
            raise ValueError(
                "lmr.ratios and lmr.probabilities should be in 0..1 and the sizes of lmr.block at least 1; "
                f"got {self.ratios}, {self.probabilities} and {self.block}"
            )

    @property
    def active(self) -> bool:
        """Whether a ratio above 0 can be drawn."""
        return any(r > 0 and p > 0 for r, p in zip(self.ratios, self.probabilities, strict=True))
