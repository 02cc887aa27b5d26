"""The run loop: measure the cases of a suite that are not stored yet, for every VAE, and write the records.

This module resolves names to objects (`adapters.resolve`), shows progress, decodes clips ahead of the computation and handles
failures: a clip or a VAE that fails is listed with its reason, the others continue, and finished cases stay stored.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import adapters
from adapters import ResolvedVAE
from vaebench import kept_video, plugins, protocol, records
from vaebench.config import RunConfig, check_options
from vaebench.data import list_clips
from vaebench.distributed import rank_and_world
from vaebench.evaluation import explain, record_of, vae_of
from vaebench.fingerprint import code, fingerprint, versions
from vaebench.machine import device_name, pick_device, without_tf32
from vaebench.options import options_of
from vaebench.plugins import did_you_mean
from vaebench.prefetch import Prefetch
from vaebench.progress import Progress
from vaebench.records import Failure, Record
from vaebench.store import Store
from vaebench.weight_files import fetch_for_run

if TYPE_CHECKING:
    from vaebench.data import ListedSource
    from vaebench.suite import Case, Statistics, Suite

PROSE = ("note", "license", "reference")  # fields of a spec that affect no score
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "av",
)  # used by every suite; others are collected from the imports of the code that a case runs


@dataclass
class Outcome:
    """The result of a run: its records, fulfilled requirements, failures, and VAEs that could not be run."""

    records: list[Record] = field(default_factory=list)
    met: list[tuple[str, str]] = field(default_factory=list)  # VAE and the requirement that it meets
    failed: list[tuple[str, Failure]] = field(default_factory=list)  # VAE and failure
    not_ready: dict[str, str] = field(default_factory=dict)  # VAE -> how to get its weights
    waiting: list[str] = field(default_factory=list)  # VAEs whose other shards have not finished
    notes: list[str] = field(default_factory=list)  # what the run did more than once, and why

    def add(self, other: Outcome) -> None:
        """Append the outcome of another run."""
        for mine in fields(self):
            ours, theirs = getattr(self, mine.name), getattr(other, mine.name)
            if isinstance(ours, dict):
                ours.update(theirs)
            else:
                ours += [item for item in theirs if item not in ours]


class DiskError(OSError):
    """A finished case or a record could not be written; the message names the folder."""


def run(config: RunConfig) -> Outcome:
    """Run a suite with the settings in `config` and write its records; several runs if the suite divides it (`runs`).

    Args:
        config: the settings of the run, options of the suite included

    Returns:
        the records and messages; failures of single clips and VAEs are in `failed`, not raised

    Raises:
        ValueError: a name or setting is unknown, the data source has no clips, or no VAE can meet a requirement
        OSError: a folder cannot be read or written
    """
    outcome = Outcome()
    for one in divided(config):
        outcome.add(_run(one))
    return outcome


def divided(config: RunConfig) -> list[RunConfig]:
    """The runs of which `config` consists: one, unless the suite divides it, such as by `sizes`."""
    check_options(config, options_of(config.suite))
    runs: Callable[[RunConfig], list[RunConfig]] = getattr(
        plugins.find("suites", config.suite), "runs", lambda whole: [whole]
    )
    return runs(config)


def _run(config: RunConfig) -> Outcome:
    if config.fetch:
        fetch_for_run(config)
    _, groups, outcome = prepare(config)
    index, count = _shard(config.shard)
    todo = sum(len(job.missing(job.cases[index::count])) for jobs in groups for job in jobs)
    title = f"{config.suite} shard {index}/{count}" if count > 1 else config.suite
    with Prefetch() as prefetch, Progress(title, todo, "cases") as progress:
        for jobs in groups:
            with progress.part(jobs[0].name):
                _run_group(jobs, {job: job.cases[index::count] for job in jobs}, prefetch, progress, outcome)
    return outcome


class Prepared(NamedTuple):
    """A run before its first measurement."""

    parts: list[list[Part]]  # its protocols; those that share reconstructions are in one list
    groups: list[list[Job]]  # of each VAE, the jobs that share reconstructions
    outcome: Outcome  # the VAEs that cannot be run


def prepare(config: RunConfig) -> Prepared:
    """Find the clips, the VAEs and the stored cases of a run.  Nothing is measured and no file is written.

    Raises:
        as `run`
    """
    without_tf32()
    check_options(config, options_of(config.suite))
    parts = _parts(config)
    _shard(config.shard)
    outcome = Outcome(notes=_separate(parts))
    candidates = choose(config, parts[0][0].suite, outcome)
    _check_distinct(candidates)
    _check_writable(Path(config.results))
    _check_writable(Path(config.runs))
    groups = [[Job(candidate, part) for part in together] for candidate in candidates for together in parts]
    return Prepared(parts, groups, outcome)


def _run_group(
    jobs: Sequence[Job],
    own: Mapping[Job, Sequence[Case]],
    prefetch: Prefetch,
    progress: Progress,
    outcome: Outcome,
) -> None:
    """Measure the cases of this process (`own`) for jobs that share reconstructions, and write their records."""
    _measure(own, prefetch, progress, outcome)
    for job in jobs:
        measure = partial(_measure_one, job, prefetch=prefetch, progress=progress, outcome=outcome)
        if damaged := _conclude(job, own[job], outcome, measure):
            measure(damaged)
            job.fail([case for case in damaged if job.read(case) is None])
            _conclude(job, own[job], outcome, measure)


@dataclass(frozen=True)
class Part:
    """One protocol of a run: its settings, its suite, and the clips as it resizes them."""

    config: RunConfig
    suite: Suite[Any]
    source: ListedSource


def _parts(config: RunConfig) -> list[list[Part]]:
    """A part for each protocol of the run; the parts in one list share the reconstructions (`Suite.shares`)."""
    sources: dict[str, ListedSource] = {}
    together: list[list[Part]] = []
    for chosen in protocol.load_all(config.protocol):
        own = replace(config, protocol=chosen.name)
        if chosen.resize not in sources:
            sources[chosen.resize] = list_clips(plugins.find("data", own.data).build(own), own.data)
        source = sources[chosen.resize]
        if own.clips is not None and own.clips >= len(source.clips):
            own = replace(own, clips=None)  # every clip is used, so this is the full record
        part = Part(own, plugins.find("suites", own.suite).build(own), source)
        for parts in together:
            if part.suite.shares and part.suite.shares == parts[0].suite.shares:
                parts.append(part)
                break
        else:
            together.append([part])
    return together


def _separate(parts: list[list[Part]]) -> list[str]:
    """A line for each list of parts but the first: why its protocols need reconstructions of their own."""
    lines = []
    first = parts[0]
    for others in parts[1:]:
        these = ", ".join(part.config.protocol for part in others)
        ours, theirs = others[0].suite.shares, first[0].suite.shares
        differing = ", ".join(name for name in ours if ours[name] != theirs.get(name))
        why = f"they differ in {differing}" if differing else "its suite measures each protocol on its own"
        lines.append(f"{these}: clips are reconstructed again, not shared with {first[0].config.protocol}: {why}")
    return lines


def choose(config: RunConfig, suite: Suite[Any], outcome: Outcome) -> list[ResolvedVAE]:
    """The VAEs to run; those without weights go to `outcome.not_ready`, those with unreadable weights to `outcome.failed`.

    Raises:
        ValueError: a VAE or mode is unknown
    """
    if config.vaes is not None and not config.vaes:
        raise ValueError(
            "vaes=[] is an empty list: name at least one VAE, or remove the setting to run all VAEs that are ready"
        )
    names = config.vaes if config.vaes is not None else suite.default_vaes(adapters.names())
    requested = [found for name in dict.fromkeys(names) if (found := _resolved(name, config, suite, outcome))]
    modes = {mode for candidate in requested for mode in candidate.spec.modes}
    if requested and config.mode and config.mode not in modes:
        raise ValueError(
            f"no mode {config.mode!r}{did_you_mean(config.mode, sorted(modes))} (available: {', '.join(sorted(modes))})"
        )
    chosen = []
    for candidate in requested:
        if refusal := suite.refusal(candidate.spec):
            outcome.not_ready[candidate.name] = refusal
        elif config.mode and config.mode not in (available := candidate.spec.modes):
            outcome.not_ready[candidate.name] = f"has no mode {config.mode!r} (available: {', '.join(available)})"
        else:
            chosen.append(candidate)
    return chosen


def _resolved(name: str, config: RunConfig, suite: Suite[Any], outcome: Outcome) -> ResolvedVAE | None:
    """The VAE called `name`, with the digests of its weights; None if they cannot be read, and the other VAEs run."""
    try:
        candidate = adapters.resolve(name, config.weights)
        if not suite.needs_weights:
            return candidate
        if not candidate.unavailable:
            _hash_weights(candidate)
            return candidate
        outcome.not_ready[name] = candidate.unavailable
    except FileNotFoundError as error:  # of released weights, or of a user checkpoint that is not trained yet
        outcome.not_ready[name] = str(error)
    except adapters.UnreadableCheckpoint as error:
        if config.fail_fast:
            raise
        outcome.failed.append((name, Failure(name, "", explain(error))))
    return None


def _hash_weights(candidate: ResolvedVAE) -> None:
    """Raises adapters.UnreadableCheckpoint if a file of the weights cannot be read."""
    try:
        _ = candidate.weights, candidate.config_sha256
    except (ValueError, OSError) as error:
        raise adapters.UnreadableCheckpoint(str(error)) from error


def _check_distinct(candidates: Sequence[ResolvedVAE]) -> None:
    """Raises ValueError if two names refer to the same checkpoint: both would write the same record."""
    names: dict[str, str] = {}
    for candidate in candidates:
        if candidate.label in names:
            first = names[candidate.label]
            raise ValueError(
                f"{first} and {candidate.name} are the same checkpoint, {candidate.label}: remove one of them"
            )
        names[candidate.label] = candidate.name


class Job:
    """One VAE under one protocol: its cases, its store and its failure, if it cannot be loaded."""

    def __init__(self, candidate: ResolvedVAE, part: Part) -> None:
        self.candidate = candidate
        self.suite, self.source, self.config = suite, source, config = part.suite, part.source, part.config
        self.name, self.spec = candidate.name, candidate.spec
        self.vae = vae_of(suite, candidate)
        record = records.record_path(Path(config.results), suite.name, suite.setting(source), self.vae["name"])
        records.check_replaceable(record, self.vae, source.identity)
        self.cases = list(suite.cases(source, self.spec))
        network = candidate.code if suite.runs_network else []
        roots = [plugins.find("suites", config.suite), *network, plugins.find("data", config.data)]
        facts = {
            "suite": [suite.name, suite.identity],
            "vae": [
                {key: value for key, value in asdict(self.spec).items() if key not in PROSE},
                self.vae["weights"],
                self.vae["config_sha256"],
                self.vae["name"],  # of a user checkpoint, with digits of its content
            ],
            "data": [source.identity, [clip.stamp for clip in source]],
            "code": code(roots),
            "libraries": versions(LIBRARIES),
            "device": device_name(pick_device(config.device)),
        }
        self.fingerprint = fingerprint(facts)
        self.store = Store(Path(config.runs) / self.fingerprint)
        self.broken = ""  # the reason, if the VAE could not be loaded

    def missing(self, cases: Sequence[Case]) -> list[Case]:
        """The cases that are not stored or lack a statistic of this run, each with the statistics that are stored."""
        missing = []
        for case in cases:
            names = self.store.names(case.id)
            if names is None:
                missing.append(case)
            elif not self.suite.is_complete(case, names):
                missing.append(replace(case, stored=self.store.get(case.id) or {}))
        return missing

    def measure(self, subject: Any, case: Case) -> None:
        """Measure one case and store the result; a case that fails is recorded."""
        self.store.forget_failure(case.id)
        start = perf_counter()
        try:
            statistics = self.suite.measure(subject, case)
        except Exception as error:
            if self.config.fail_fast:
                raise
            file = case.clip.file if case.clip else ""
            with _disk(self.store.folder):
                self.store.fail(case.id, file, explain(error))
        else:
            seconds = perf_counter() - start
            with _disk(self.store.folder):
                self.store.put(case.id, {**case.stored, **(self.store.get(case.id) or {}), **statistics})
                self.store.add_seconds(case.id, seconds)

    def fail(self, cases: Sequence[Case]) -> None:
        """Mark cases whose statistics are incomplete after they were measured twice as failed."""
        for case in cases:
            with _disk(self.store.folder):
                self.store.fail(case.id, "", "its stored statistics are incomplete or damaged after two measurements")

    def read(self, case: Case) -> Statistics | Failure | None:
        """The stored statistics of a case, or its failure; None if neither exists or the file is damaged."""
        statistics = self.store.get(case.id)
        if statistics is not None and self.suite.is_complete(case, statistics.keys()):
            return statistics
        failure = self.store.failure(case.id)
        return Failure(**failure) if failure else None


def _measure(todo: Mapping[Job, Sequence[Case]], prefetch: Prefetch, progress: Progress, outcome: Outcome) -> None:
    """Measure the cases that are missing, for jobs of one VAE that share its reconstructions.

    A clip is decoded and reconstructed once, for all protocols; each stores its own result, so that a run can be resumed with
    other protocols.
    """
    missing = {job: found for job, cases in todo.items() if (found := {case.id: case for case in job.missing(cases)})}
    if not missing:
        return
    progress.expect(sum(map(len, missing.values())))  # cases may be measured a second time
    first = next(iter(missing))
    try:
        subject = first.suite.open(first.candidate)
    except Exception as error:
        if first.config.fail_fast:
            raise
        outcome.failed.append((first.name, Failure(first.name, "", explain(error))))
        for job, cases in missing.items():
            job.broken = explain(error)
            progress.update(len(cases))
        return
    union = {name: case for cases in missing.values() for name, case in cases.items()}
    for case in prefetch.decoded(list(union.values())):
        for job, cases in missing.items():
            if case.id in cases:
                job.measure(subject, replace(cases[case.id], clip=case.clip, shared=case.shared))
                progress.update()


def _measure_one(job: Job, cases: Sequence[Case], prefetch: Prefetch, progress: Progress, outcome: Outcome) -> None:
    _measure({job: cases}, prefetch, progress, outcome)


def _conclude(job: Job, own: Sequence[Case], outcome: Outcome, measure: Callable[[Sequence[Case]], None]) -> list[Case]:
    """Summarize and write the record once every case of all shards has been measured or has failed.

    Returns the cases of this process (`own`) whose files are damaged and must be measured again.  Cases that the suite revisits
    are measured here, by `measure`.
    """
    if job.broken:
        return []
    done = {case.id: job.read(case) for case in own}
    if damaged := [case for case in own if done[case.id] is None]:
        return damaged
    for case in job.cases:
        if case.id not in done and (result := job.read(case)) is not None:
            done[case.id] = result
        elif case.id not in done:  # one missing case is enough to wait
            outcome.waiting += [job.name] if job.name not in outcome.waiting else []
            return []
    failed = [result for case in job.cases if isinstance(result := done[case.id], Failure)]
    statistics = {case.id: result for case in job.cases if isinstance(result := done[case.id], dict)}
    outcome.failed.extend((job.name, failure) for failure in failed)
    if not statistics:
        return []
    again = job.suite.revisit(job.cases, statistics)
    measure(again)
    for case in again:
        result = job.read(case)
        if isinstance(result, dict):
            statistics[case.id] = result
        elif result:  # its scores are complete: only what the second measurement would add is missing
            outcome.failed.append((job.name, result))
    try:
        _write(job, statistics, failed, outcome)
    except DiskError:
        raise
    except Exception as error:
        if job.config.fail_fast:
            raise
        why = f"all cases were measured, but the scores could not be computed: {explain(error)}"
        outcome.failed.append((job.name, Failure(job.name, "", why)))
    return []


def _write(job: Job, statistics: Mapping[str, Statistics], failed: list[Failure], outcome: Outcome) -> None:
    """Write the record of a VAE whose cases are all done, and report which requirements it meets."""
    suite = job.suite
    record = record_of(suite, job.candidate, job.source, job.config, job.cases, statistics, failed, job.fingerprint)
    requirements = suite.demands(job.spec, statistics)
    root = Path(job.config.results)
    with _disk(root):
        records.write(record, root, suite.per_case(statistics))
        records.write_pictures(root, record, suite.pictures(statistics))
        kept_video.write_all(root, record, suite.videos(statistics))
    outcome.met.extend((job.name, required.sentence) for required in requirements if required.met)
    unmet = [required for required in requirements if not required.met]
    outcome.failed.extend((job.name, Failure(job.name, "", required.sentence)) for required in unmet)
    outcome.records.append(record)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"{folder} cannot be written: {error.strerror or error}; finished cases stay stored") from error


def _check_writable(folder: Path) -> None:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise DiskError(f"{folder} cannot be written: choose another folder with results=DIR or runs=DIR")


def _shard(text: str) -> tuple[int, int]:
    if text == "auto":
        return rank_and_world()
    index, slash, total = text.partition("/")
    if not (slash and index.isdigit() and total.isdigit() and int(index) < int(total)):
        raise ValueError(
            f"shard={text!r} is invalid: expected i/n with i from 0 to n-1, such as shard=0/8, or shard=auto"
        )
    return int(index), int(total)


def report(outcome: Outcome, stream: Any = None) -> None:
    """Print notes, fulfilled requirements, failures, unavailable scores and unfinished VAEs, one line each.

    Args:
        stream: an open text file; default: stderr
    """
    stream = stream or sys.stderr
    for line in outcome.notes:
        print(f"note: {line}", file=stream)
    for name, sentence in outcome.met:
        print(f"{name}: {sentence}", file=stream)
    for (case, file, reason), names in _grouped(outcome.failed).items():
        where = f" ({file})" if file and file not in reason else ""
        who = "" if names == [case] else f" [{', '.join(names)}]"
        print(f"failed: {case}{where}: {reason}{who}", file=stream)
    for score, reason in _absent(outcome.records).items():
        print(f"absent: {score}: {reason}", file=stream)
    if outcome.waiting:
        print(f"waiting for other shards: {', '.join(outcome.waiting)}", file=stream)


def _grouped(failed: list[tuple[str, Failure]]) -> dict[tuple[str, str, str], list[str]]:
    """(case, file, reason) -> the VAEs with this failure."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name, failure in failed:
        groups.setdefault((failure.case, failure.file, failure.reason), []).append(name)
    return groups


def _absent(records: list[Record]) -> dict[str, str]:
    return {score: reason for record in records for score, reason in record.absent.items()}
