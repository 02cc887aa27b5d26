"""The run loop: measure the cases of a suite that are not stored yet, for every VAE, and write the records.

This module resolves names to objects (`adapters.resolve`), shows progress, decodes clips ahead of the computation and handles
failures: a clip or a VAE that fails is listed with its reason, the others continue, and finished cases stay stored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from adapters import ResolvedVAE
from vaebench import kept_pictures, kept_video, plugins, records
from vaebench.choosing import check_distinct, choose
from vaebench.config import RunConfig, check_options
from vaebench.distributed import rank_and_world
from vaebench.evaluation import explain, record_of
from vaebench.jobs import DiskError, Job, Part, make_parts, separation_notes, writing
from vaebench.machine import known_faults, pick_device, set_flags
from vaebench.options import options_of
from vaebench.outcome import Outcome
from vaebench.overlap import Work, overlap_of
from vaebench.prefetch import Prefetch
from vaebench.progress import Progress
from vaebench.records import Failure
from vaebench.weight_files import fetch_for_run

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.suite import Case, Statistics


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
    parts, groups, outcome = prepare(config)
    index, count = _shard(config.shard)
    todo = sum(len(job.missing(job.cases[index::count])) for jobs in groups for job in jobs)
    title = f"{config.suite} shard {index}/{count}" if count > 1 else config.suite
    with Prefetch(pick_device(config.device)) as prefetch, Progress(title, todo, "cases") as progress:
        for jobs in groups:
            own = {job: job.cases[index::count] for job in jobs}
            with progress.part(jobs[0].name, partial(_all_failed, own)):
                _run_group(jobs, own, prefetch, progress, outcome)
    outcome.notes += dict.fromkeys(note for together in parts for part in together for note in part.suite.notes)
    return outcome


def _all_failed(own: Mapping[Job, Sequence[Case]]) -> bool:
    return all(job.failed(cases) for job, cases in own.items())


class Prepared(NamedTuple):
    """A run before its first measurement."""

    parts: list[list[Part]]  # its protocols; those that share reconstructions are in one list
    groups: list[list[Job]]  # of each VAE, the jobs that share reconstructions
    outcome: Outcome  # the VAEs that cannot be run, and those whose record would replace another result


def prepare(config: RunConfig) -> Prepared:
    """Find the clips, the VAEs and the stored cases of a run.  Nothing is measured and no file is written.

    Raises:
        as `run`
    """
    check_options(config, options_of(config.suite))
    parts = make_parts(config)
    flags = parts[0][0].suite.flags
    set_flags(flags["tf32"], flags["cudnn_benchmark"])
    _shard(config.shard)
    outcome = Outcome(notes=[*separation_notes(parts), *known_faults(pick_device(config.device))])
    candidates = choose(config, parts[0][0].suite, outcome)
    check_distinct(candidates)
    _check_writable(Path(config.results))
    _check_writable(Path(config.runs))
    groups = [
        [job for part in together if (job := _job(candidate, part, outcome))]
        for candidate in candidates
        for together in parts
    ]
    return Prepared(parts, [jobs for jobs in groups if jobs], outcome)


def _job(candidate: ResolvedVAE, part: Part, outcome: Outcome) -> Job | None:
    """The job of a VAE; None if its record would replace another result, which is a failure of this VAE."""
    try:
        return Job(candidate, part)
    except records.ReplaceError as error:
        if part.config.fail_fast:
            raise
        outcome.failed.append((candidate.name, Failure(candidate.name, "", str(error))))
        return None


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

    def prepare(case: Case, frames: Tensor) -> dict[Job, Future[Any]]:
        return {job: job.prepare(case, frames) for job, cases in missing.items() if case.id in cases}

    def finish(work: Work, previous: float) -> None:
        work(previous)
        progress.update()

    device = pick_device(first.config.device)
    meter = first.suite.meter(len(union))
    try:
        with meter, overlap_of(device) as overlap:
            for case in prefetch.decoded(list(union.values()), prepare):
                meter.next_case(begins=not case.shared)
                for job, cases in missing.items():
                    if case.id in cases:
                        own = _of_job(case, job, cases)
                        overlap.submit(partial(finish, job.measure(subject, own, split=overlap.splits)))
    finally:  # also after an interruption
        if meter.result:
            for job in missing:
                with writing(job.store.folder):
                    job.store.put_idle(asdict(meter.result))


def _of_job(case: Case, job: Job, cases: Mapping[str, Case]) -> Case:
    """The case of a job (`cases`, by id) for a clip from `Prefetch.decoded`."""
    own = cases[case.id]

    def following(count: int) -> list[Case]:
        return [_of_job(other, job, cases) for other in case.following(count) if other.id in cases]

    prepared = partial(_prepared, case, job)
    return replace(own, clip=case.clip, shared=case.shared, prepared=prepared, following=following)


def _prepared(case: Case, job: Job) -> Any:
    """What the suite of a job prepared for a case; without a clip, there is nothing."""
    results = case.prepared()
    return results[job].result() if results else None


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
    record = record_of(
        suite, job.candidate, job.source, job.config, job.cases, statistics, failed, job.fingerprint, job.store.idle()
    )
    requirements = suite.demands(job.spec, statistics)
    root = Path(job.config.results)
    with writing(root):
        records.write(record, root, suite.per_case(statistics))
        kept_pictures.write_all(root, record, suite.pictures(statistics))
        kept_video.write_all(root, record, suite.videos(statistics))
    outcome.met.extend((job.name, required.sentence) for required in requirements if required.met)
    unmet = [required for required in requirements if not required.met]
    outcome.failed.extend((job.name, Failure(job.name, "", required.sentence)) for required in unmet)
    outcome.records.append(record)


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
