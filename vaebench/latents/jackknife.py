"""95 % intervals of statistics of a set of clips, by leaving out one clip or one group of clips at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vaebench.records import FEWEST, interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

Means = Mapping[str, "NDArray"]


def mean(clips: Sequence[Means]) -> dict[str, NDArray]:
    """The means over clips of their arrays, by name."""
    return {name: np.mean([clip[name] for clip in clips], axis=0) for name in clips[0]}


def without_each(clips: Sequence[Means]) -> list[dict[str, NDArray]]:
    """For each clip: the means over all other clips."""
    n, total = len(clips), mean(clips)
    return [{name: (n * total[name] - clip[name]) / (n - 1) for name in total} for clip in clips] if n > 1 else []


def jackknife(
    statistic: Callable[[Means], float], value: float, others: Sequence[Means]
) -> tuple[float | None, float | None, float | None]:
    """(standard error, low, high) of `value`, the statistic of the means over all clips.

    For a mean over clips this is Student's interval (`vaebench.records.interval`).

    Args:
        others: as `without_each` or `vaebench.latents.sets.without_groups` returns them

    Returns:
        None, three times, for fewer than 3 clips or groups, or if the statistic is undefined without one of them
    """
    n = len(others)
    if n < FEWEST:
        return None, None, None
    try:
        left = np.array([statistic(means) for means in others])
    except ValueError:
        return None, None, None
    pseudovalues = n * value - (n - 1) * left
    stderr, low, high = interval(pseudovalues)
    if low is None or high is None:
        return None, None, None
    shift = value - float(pseudovalues.mean())  # the interval is around the value itself
    return stderr, low + shift, high + shift
