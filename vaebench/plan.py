"""`vaebench run ... --dry-run`: the plan of a run on this machine; nothing is measured, downloaded or written.

The time left is that of stored cases with the same parameters, such as the same VAE, settings and clip length; a VAE without such
cases has none.  It is the time of the measurements, without loading of networks.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import adapters
from vaebench import plugins, runner, weights
from vaebench.config import RunConfig
from vaebench.jobs import Job, Part
from vaebench.listing import columns
from vaebench.outcome import Outcome
from vaebench.preset import Chosen
from vaebench.progress import duration
from vaebench.suite import Case

DATA = ("data.root=", "data.manifest=", "data.synthetic=")  # a training needs one of them
SAVED = ("keep", "keep_video")  # parameters that only save pictures


class Row(NamedTuple):
    """The state of one VAE in a run."""

    vae: str
    done: int
    cases: int
    seconds: float | None  # time left; None if no stored case tells


def described(chosen: Chosen) -> tuple[str, int]:
    """The plan of a command line as text, and the exit code that tells whether it can run as `vaebench run` does."""
    plans = [run_plan(one) for config in chosen.runs for one in runner.divided(config)]
    text = _introduction(chosen) + "\n".join(text for text, _ in plans)
    codes = [code for _, code in plans]
    if chosen.trainings:
        text += "".join(f"vaebench train {shlex.join(words)}\n" for words in chosen.trainings)
        if missing := not all(any(word.startswith(DATA) for word in words) for words in chosen.trainings):
            text += "cannot run: training needs data.root=DIR, a folder of videos or of WebDataset shards (.tar)\n"
        codes.append(2 if missing else 0)
    return text, combined(codes)


def combined(codes: Sequence[int]) -> int:
    """The exit code of several runs: 0 if all succeed, 2 if none could run, otherwise 1."""
    return codes[0] if len(set(codes)) == 1 else int(any(codes))


def _introduction(chosen: Chosen) -> str:
    if chosen.preset is None:
        return ""
    lines = [
        f"{chosen.name}: {chosen.preset.about}",
        f"source: {chosen.preset.source}",
        f"needs: {chosen.preset.needs}",
    ]
    lines += [f"figures: {', '.join(chosen.preset.figures)}"] if chosen.preset.figures else []
    return "\n".join(lines) + "\n\n"


def run_plan(config: RunConfig) -> tuple[str, int]:
    """The plan of one run as text, and its exit code: 0 if everything is ready, 1 if some VAEs are not, 2 if it cannot run."""
    try:
        parts, groups, outcome = runner.prepare(config)
    except (ValueError, OSError) as reason:
        return "\n".join([config.suite, f"  cannot run: {reason}", *_without_data(config)]) + "\n", 2
    jobs = [job for group in groups for job in group]
    lines: list[str] = []
    rows: list[Row] = []
    for part in (part for together in parts for part in together):
        own = [_row(job) for job in jobs if job.suite is part.suite]
        lines += [f"{config.suite} · {part.suite.setting(part.source)}", *_clips(part)]
        cells = [[row.vae, f"{row.done}/{row.cases}", _time(row.seconds)] for row in own]
        lines += [
            f"  {line}" for line in columns([["VAE ready", "cases done", "time left"], *cells]).splitlines() if own
        ]
        rows += own
    lines += [] if jobs or outcome.failed else ["  cannot run: no VAE is ready"]
    lines += _problems(config, outcome)
    absent = {metric: reason for together in parts for part in together for metric, reason in part.suite.absent.items()}
    lines += [f"  absent: {metric}: {reason}" for metric, reason in absent.items()]
    lines += _weight_files(config)
    lines += _total(rows) if rows else []
    incomplete = bool(outcome.failed) or (config.vaes is not None and bool(outcome.not_ready))
    return "\n".join(lines) + "\n", int(incomplete) if jobs or outcome.failed else 2


def _without_data(config: RunConfig) -> list[str]:
    """What is known of a run whose data is missing: which VAEs and weights are ready."""
    try:
        _, groups, outcome = runner.prepare(replace(config, data="synthetic", root="", manifest=""))
    except (ValueError, OSError):  # the settings are invalid with any data
        return []
    ready = list(dict.fromkeys(job.name for group in groups for job in group))
    lines = [f"  VAE ready: {', '.join(ready)}"] if ready else []
    return [*lines, *_problems(config, outcome), *_weight_files(config)]


def _clips(part: Part) -> list[str]:
    """The clips that the suite reads, if it reads any."""
    if "data" in part.suite.unused:
        return []
    found = len(part.source.clips)
    return [f"  clips: {min(part.config.clips or found, found)} of {found} in data={part.config.data}"]


def _row(job: Job) -> Row:
    missing = job.missing(job.cases)
    return Row(
        job.name, len(job.cases) - len(missing), len(job.cases), time_left(job.cases, missing, job.store.seconds())
    )


def time_left(cases: Iterable[Case], missing: Sequence[Case], seconds: Mapping[str, float]) -> float | None:
    """Seconds that the missing cases take, from the mean time of finished cases with the same parameters.

    Args:
        cases: all cases
        seconds: case id -> stored time

    Returns:
        None if there is a missing case without a finished one of its parameters
    """
    unfinished = {case.id for case in missing}
    times: dict[str, list[float]] = {}
    for case in cases:
        if case.id in seconds and case.id not in unfinished:
            times.setdefault(_kind(case), []).append(seconds[case.id])
    if any(_kind(case) not in times for case in missing):
        return None
    return sum(sum(times[_kind(case)]) / len(times[_kind(case)]) for case in missing)


def _kind(case: Case) -> str:
    """The parameters of a case that decide its time."""
    return repr(sorted((name, repr(value)) for name, value in case.params.items() if name not in SAVED))


def _time(seconds: float | None) -> str:
    return "unknown" if seconds is None else duration(seconds)


def _total(rows: Sequence[Row]) -> list[str]:
    unknown = list(dict.fromkeys(row.vae for row in rows if row.seconds is None))
    known = sum(row.seconds for row in rows if row.seconds is not None)
    if not unknown:
        return [f"  time left: {duration(known)}"]
    because = f"unknown for {', '.join(unknown)}, of which no case with the same parameters is stored"
    return [
        f"  time left: {because}" if len(unknown) == len(rows) else f"  time left: {duration(known)}, and {because}"
    ]


def _problems(config: RunConfig, outcome: Outcome) -> list[str]:
    """The VAEs that cannot be run, each with the reason and the size of its weights."""
    if config.vaes is None and outcome.not_ready:
        lines = [f"  not ready: {len(outcome.not_ready)} other VAEs; see `vaebench list adapters`"]
    else:
        lines = [_not_ready(name, reason) for name, reason in outcome.not_ready.items()]
    return lines + [f"  failed: {name}: {failure.reason}" for name, failure in outcome.failed]


def _not_ready(name: str, reason: str) -> str:
    try:
        vae = adapters.resolve(name)
    except (ValueError, OSError):
        return f"  not ready: {name}: {reason}"
    released = vae.spec.source and not vae.spec.source.startswith(weights.UNRELEASED)
    if reason != vae.unavailable or not released:
        return f"  not ready: {name}: {reason}"
    return f"  not ready: {name}: {reason} ({weights_size(vae.spec.parameters)})"


def weights_size(parameters: int) -> str:
    """The size of the weights of a VAE with this number of parameters; 0 = unknown."""
    if not parameters:
        return "size unknown"
    return f"{parameters / 1e6:.1f} M parameters: {4 * parameters / 1e6:,.0f} MB if stored as float32"


def _weight_files(config: RunConfig) -> list[str]:
    """The weight files of metrics and features that the run reads and that are missing."""
    suite = plugins.find("suites", config.suite)
    if not hasattr(suite, "weight_files"):
        return []
    missing = [name for name in suite.weight_files(config) if not weights.here(name)]
    return [f"  missing weights: {name} ({weights.entry_of(name).file}, size unknown)" for name in missing]
