"""Scores from metrics and stored statistics, shared by all suites that score clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from vaebench import frame_size, plugins
from vaebench.fingerprint import code, fingerprint
from vaebench.frame_size import Size
from vaebench.host_copy import to_host
from vaebench.metric import FrameMetric, Metric
from vaebench.records import Score, interval
from vaebench.video import to_unit
from vaebench.weights import Unavailable

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.suite import Statistics
    from vaebench.video import Video


class _About(TypedDict):
    metric: str
    condition: Mapping[str, str | int]


def build_metrics(
    names: Iterable[str], device: torch.device, num_frames: int, size: Size = 1
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Build metrics by name.

    Args:
        names: names in `vaebench list metrics`, or paths of `.py` files
        device: device of the networks of metrics
        num_frames: length of the clips to score
        size: size of their frames

    Returns:
        label -> metric, and label -> reason for each metric that is unavailable for these clips or on this machine

    Raises:
        ValueError: a name is unknown, two metrics have the same label, or `build` does not return a Metric
    """
    metrics: dict[str, Metric] = {}
    absent: dict[str, str] = {}
    height, width = frame_size.parse(size)
    for given in dict.fromkeys(names):
        module, name = plugins.find("metrics", given), plugins.label(given)
        if name in metrics or name in absent or (name != given and name in plugins.names("metrics")):
            raise ValueError(f"{given}: another metric is called {name}; rename the file")
        try:
            metric = module.build(device)
        except Unavailable as reason:
            absent[name] = str(reason)
            continue
        if not isinstance(metric, Metric):
            raise ValueError(
                f"{module.__name__}.build returned a {type(metric).__name__}, expected a vaebench.metric.Metric"
            )
        if num_frames < metric.min_frames:
            absent[name] = f"needs clips of at least {metric.min_frames} frames, these have {num_frames}"
        elif metric.square and height != width:
            absent[name] = f"needs square frames, these have {height}x{width}; give one side, such as size={height}"
        else:
            metrics[name] = metric
    return metrics, absent


def measure(
    metrics: Mapping[str, Metric], windows: Iterable[tuple[Video, Video]], digest: bytes = b""
) -> dict[str, NDArray]:
    """The statistics of one clip, from its windows.

    A `FrameMetric` scores each window and forgets it.  For other metrics the whole clip is held: in uint8 until its last window,
    in float32 while they measure it.

    Args:
        metrics: label -> metric
        windows: reference and reconstruction, float32 (1, 3, n, H, W) in 0..1 each: consecutive windows of `video.WINDOW` frames,
            of which the last may be shorter.  All of them are read, even without metrics.
        digest: of the reference, for metrics that remember its features; b"" if it is unknown

    Returns:
        label -> statistic

    Raises:
        ValueError: the two differ in shape, or the clip has too few or too small frames for a metric
    """
    by_frame = {name: metric for name, metric in metrics.items() if isinstance(metric, FrameMetric)}
    others = {name: metric for name, metric in metrics.items() if name not in by_frame}
    overlap = max((metric.overlap for metric in by_frame.values()), default=0)
    values: dict[str, list[Tensor]] = {name: [] for name in by_frame}
    held: tuple[list[Tensor], list[Tensor]] = ([], [])
    before: tuple[Tensor, Tensor] | None = None  # the last `overlap` frames of the previous windows
    for pair in windows:
        for name, metric in by_frame.items():
            values[name].append(metric.frame_values(*_extended(before, pair, metric.overlap)))
        if overlap:
            a, b = _extended(before, pair, overlap)
            before = a[:, :, -overlap:].clone(), b[:, :, -overlap:].clone()
        if others:
            for pieces, window in zip(held, pair, strict=True):
                pieces.append(_compact(window))
    statistics = {name: metric.combine(torch.cat(values[name], dim=1)) for name, metric in by_frame.items()}
    if others:
        reference, reconstruction = map(_joined, held)
        statistics |= {name: metric.measure_known(reference, reconstruction, digest) for name, metric in others.items()}
    return to_host({name: statistics[name][0] for name in metrics})


def _extended(before: tuple[Tensor, Tensor] | None, pair: tuple[Tensor, Tensor], overlap: int) -> tuple[Tensor, Tensor]:
    """Both windows, with the last `overlap` frames of the windows before them."""
    if before is None or not overlap:
        return pair
    a, b = (torch.cat([past[:, :, -overlap:], now], dim=2) for past, now in zip(before, pair, strict=True))
    return a, b


def _compact(window: Video) -> Tensor:
    """float32 in 0..1 -> uint8 if it is on the 8-bit grid, so that `to_unit` gives it back; else the window itself."""
    stored = window.mul(255).round_().to(torch.uint8)
    return stored if torch.equal(to_unit(stored), window) else window


def _joined(windows: list[Tensor]) -> Video:
    """Windows from `_compact` -> float32 (1, 3, T, H, W) in 0..1."""
    if len({window.dtype for window in windows}) == 1:
        return to_unit(torch.cat(windows, dim=2))
    return torch.cat([to_unit(window) for window in windows], dim=2)


def metric_digests(names: Iterable[str], metrics: Mapping[str, Metric]) -> dict[str, str]:
    """Label -> 8 hex digits of the sha256 of the code of a metric and its library versions."""
    return {name: fingerprint(sources)[:8] for name, sources in _sources(names, metrics)}


def metric_code(names: Iterable[str], metrics: Mapping[str, Metric]) -> dict[str, str]:
    """Label -> 8 hex digits of the sha256 of the code of a metric, without library versions, which the record has elsewhere.

    Records whose digits differ were scored by different definitions (`vaebench compare` refuses them).
    """
    return {name: sources["sha256"][:8] for name, sources in _sources(names, metrics)}


def _sources(names: Iterable[str], metrics: Mapping[str, Metric]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each label with `fingerprint.code` of its metric."""
    given = {plugins.label(name): name for name in names}
    for name, metric in metrics.items():
        yield name, code([plugins.find("metrics", given[name]), type(metric).__module__])


def stack(statistics: Mapping[str, Statistics], name: str) -> NDArray:
    """The statistic `name` of all cases, in their order: (N, ...)."""
    return np.stack([of_case[name] for of_case in statistics.values()])


def score(name: str, metric: Metric, stacked: NDArray, condition: Mapping[str, str | int] | None = None) -> Score:
    """The score of a metric over clips, with an interval if each clip has a score.

    Args:
        stacked: (N, ...) statistics, as `stack` returns them
        condition: the condition of the measurement, such as {"mode": "streamed"}
    """
    about: _About = {"metric": name, "condition": condition or {}}
    try:
        value = metric.reduce(stacked)
    except ValueError as reason:  # too few clips for this metric
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
    """The signed change of a metric, `after` minus `before`; the interval is Student's for paired differences.

    Args:
        before: (N, ...) statistics of the same clips in the same order as `after`
    """
    about: _About = {"metric": name, "condition": condition or {}}
    n = len(before)
    try:
        value = metric.reduce(after) - metric.reduce(before)
    except ValueError as reason:
        return Score(None, metric.unit, metric.better, n, note=str(reason), status="too few clips", **about)
    stderr, low, high = interval(after - before) if metric.per_clip else (None, None, None)
    note = metric.caution(n)
    return Score(value, metric.unit, metric.better, n, stderr, low, high, signed=True, note=note, **about)
