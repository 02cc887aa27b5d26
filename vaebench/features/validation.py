"""Helpers that metrics share: the check of their inputs, the mean over clips, and computation without TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.video import Video


def check(reference: Video, reconstruction: Video, *, frames: int = 1, side: int = 1) -> None:
    """Check that two videos have the same shape (B, 3, T, H, W), with T >= `frames`, H and W >= `side`.

    Without it, PyTorch would broadcast a single frame and the result would look plausible.

    Raises:
        ValueError: other shapes
    """
    a, b = tuple(reference.shape), tuple(reconstruction.shape)
    if a != b or len(a) != 5 or a[1] != 3:
        raise ValueError(f"a metric compares two videos of one shape (B, 3, T, H, W), got {a} and {b}")
    if a[2] < frames or min(a[3:]) < side:
        raise ValueError(
            f"this metric needs at least {frames} frame(s) of {side}x{side} pixels, got {a[2]} of {a[3]}x{a[4]}"
        )


def mean_over_clips(statistics: NDArray) -> float:
    """Mean of the scores of clips, (N,) -> float.

    Raises:
        ValueError: N is 0
    """
    if not len(statistics):
        raise ValueError("there is no clip to take the mean of")
    return float(np.asarray(statistics, dtype=np.float64).mean())


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32, in which convolutions and matrix products round their float32 factors to 10 bits of mantissa."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
