"""The jobs of a run: one VAE under one protocol, with its cases and the store of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from adapters import ResolvedVAE
from vaebench import plugins, protocol, records
from vaebench.config import RunConfig
from vaebench.data import list_clips
from vaebench.evaluation import explain, vae_of
from vaebench.fingerprint import code, fingerprint, versions
from vaebench.machine import cudnn_version, device_name, pick_device
from vaebench.records import Failure
from vaebench.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.data import ListedSource
    from vaebench.overlap import Work
    from vaebench.suite import Case, Statistics, Suite

PROSE = ("note", "license", "reference")  # fields of a spec that affect no score
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "av",
)  # used by every suite; others are collected from the imports of the code that a case runs


class DiskError(OSError):
    """A finished case or a record could not be written; the message names the folder."""


@dataclass(frozen=True)
class Part:
    """One protocol of a run: its settings, its suite, and the clips as it resizes them."""

    config: RunConfig
    suite: Suite[Any]
    source: ListedSource


def make_parts(config: RunConfig) -> list[list[Part]]:
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


def separation_notes(parts: list[list[Part]]) -> list[str]:
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


class Job:
    """One VAE under one protocol: its cases, its store and its failure, if it cannot be loaded."""

    def __init__(self, candidate: ResolvedVAE, part: Part) -> None:
        self.candidate = candidate
        self.suite, self.source, self.config = suite, source, config = part.suite, part.source, part.config
        self.name, self.spec = candidate.name, candidate.spec
        self.vae = vae_of(suite, candidate)
        record = records.record_path(Path(config.results), suite.name, suite.setting(source), self.vae["name"])
        earlier = records.check_replaceable(record, self.vae, source.identity)
        self.cases = list(suite.cases(source, self.spec))
        if earlier and (reason := suite.replacement_refusal(earlier, self.cases)):
            raise records.ReplaceError(f"{record} {reason}")
        network = candidate.code if suite.runs_network else []
        roots = [plugins.find("suites", config.suite), *network, plugins.find("data", config.data)]
        device = pick_device(config.device)
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
            "device": device_name(device),
            **({"cudnn": cudnn} if (cudnn := cudnn_version(device)) else {}),
            **({"flags": on} if (on := [name for name, value in suite.flags.items() if value]) else {}),
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

    def prepare(self, case: Case, frames: Tensor) -> Future[Any]:
        """The result or the error of `Suite.prepare`, which fails the case of this job alone."""
        result: Future[Any] = Future()
        try:
            result.set_result(self.suite.prepare(case, frames))
        except Exception as error:
            result.set_exception(error)
        return result

    def measure(self, subject: Any, case: Case, *, split: bool) -> Work:
        """Measure a case by calling the result, which also stores it.  A case that fails is recorded.

        Args:
            split: run the networks of the VAE now, so that the result may be called in another thread during the next case
        """
        start = perf_counter()
        self.store.forget_failure(case.id)
        try:
            finish = self.suite.start(subject, case) if split else partial(self.suite.measure, subject, case)
        except Exception as error:
            if self.config.fail_fast:
                raise
            return partial(self._fail, case, explain(error))
        return partial(self._finish, case, finish, start)

    def _finish(self, case: Case, finish: Callable[[], Statistics], start: float, previous: float) -> None:
        """Finish and store a case.  Its time is without that of the case before it, which ended at `previous`."""
        try:
            statistics = finish()
            seconds = perf_counter() - max(start, previous)
            with writing(self.store.folder):
                self.store.put(case.id, {**case.stored, **(self.store.get(case.id) or {}), **statistics})
        except DiskError:  # no other case could be stored either
            raise
        except Exception as error:
            if self.config.fail_fast:
                raise
            self._fail(case, explain(error))
            return
        with writing(self.store.folder):
            self.store.add_seconds(case.id, seconds)

    def _fail(self, case: Case, reason: str, previous: float = 0.0) -> None:
        with writing(self.store.folder):
            self.store.fail(case.id, case.clip.file if case.clip else "", reason)

    def fail(self, cases: Sequence[Case]) -> None:
        """Mark cases whose statistics are incomplete after they were measured twice as failed."""
        for case in cases:
            with writing(self.store.folder):
                self.store.fail(case.id, "", "its stored statistics are incomplete or damaged after two measurements")

    def failed(self, cases: Sequence[Case]) -> bool:
        """Whether all of these cases failed, so that the VAE has no score of them."""
        return bool(self.broken) or all(self.store.failure(case.id) for case in cases)

    def read(self, case: Case) -> Statistics | Failure | None:
        """The stored statistics of a case, or its failure; None if neither exists or the file is damaged."""
        statistics = self.store.get(case.id)
        if statistics is not None and self.suite.is_complete(case, statistics.keys()):
            return statistics
        failure = self.store.failure(case.id)
        return Failure(**failure) if failure else None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{folder} cannot be written: {error.strerror or error}; what was stored before is kept"
        ) from error
