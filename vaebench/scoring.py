"""From metrics and stored statistics to scores: what every suite that scores clips does in the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from vaebench import plugins
from vaebench.fingerprint import code, fingerprint
from vaebench.metric import Metric
from vaebench.records import Score, interval
from vaebench.weights import Unavailable

if TYPE_CHECKING:
    import torch

    from vaebench.suite import Statistics


class _About(TypedDict):
    metric: str
    condition: Mapping[str, str | int]


def build_metrics(
    names: Iterable[str], device: torch.device, num_frames: int
) -> tuple[dict[str, Metric], dict[str, str]]:
    """(label -> metric that can score clips of `num_frames` here, label -> why another one cannot).

    Raises:
        ValueError: unknown name, two metrics with one label, or a module whose `build` returns no metric
    """
    found: dict[str, Metric] = {}
    absent: dict[str, str] = {}
    for given in dict.fromkeys(names):
        module, name = plugins.find("metrics", given), plugins.label(given)
        if name in found or name in absent or (name != given and name in plugins.names("metrics")):
            raise ValueError(f"{given}: there is another metric called {name}; give the file another name")
        try:
            metric = module.build(device)
        except Unavailable as reason:
            absent[name] = str(reason)
            continue
        if not isinstance(metric, Metric):
            found_type = type(metric).__name__
            raise ValueError(f"{module.__name__}.build returned a {found_type}, not a vaebench.metric.Metric")
        if num_frames < metric.min_frames:
            absent[name] = f"needs clips of at least {metric.min_frames} frames, these have {num_frames}"
        else:
            found[name] = metric
    return found, absent


def metric_digests(names: Iterable[str], metrics: Mapping[str, Metric]) -> dict[str, str]:
    """Label -> 8 hex digits of the code of a metric and of the libraries below it."""
    given = {plugins.label(name): name for name in names}
    return {
        name: fingerprint(code([plugins.find("metrics", given[name]), type(metric).__module__]))[:8]
        for name, metric in metrics.items()
    }


def stack(statistics: Mapping[str, Statistics], name: str) -> NDArray:
    """(N, ...) the statistic `name` of all cases, in their order."""
    return np.stack([kept[name] for kept in statistics.values()])


def score(name: str, metric: Metric, stacked: NDArray, condition: Mapping[str, str | int] | None = None) -> Score:
    """The score of a metric over clips, with its interval where clips have scores of their own."""
    about: _About = {"metric": name, "condition": condition or {}}
    try:
        value = metric.reduce(stacked)
    except ValueError as reason:  # too few clips for this metric to mean anything: said, not guessed
        return Score(None, metric.unit, metric.better, len(stacked), note=str(reason), status="too few clips", **about)
    stderr, low, high = interval(stacked) if metric.per_clip else (None, None, None)
    note = metric.caution(len(stacked))
    return Score(value, metric.unit, metric.better, len(stacked), stderr, low, high, note=note, **about)


def change(
    name: str,
    metric: Metric,
    before: NDArray,
    after: NDArray,
    condition: Mapping[str, str | int] | None = None,
) -> Score:
    """`after` minus `before` with its sign; the interval is Student's of the paired differences."""
    about: _About = {"metric": name, "condition": condition or {}}
    n = len(before)
    try:
        value = metric.reduce(after) - metric.reduce(before)
    except ValueError as reason:
        return Score(None, metric.unit, metric.better, n, note=str(reason), status="too few clips", **about)
    stderr, low, high = interval(after - before) if metric.per_clip else (None, None, None)
    note = metric.caution(n)
    return Score(value, metric.unit, metric.better, n, stderr, low, high, signed=True, note=note, **about)
