"""Two records on the same clips: the change of each metric with its interval, and the reasons why records cannot be compared.

The change is always B minus A, in the unit of the metric: positive for a higher PSNR and also for a higher LPIPS.  Its interval
is Student's for paired differences (`records.interval`), which is far narrower than that of two separate means, because most
of the spread is between clips.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vaebench import plugins, protocol, records
from vaebench.config import RunConfig
from vaebench.options import options_of
from vaebench.records import Better, Record, Score

# settings that change no score: where files are, what is saved, how the work is divided
WITHOUT_EFFECT = {
    *("suite", "vaes", "weights", "fetch", "data", "root", "manifest", "reader", "device", "shard", "fail_fast"),
    *("results", "runs", "published", "options", "require", "metrics", "keep", "keep_video", "keep_latents"),
}
OF_MACHINE = ("efficiency",)  # suites whose scores are of one machine, which their setting names

# suite -> why its scores have no paired interval
WITHOUT_CLIPS = {
    "tokens": "an exact count: it is measured on no clips",
    "efficiency": "a cost: it is measured on no clips",
    "diffusability": "a score of sets of videos: single videos have none",
}


@dataclass(frozen=True)
class Measured:
    """A record, the scores of its clips, and its file, beside which saved frames and videos are."""

    record: Record
    clips: Mapping[str, Mapping[str, float]]
    file: Path

    @property
    def name(self) -> str:
        return self.record.name


def read(file: Path) -> Measured:
    """Read a record with the `.clips.csv` beside it.

    Raises:
        ValueError: the file is missing or invalid, or the scores of the clips are not those of the record
    """
    try:
        record = records.read(file)
    except OSError as reason:
        raise ValueError(f"{file} cannot be read: {reason.strerror}") from None
    clips = records.clips_beside(file)
    for score in record.scores.values():
        if record.suite == "reconstruction" and _of_clips(score, clips) and not _is_mean(score, clips):
            empty = [clip for clip in _rows(score, clips) if clip not in _of_clips(score, clips)]
            without = f" (no value for {', '.join(empty)})" if empty else ""
            raise ValueError(
                f"{file.with_suffix('.clips.csv')} is of another run: its mean of {score.key} differs from the record's{without}; "
                "copy both files of a record together"
            )
    return Measured(record, clips, file)


def _rows(score: Score, clips: Mapping[str, Mapping[str, float]]) -> Mapping[str, Mapping[str, float]]:
    """The rows of clips that should have a value of the score; the relay suite has one per clip and protocol, "clip@loop"."""
    if any(score.key in values for values in clips.values()):
        return clips
    return {clip: values for clip, values in clips.items() if score.condition and clip.endswith(f"@{score.label}")}


def _of_clips(score: Score, clips: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Clip -> its value of a score, from the column of the score's key, or of its metric in the rows of its condition.

    The excess of the relay suite is the difference of two columns.
    """
    rows = _rows(score, clips)
    if any(score.key in values for values in rows.values()):
        return {clip: values[score.key] for clip, values in rows.items() if score.key in values}
    metric = score.metric.removesuffix("_excess")
    if metric == score.metric:
        return {clip: values[metric] for clip, values in rows.items() if metric in values}
    floor = f"{metric}_floor"
    return {clip: values[metric] - values[floor] for clip, values in rows.items() if {metric, floor} <= values.keys()}


