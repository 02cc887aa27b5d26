"""A gate for CI: limits for the change of metrics against a baseline, and their verdicts as text and as JUnit XML.

The change of a metric is candidate minus baseline, in the unit of the metric.  A limit is an inequality of this number:
`--fail-below psnr=-0.05` fails if the PSNR drops by more than 0.05 dB, `--fail-above lpips=0.002` if the LPIPS rises by more
than 0.002.  The limit on the other side would let every regression pass, so it is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar
from xml.etree import ElementTree

from vaebench.paired import OF_MACHINE, Change, Measured, missing_clips
from vaebench.records import Score

Side = Literal["below", "above"]
WORSE: dict[str, Side] = {"higher": "below", "lower": "above"}  # better -> the side of a regression


@dataclass(frozen=True)
class Limit:
    """The gate fails if the change of `key` is on the `side` of `bound`; a change equal to `bound` passes."""

    key: str  # as `Score.key`, such as "psnr" or "psnr@streamed"
    side: Side
    bound: float  # in the unit of the metric

    @property
    def option(self) -> str:
        return f"--fail-{self.side} {self.key}={self.bound:g}"


@dataclass(frozen=True)
class Verdict:
    """One line of the gate."""

    name: str
    passed: bool
    sentence: str


def limits(below: Sequence[str], above: Sequence[str]) -> list[Limit]:
    """Parse the values of `--fail-below` and `--fail-above`.

    Raises:
        ValueError: a value is not METRIC=NUMBER, or a limit is given twice
    """
    parsed: dict[tuple[str, Side], Limit] = {}
    sides: tuple[tuple[Side, Sequence[str]], ...] = (("below", below), ("above", above))
    for side, words in sides:
        for word in words:
            key, equals, text = word.rpartition("=")
            try:
                bound = float(text)
            except ValueError:
                bound = math.nan
            if not (equals and key and math.isfinite(bound)):
                raise ValueError(f"--fail-{side} {word}: expected METRIC=NUMBER, such as psnr=-0.05")
            if (key, side) in parsed:
                raise ValueError(f"--fail-{side} {key} is given twice: remove one of the two")
            parsed[key, side] = Limit(key, side, bound)
    return list(parsed.values())


Compared = TypeVar("Compared", Change, Score)


def check(limit: Limit, compared: Sequence[Compared]) -> Compared:
    """The change or score that `limit` is about.

    Raises:
        ValueError: the metric was not compared, or a better score is on the side of the limit
    """
    known = {each.key: each for each in compared if (each.a if isinstance(each, Change) else each.value) is not None}
    if limit.key not in known:
        raise ValueError(f"{limit.option}: {limit.key} has no value to compare (available: {', '.join(known)})")
    change = known[limit.key]
    regression = WORSE.get(change.better, limit.side)
    if limit.side != regression:
        word = "rise" if regression == "above" else "drop"
        raise ValueError(
            f"{limit.option}: {change.better} {limit.key} is better, so this limit would let every regression pass; "
            f"use --fail-{regression} {limit.key}=NUMBER, which fails on a {word}"
        )
    return change


def _clips(changes: Sequence[Change], baseline: Measured, candidate: Measured) -> list[Verdict]:
    """The verdict about clips; [] for records without scores of clips that are of equally many cases."""
    if baseline.clips and candidate.clips:
        missing, _ = missing_clips(baseline, candidate)
        lost = f"{len(missing)} of {len(baseline.clips)} clips have no score in the candidate: {', '.join(missing)}"
        all_there = f"all {len(baseline.clips)} clips of the baseline have scores in the candidate"
        results = [Verdict("clips", not missing, lost if missing else all_there)]
        if missing:
            return results
    else:
        results = []
    faults = _without_scores(changes, len(baseline.clips)) + _other_sets(changes, baseline, candidate)
    return [Verdict("clips", False, "; ".join(faults))] if faults else results


def _without_scores(changes: Sequence[Change], count: int) -> list[str]:
    """The clips, of `count`, that have a score in the baseline and none in the candidate, as sentences."""
    lost = {change.key: [clip for clip, side in change.lacking.items() if side == "B"] for change in changes}
    return [
        f"{len(clips)} of {count} clips have no {key} in the candidate: {', '.join(clips)}"
        for key, clips in lost.items()
        if clips
    ]


def _other_sets(changes: Sequence[Change], baseline: Measured, candidate: Measured) -> list[str]:
    """The reasons why scores without pairs of clips are of different clips, as sentences."""
    unpaired = [change.key for change in changes if not change.clips]
    if not unpaired:
        return []
    faults = []
    failed = [{failure.case for failure in side.record.failed} for side in (baseline, candidate)]
    if failed[0] != failed[1]:
        names = [", ".join(sorted(cases)) or "none" for cases in failed]
        faults.append(f"different clips failed: {names[0]} in the baseline and {names[1]} in the candidate")
    counts = {key: [side.record.scores[key].n for side in (baseline, candidate)] for key in unpaired}
    if baseline.record.suite not in OF_MACHINE:  # their n is the number of timings
        differing = [f"{key} {n[0]} and {n[1]}" for key, n in counts.items() if n[0] != n[1]]
        if differing:
            faults.append(f"the numbers of clips differ in baseline and candidate: {', '.join(differing)}")
    files = [side.file.with_suffix(".clips.csv") for side in (baseline, candidate) if not side.clips]
    if faults and files:
        faults.append(f"clips cannot be paired without {' and '.join(map(str, files))}: copy both files of a record")
    return faults


def verdicts(
    given: Sequence[Limit], changes: Sequence[Change], baseline: Measured, candidate: Measured
) -> list[Verdict]:
    """The verdict of each limit, after one about clips: a clip that fails must not make a gate pass.

    Raises:
        ValueError: a limit cannot be checked
    """
    results = _clips(changes, baseline, candidate)
    for limit in given:
        change = check(limit, changes)
        failed = change.change < limit.bound if limit.side == "below" else change.change > limit.bound
        unit = f" {change.unit}" if change.unit else ""
        relation = {("below", True): "<", ("below", False): ">=", ("above", True): ">", ("above", False): "<="}
        sentence = (
            f"{limit.key} changed by {change.change:+.6g}{unit} {relation[limit.side, failed]} {limit.bound:+g}{unit} "
            f"({change.a:.6g} -> {change.b:.6g}, n={change.n})"
        )
        results.append(Verdict(f"{limit.key} not {limit.side} {limit.bound:+g}{unit}", not failed, sentence))
    return results


def junit(results: Sequence[Verdict], title: str) -> str:
    """The verdicts as JUnit XML, one test case each.

    Args:
        title: name of the test suite
    """
    failed = sum(not verdict.passed for verdict in results)
    kinds = {True: "system-out", False: "failure"}
    return _xml(
        [(verdict.name, kinds[verdict.passed], verdict.sentence) for verdict in results], title, failures=failed
    )


def junit_error(reason: str, title: str) -> str:
    """JUnit XML of a comparison that was refused: one test case with an error.

    Args:
        title: name of the test suite
    """
    return _xml([("comparison", "error", reason)], title, errors=1)


def _xml(cases: Sequence[tuple[str, str, str]], title: str, failures: int = 0, errors: int = 0) -> str:
    """JUnit XML of test cases: name, element that holds the result, sentence."""
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors)}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": title, **counts})
    for name, kind, sentence in cases:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "vaebench.compare", "name": name})
        ElementTree.SubElement(case, kind, {} if kind == "system-out" else {"message": sentence}).text = sentence
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    # names of clips may hold control characters, which XML 1.0 cannot represent
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "?", text)
        + "\n"
    )
