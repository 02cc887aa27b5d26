"""What the metrics share: the check of the two videos that come in, and the mean over clips that goes out."""

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
    """Two videos (B, 3, T, H, W) of one shape, T >= `frames`, H and W >= `side`; ValueError saying what came instead.

    Torch would broadcast one frame against many and give a plausible number.
    """
    a, b = tuple(reference.shape), tuple(reconstruction.shape)
    if a != b or len(a) != 5 or a[1] != 3:
        raise ValueError(f"a metric compares two videos of one shape (B, 3, T, H, W), got {a} and {b}")
    if a[2] < frames or min(a[3:]) < side:
        raise ValueError(
            f"this metric needs at least {frames} frame(s) of {side}x{side} pixels, got {a[2]} of {a[3]}x{a[4]}"
        )


def mean_over_clips(statistics: NDArray) -> float:
    """(N,) one score per clip -> their mean; ValueError for no clip at all."""
    if not len(statistics):
        raise ValueError("there is no clip to take the mean of")
    return float(np.asarray(statistics, dtype=np.float64).mean())


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 convolutions and products in float32: cuDNN would round their factors to the 10 bits of TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
