"""The frames of clips and reconstructions that a run saves, collected while the windows of a clip are scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.video import Video


def pictured(num: int) -> list[int]:
    """The frames of a clip of `num` frames that `keep` saves: the first, the middle and the last."""
    return sorted({0, num // 2, num - 1})


def saving(
    windows: Iterable[tuple[Video, Video]], indices: set[int], saved: dict[int, NDArray]
) -> Iterator[tuple[Video, Video]]:
    """The same windows; `saved` gets the frames of both with these indices, uint8 (2, H, W, 3)."""
    start = 0
    for pair in windows:
        num = pair[0].shape[2]
        for index in indices & set(range(start, start + num)):
            both = torch.cat([video[:, :, index - start] for video in pair])  # (2, 3, H, W) in 0..1
            saved[index] = both.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        start += num
        yield pair
