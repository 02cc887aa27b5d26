"""From metrics and stored statistics to scores: what every suite that scores clips does in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vaebench import plugins
from vaebench.fingerprint import code, fingerprint
from vaebench.records import Score, interval
from vaebench.weights import Unavailable

if TYPE_CHECKING:
    import torch

    from vaebench.metric import Metric
    from vaebench.suite import Statistics


def build_metrics(
    names: Iterable[str], device: torch.device, num_frames: int
) -> tuple[dict[str, Metric], dict[str, str]]:
    """(metrics that can score clips of `num_frames` here, reason for each that cannot); ValueError for an unknown name."""
    found: dict[str, Metric] = {}
    absent: dict[str, str] = {}
    for name in dict.fromkeys(names):
        module = plugins.find("metrics", name)
        try:
            metric = module.build(device)
        except Unavailable as reason:
            absent[name] = str(reason)
            continue
        least = getattr(metric, "min_frames", 1)
        if num_frames < least:
            absent[name] = f"needs clips of at least {least} frames, these have {num_frames}"
        else:
            found[name] = metric
    return found, absent


def metric_digest(name: str, metric: Metric) -> str:
    """8 hex digits of the code of a metric and of the libraries below it."""
    return fingerprint(code([plugins.find("metrics", name), type(metric).__module__]))[:8]


def stack(statistics: Mapping[str, Statistics], name: str) -> NDArray:
    """(N, ...) the statistic `name` of all cases, in their order."""
    return np.stack([kept[name] for kept in statistics.values()])


def score(metric: Metric, stacked: NDArray) -> Score:
    """The score of a metric over clips, with its interval where clips have scores of their own."""
    try:
        value = metric.reduce(stacked)
    except ValueError as reason:  # too few clips for this metric to mean anything: said, not guessed
        return Score(None, metric.unit, metric.better, len(stacked), note=str(reason))
    stderr, low, high = interval(stacked) if metric.per_clip else (None, None, None)
    return Score(
        value, metric.unit, metric.better, len(stacked), stderr, low, high, note=_caution(metric, len(stacked))
    )


def change(metric: Metric, before: NDArray, after: NDArray) -> Score:
    """`after` minus `before` with its sign; the interval is Student's of the paired differences."""
    n = len(before)
    try:
        value = metric.reduce(after) - metric.reduce(before)
    except ValueError as reason:
        return Score(None, metric.unit, metric.better, n, note=str(reason))
    stderr, low, high = interval(after - before) if metric.per_clip else (None, None, None)
    note = _caution(metric, n)
    return Score(value, metric.unit, metric.better, n, stderr, low, high, signed=True, note=note)


def _caution(metric: Metric, n: int) -> str:
    """What a reader of this metric over `n` clips must know; "" where nothing."""
    caution = getattr(metric, "caution", None)
    return caution(n) if caution else ""