def _is_mean(score: Score, clips: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether the score is the mean of its values of single clips."""
    values = list(_of_clips(score, clips).values())
    return bool(values) and score.value is not None and math.isclose(score.value, float(np.mean(values)), rel_tol=1e-9)


@dataclass(frozen=True)
class Change:
    """The change of a metric from A to B.

    With scores of clips, `a` and `b` are the means over the clips that both records have; otherwise the scores of the records.
    """

    key: str  # as `Score.key`
    unit: str
    better: Better
    a: float
    b: float
    n: int  # clips that both records have
    stderr: float | None = None
    low: float | None = None  # ends of the 95 % interval of `b - a`
    high: float | None = None
    reason: str = ""  # why there is no interval
    clips: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # clip id -> its scores in A and B
    # clip id -> "A", "B" or "A and B": clips of both records whose score is missing there
    lacking: Mapping[str, str] = field(default_factory=dict)

    @property
    def change(self) -> float:
        """B minus A, in the unit of the metric."""
        return self.b - self.a

    def won(self) -> int:
        """The number of clips with a better score in B."""
        return sum(_improves(b - a, self.better) for a, b in self.clips.values())

    def lost(self) -> int:
        """The number of clips with a better score in A."""
        return sum(_improves(a - b, self.better) for a, b in self.clips.values())

    def verdict(self) -> str:
        """Whether the interval of the change excludes zero, in words; "" without interval or direction."""
        if self.low is None or self.high is None or self.better == "neither":
            return ""
        if self.low == self.high == 0:
            return "equal"
        if self.low <= 0 <= self.high:
            return "no clear difference"
        return "B is better" if _improves(self.change, self.better) else "A is better"

    def furthest(self, count: int) -> list[str]:
        """The `count` clips that differ most, largest difference first; clips with equal scores are left out."""
        differing = {clip: abs(b - a) for clip, (a, b) in self.clips.items() if a != b}
        return sorted(differing, key=lambda clip: (-differing[clip], clip))[:count]


def _improves(change: float, better: Better) -> bool:
    return change > 0 if better == "higher" else change < 0 if better == "lower" else False


def differences(a: Record, b: Record, keys: Collection[str] = ()) -> list[str]:
    """The reasons why the scores of two records cannot be compared, one line each; empty if they can.

    Args:
        keys: the metrics to compare; empty: all that both records have
    """
    reasons = []
    if a.suite != b.suite:
        return [f"the suite is {a.suite} in A and {b.suite} in B"]
    if a.suite in OF_MACHINE and a.setting != b.setting:
        reasons.append(f"the machine is {a.setting} in A and {b.setting} in B")
    reasons += settings_differ(a, b.config)
    hashes = [str(record.data.get("sha256", "")) for record in (a, b)]
    if hashes[0] != hashes[1]:
        names = [record.data.get("name", "unknown") for record in (a, b)]
        reasons.append(
            f"the data are {names[0]} (sha256 {hashes[0][:12] or 'unknown'}) in A and {names[1]} (sha256 "
            f"{hashes[1][:12] or 'unknown'}) in B"
        )
    for metric, digits in a.digests.items():
        compared = not keys or metric in keys
        if compared and metric in b.digests and b.digests[metric] != digits:
            reasons.append(
                f"the code of the metric {metric} is {digits} in A and {b.digests[metric]} in B: measure both with one version"
            )
    return reasons


def settings_differ(a: Record, config: Mapping[str, Any]) -> list[str]:
    """The settings of `a` that differ from those of a run or record B of the same suite, as sentences.

    Args:
        config: the settings of B
    """
    before, after = _settings(a.suite, a.config), _settings(a.suite, config)
    return [
        f"{name} is {_text(before.get(name))} in A and {_text(after.get(name))} in B"
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _settings(suite: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that can change a score, with defaults for those that an older record lacks."""
    config = {**asdict(RunConfig()), **given}
    try:
        defaults = asdict(options_of(suite)())
    except (ValueError, TypeError):  # a suite of a package that is not installed: its own options are all that is known
        defaults = {}
    try:
        chosen = protocol.load(config["protocol"])
        config["posterior"] = config["posterior"] or chosen.posterior
        config["dtype"] = config["dtype"] or chosen.dtype
    except ValueError:  # a protocol of another version: its name is compared
        pass
    config |= {flag: bool(config[flag]) for flag in ("tf32", "cudnn_benchmark")}  # off unless set
    if config["posterior"] != "sample":
        config["seed"] = None  # only samples depend on it
    if suite == "blockwise":
        config["mode"] = ""  # it runs all modes; older records name whole inference here
    settings = {**config, **defaults, **config.get("options", {})}
    return {name: value for name, value in settings.items() if name not in WITHOUT_EFFECT}


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "[]"
    return "unset" if value in ("", None) else str(value)


def check_metrics(side: str, record: Record, metrics: Sequence[str]) -> None:
    """Raises ValueError if a metric has no value in the record, which is `side`, "A" or "B"."""
    known = sorted({score.metric for score in record.scores.values() if score.value is not None})
    for name in metrics:
        if name not in known:
            why = record.absent.get(name)
            near = "" if why else plugins.did_you_mean(name, known)
            raise ValueError(
                f"{side} ({record.name}) has no score {name}{f': {why}' if why else near} (it has: {', '.join(known)})"
            )


def changes(a: Measured, b: Measured, metrics: Sequence[str] = ()) -> list[Change]:
    """The change of each score that has a value in both records, in the order of A.

    Args:
        metrics: metrics to compare, in this order; empty: all

    Raises:
        ValueError: a metric has no value in one of the records, or no metric has one in both
    """
    for side, record in (("A", a.record), ("B", b.record)):
        check_metrics(side, record, metrics)
    found = [
        _change(before, after, a, b)
        for key, before in a.record.scores.items()
        if (after := b.record.scores.get(key)) is not None and before.value is not None and after.value is not None
        and (not metrics or before.metric in metrics)
    ]  # fmt: skip
    if not found:
        raise ValueError(f"{a.name} and {b.name} have no score in common: measure both with the same metrics")
    order = {name: i for i, name in enumerate(metrics)}
    return sorted(found, key=lambda change: order.get(change.key.partition("@")[0], 0))


def _change(before: Score, after: Score, a: Measured, b: Measured) -> Change:
    assert before.value is not None
    assert after.value is not None
    about: dict[str, Any] = {"key": before.key, "unit": before.unit, "better": before.better}
    if not (_is_mean(before, a.clips) and _is_mean(after, b.clips)):
        return Change(
            a=before.value, b=after.value, n=min(before.n, after.n), reason=_why(before, after, a, b), **about
        )
    ours, theirs = _of_clips(before, a.clips), _of_clips(after, b.clips)
    pairs = {clip: (value, theirs[clip]) for clip, value in ours.items() if clip in theirs}
    if not pairs:
        raise ValueError(f"{a.name} and {b.name} have no clip in common")
    lacking = {
        clip: " and ".join(side for side, values in (("A", ours), ("B", theirs)) if clip not in values)
        for clip in _rows(before, a.clips)
        if clip in b.clips and clip not in pairs
    }
    values = np.array(list(pairs.values()), dtype=np.float64)  # (N, 2)
    stderr, low, high = records.interval(values[:, 1] - values[:, 0])
    reason = "" if low is not None else f"an interval needs {records.FEWEST} clips, these are {len(pairs)}"
    means: dict[str, Any] = {"a": float(values[:, 0].mean()), "b": float(values[:, 1].mean())}
    return Change(
        **about, **means, n=len(pairs), stderr=stderr, low=low, high=high, reason=reason, clips=pairs, lacking=lacking
    )


def _why(score: Score, other: Score, a: Measured, b: Measured) -> str:
    """Why a score has no paired interval."""
    if a.record.suite in WITHOUT_CLIPS:
        return WITHOUT_CLIPS[a.record.suite]
    counts = score.n, other.n
    # a score of two clips has no interval, and a score of one has no standard error either
    single = score.stderr is not None or score.low is not None or any(_of_clips(score, side.clips) for side in (a, b))
    single = single or (score.n == 1 and a.record.suite == "reconstruction" and not (a.clips or b.clips))
    if lost := [side for side, measured in (("A", a), ("B", b)) if single and not measured.clips]:
        sets = f"; A is of {counts[0]} clips and B of {counts[1]}" if counts[0] != counts[1] else ""
        records_of = "their records" if len(lost) > 1 else "its record"
        return f"{' and '.join(lost)} {'have' if len(lost) > 1 else 'has'} no .clips.csv beside {records_of}{sets}"
    if a.record.failed or b.record.failed:
        return "a score of the whole set of clips, and clips failed: the two sets may differ"
    return "a score of the whole set: single clips have none"


def missing_clips(a: Measured, b: Measured) -> tuple[list[str], list[str]]:
    """The clips with scores in A only, and those in B only."""
    return [clip for clip in a.clips if clip not in b.clips], [clip for clip in b.clips if clip not in a.clips]


def notes(a: Record, b: Record) -> list[str]:
    """Differences that do not prevent the comparison but that a reader should know, one line each."""
    lines = []
    unknown = [side for side, record in (("A", a), ("B", b)) if not record.digests]
    if unknown and a.suite in ("reconstruction", "blockwise"):
        lines.append(
            f"{' and '.join(unknown)} {'have' if len(unknown) > 1 else 'has'} no digests of the metrics' code (older record): "
            "equal definitions are assumed"
        )
    for name, title in (("device", "device"), ("torch", "torch"), ("cudnn", "cuDNN")):
        values = [str(record.machine.get(name, "")) for record in (a, b)]
        if values[0] != values[1] and all(values):
            lines.append(f"{title} is {values[0]} in A and {values[1]} in B")
    for side, record in (("A", a), ("B", b)):
        if record.vae.get("weights") == "random" and record.suite not in OF_MACHINE:
            lines.append(f"{side} ({record.name}) has random weights: its scores say nothing about its quality")
        if record.failed:
            lines.append(f"{side}: {len(record.failed)} failed: {', '.join(failure.case for failure in record.failed)}")
    for record in (a, b):
        lines += [f"{score.key}: {score.note}" for score in record.scores.values() if score.note]
    lacking = [
        f"{name} (no value in {' and '.join(side for side, record in (('A', a), ('B', b)) if not _has(record, name))})"
        for name in dict.fromkeys([*a.scores, *a.absent, *b.scores, *b.absent])
        if not (_has(a, name) and _has(b, name))
    ]
    if lacking:
        lines.append(f"not compared: {', '.join(lacking)}")
    return list(dict.fromkeys(lines))


def _has(record: Record, key: str) -> bool:
    return key in record.scores and record.scores[key].value is not None
