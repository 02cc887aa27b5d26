"""The loop: every case of a suite, for every VAE, that is not in the store yet; then the records.

Names become objects here (`adapters.resolve`).  Around the one `if` stand the progress bar, decoding ahead of compute, and the
failure policy: a clip or a VAE that fails is listed with its reason, the rest goes on, nothing that was finished is lost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

import adapters
from adapters import ResolvedVAE
from vaebench import plugins, records
from vaebench.config import RunConfig, check_options
from vaebench.data import list_clips
from vaebench.distributed import rank_and_world
from vaebench.evaluation import explain, record_of, vae_of
from vaebench.fingerprint import code, fingerprint, versions
from vaebench.machine import device_name, pick_device, without_tf32
from vaebench.options import options_of
from vaebench.plugins import did_you_mean
from vaebench.prefetch import Prefetch
from vaebench.records import Failure, Record
from vaebench.store import Store
from vaebench.weight_files import fetch_for_run

if TYPE_CHECKING:
    from vaebench.data import VideoSource
    from vaebench.suite import Case, Statistics, Suite

PROSE = ("note", "license", "reference")  # of a spec: they change no number
LIBRARIES = ("torch", "torchvision", "numpy", "av")  # below every suite; others are found in the code that a case uses


@dataclass
class Outcome:
    """The result of a run: its records, demands that were met, failures, and VAEs that could not be run."""

    records: list[Record] = field(default_factory=list)
    met: list[tuple[str, str]] = field(default_factory=list)  # VAE, and what was required of it and holds
    failed: list[tuple[str, Failure]] = field(default_factory=list)  # VAE and failure
    not_ready: dict[str, str] = field(default_factory=dict)  # VAE -> how to get its weights
    waiting: list[str] = field(default_factory=list)  # VAEs whose other shards have not finished


class DiskError(OSError):
    """A finished case or a record could not be written; the message names the folder."""


def run(config: RunConfig) -> Outcome:
    """Run a suite as `config` says and write its records.  Failures of single clips and VAEs are in the outcome.

    Raises:
        ValueError: unknown name or setting, no clips, a demand that no VAE can meet
        OSError: a folder that cannot be read or written
    """
    without_tf32()
    check_options(config, options_of(config.suite))
    if config.fetch:
        fetch_for_run(config)
    source = list_clips(plugins.find("data", config.data).build(config), config.data)
    if config.clips is not None and config.clips >= len(source.clips):
        config = replace(config, clips=None)  # all of them: the record is the full one
    suite: Suite[Any] = plugins.find("suites", config.suite).build(config)
    index, count = _shard(config.shard)
    outcome = Outcome()
    candidates = _choose(config, suite, outcome)
    _refuse_namesakes(candidates)
    _check_writable(Path(config.results))
    _check_writable(Path(config.runs))
    jobs = [_Job(candidate, suite, source, config) for candidate in candidates]
    todo = sum(len(job.missing(job.cases[index::count])) for job in jobs)
    with (
        Prefetch() as prefetch,
        tqdm(total=todo, desc=config.suite, unit="case", disable=None if todo else True) as bar,
    ):
        for job in jobs:
            bar.set_postfix_str(job.name)
            own = job.cases[index::count]
            job.measure(own, prefetch, bar, outcome)
            damaged = _conclude(job, own, outcome)
            while damaged:
                job.measure(damaged, prefetch, bar, outcome)
                damaged = _conclude(job, own, outcome)
    return outcome


def _choose(config: RunConfig, suite: Suite[Any], outcome: Outcome) -> list[ResolvedVAE]:
    """The VAEs to run.  Unknown names raise ValueError; VAEs without weights are noted as not ready."""
    if config.vaes is not None and not config.vaes:
        raise ValueError("vaes=[] names no VAE; leave it out to run all that are ready")
    names = config.vaes if config.vaes is not None else suite.default_vaes(adapters.names())
    asked = [adapters.resolve(name, config.weights) for name in dict.fromkeys(names)]
    modes = {mode for candidate in asked for mode in candidate.spec.modes}
    if config.mode and config.mode not in modes:
        raise ValueError(
            f"no mode {config.mode!r}{did_you_mean(config.mode, sorted(modes))} (there are: {', '.join(sorted(modes))})"
        )
    chosen = []
    for candidate in asked:
        if suite.needs_weights and candidate.unavailable:
            outcome.not_ready[candidate.name] = candidate.unavailable
        elif config.mode and config.mode not in (own := candidate.spec.modes):
            outcome.not_ready[candidate.name] = f"has no mode {config.mode!r} (it has: {', '.join(own)})"
        else:
            chosen.append(candidate)
    return chosen


def _refuse_namesakes(candidates: Sequence[ResolvedVAE]) -> None:
    """Raises ValueError for one checkpoint that is named twice: both rows would be the same record."""
    names: dict[str, str] = {}
    for candidate in candidates:
        if candidate.label in names:
            first = names[candidate.label]
            raise ValueError(f"{first} and {candidate.name} are the same checkpoint, {candidate.label}: name it once")
        names[candidate.label] = candidate.name


class _Job:
    """One VAE in one run: its cases, its store, and what went wrong."""

    def __init__(self, candidate: ResolvedVAE, suite: Suite[Any], source: VideoSource, config: RunConfig) -> None:
        self.candidate, self.suite, self.source, self.config = candidate, suite, source, config
        self.name, self.spec = candidate.name, candidate.spec
        self.vae = vae_of(suite, candidate)
        record = records.record_path(Path(config.results), suite.name, suite.setting(source), self.vae["name"])
        records.check_replaceable(record, self.vae, source.identity)
        self.cases = list(suite.cases(source, self.spec))
        roots = [plugins.find("suites", config.suite), *candidate.code, plugins.find("data", config.data)]
        facts = {
            "suite": [suite.name, suite.identity],
            "vae": [
                {key: value for key, value in asdict(self.spec).items() if key not in PROSE},
                self.vae["weights"],
                self.vae["config_sha256"],
            ],
            "data": [source.identity, [clip.stamp for clip in source]],
            "code": code(roots),
            "libraries": versions(LIBRARIES),
            "device": device_name(pick_device(config.device)),
        }
        self.fingerprint = fingerprint(facts)
        self.store = Store(Path(config.runs) / self.fingerprint)
        self.broken = ""  # why the VAE itself could not be loaded

    def missing(self, cases: Sequence[Case]) -> list[Case]:
        """Those of `cases` that are not in the store, or lack a statistic of this run; with what is stored of them."""
        missing = []
        for case in cases:
            names = self.store.names(case.id)
            if names is None:
                missing.append(case)
            elif not self.suite.is_complete(case, names):
                missing.append(replace(case, stored=self.store.get(case.id) or {}))
        return missing

    def measure(self, cases: Sequence[Case], prefetch: Prefetch, bar: tqdm, outcome: Outcome) -> None:
        """Measure those of `cases` that are missing; a failure is noted and the next case follows."""
        missing = self.missing(cases)
        if not missing:
            return
        try:
            subject = self.suite.open(self.candidate)
        except Exception as error:
            if self.config.fail_fast:
                raise
            self.broken = explain(error)
            outcome.failed.append((self.name, Failure(self.name, "", self.broken)))
            bar.update(len(missing))
            return
        for case in prefetch.decoded(missing):
            self.store.forget_failure(case.id)
            try:
                statistics = self.suite.measure(subject, case)
            except Exception as error:
                if self.config.fail_fast:
                    raise
                file = case.clip.file if case.clip else ""
                with _disk(self.store.folder):
                    self.store.fail(case.id, file, explain(error))
            else:
                with _disk(self.store.folder):
                    self.store.put(case.id, {**case.stored, **statistics})
            bar.update()

    def read(self, case: Case) -> Statistics | Failure | None:
        """What is known of a case: its statistics, or how it failed; None if it is not done, or its file is damaged."""
        statistics = self.store.get(case.id)
        if statistics is not None and self.suite.is_complete(case, statistics.keys()):
            return statistics
        failure = self.store.failure(case.id)
        return Failure(**failure) if failure else None


def _conclude(job: _Job, own: Sequence[Case], outcome: Outcome) -> list[Case]:
    """Summarize and write the record if every case, of all shards, is measured or known to have failed.

    Returns those of this process's `own` cases whose files are damaged: they are to be measured again.
    """
    if job.broken:
        return []
    done = {case.id: job.read(case) for case in own}
    if damaged := [case for case in own if done[case.id] is None]:
        return damaged
    for case in job.cases:
        if case.id not in done and (found := job.read(case)) is not None:
            done[case.id] = found
        elif case.id not in done:  # the first one settles it: the other cases need not be read
            outcome.waiting.append(job.name)
            return []
    failed = [found for case in job.cases if isinstance(found := done[case.id], Failure)]
    statistics = {case.id: found for case in job.cases if isinstance(found := done[case.id], dict)}
    outcome.failed.extend((job.name, failure) for failure in failed)
    if not statistics:
        return []
    try:
        _write(job, statistics, failed, outcome)
    except DiskError:
        raise
    except Exception as error:
        if job.config.fail_fast:
            raise
        why = f"measured, but its scores cannot be summed up: {explain(error)}"
        outcome.failed.append((job.name, Failure(job.name, "", why)))
    return []


def _write(job: _Job, statistics: Mapping[str, Statistics], failed: list[Failure], outcome: Outcome) -> None:
    """Write the record of a VAE whose cases are all done, and note which demands it meets."""
    suite = job.suite
    record = record_of(suite, job.candidate, job.source, job.config, job.cases, statistics, failed, job.fingerprint)
    demands = suite.demands(job.spec, statistics)
    root = Path(job.config.results)
    with _disk(root):
        records.write(record, root, suite.per_case(statistics))
        records.write_pictures(root, record, suite.pictures(statistics))
    outcome.met.extend((job.name, demand.sentence) for demand in demands if demand.met)
    outcome.failed.extend((job.name, Failure(job.name, "", demand.sentence)) for demand in demands if not demand.met)
    outcome.records.append(record)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"{folder} cannot be written: {error.strerror or error}; finished cases are kept") from error


def _check_writable(folder: Path) -> None:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise DiskError(f"{folder} cannot be written: choose another with results=DIR and runs=DIR")


def _shard(text: str) -> tuple[int, int]:
    if text == "auto":
        return rank_and_world()
    index, slash, total = text.partition("/")
    if not (slash and index.isdigit() and total.isdigit() and int(index) < int(total)):
        raise ValueError(f"shard={text!r} should read i/n with i from 0 to n-1: shard=0/8 ... shard=7/8")
    return int(index), int(total)


def report(outcome: Outcome, stream: Any = None) -> None:
    """Demands that were met, and what went wrong or was left out, a line each, to stderr."""
    stream = stream or sys.stderr
    for name, said in outcome.met:
        print(f"{name}: {said}", file=stream)
    for (case, file, reason), names in _grouped(outcome.failed).items():
        where = f" ({file})" if file and file not in reason else ""
        who = "" if names == [case] else f" [{', '.join(names)}]"
        print(f"failed: {case}{where}: {reason}{who}", file=stream)
    for score, reason in _absent(outcome.records).items():
        print(f"absent: {score}: {reason}", file=stream)
    if outcome.waiting:
        print(f"waiting for other shards: {', '.join(outcome.waiting)}", file=stream)


def _grouped(failed: list[tuple[str, Failure]]) -> dict[tuple[str, str, str], list[str]]:
    """A line for each case and reason, with all the VAEs that it befell."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, failure in failed:
        groups.setdefault((failure.case, failure.file, failure.reason), []).append(name)
    return groups


def _absent(records: list[Record]) -> dict[str, str]:
    return {score: reason for record in records for score, reason in record.absent.items()}
