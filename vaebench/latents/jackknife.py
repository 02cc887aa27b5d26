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
    statistic: Callable[[Means], float], value: float, others: Sequence[Means], correlation: bool = False
) -> tuple[float | None, float | None, float | None]:
    """(standard error, low, high) of `value`, the statistic of the means over all clips.

    For a mean over clips this is Student's interval (`vaebench.records.interval`).

    Args:
        others: as `without_each` or `vaebench.latents.sets.without_groups` returns them
        correlation: the statistic is between -1 and 1; its interval is that of Fisher's z = artanh(r), which stays between them

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
    stderr, low, high = _around(value, left)
    if correlation and max(abs(value), np.abs(left).max()) < 1:  # z is infinite at 1
        _, low, high = np.tanh(_around(np.arctanh(value), np.arctanh(left)))
    elif correlation:
        low, high = max(low, -1.0), min(high, 1.0)
    return stderr, low, high


def _around(value: float, left: NDArray) -> tuple[float, float, float]:
    """(standard error, low, high) of `value` from its values without each clip (n,), n >= 3."""
    pseudovalues = len(left) * value - (len(left) - 1) * left
    stderr, low, high = interval(pseudovalues)
    assert stderr is not None
    assert low is not None
    assert high is not None
    shift = value - float(pseudovalues.mean())  # the interval is around the value itself
    return stderr, low + shift, high + shift
