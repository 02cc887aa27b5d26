"""The loop: every case of a suite, for every VAE, that is not in the store yet; then the records.

Around that one `if` stand the progress bar, decoding ahead of compute, and the failure policy: a clip or a model that fails
is listed with its reason, the rest goes on, nothing that was finished is lost.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

import adapters
from vaebench import plugins, records
from vaebench.config import OUTPUT, RunConfig, as_dict, check_options
from vaebench.machine import describe, device_name, pick_device, rank_and_world, versions, without_tf32
from vaebench.plugins import did_you_mean
from vaebench.records import Failure, Record
from vaebench.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.data import VideoSource
    from vaebench.suite import Case, Statistics, Suite
    from vaebench.vae import VAESpec
    from vaebench.video import Clip

PROSE = ("note", "license", "reference")  # of a spec: they change no number
AHEAD = 4  # cases decoded ahead of the device
DECODED_BYTES = 1 << 29  # decoded clips kept for the next VAE: 80 clips of 33x256x256


@dataclass
class Outcome:
    """The result of a run: its records, demands that were met, failures, and VAEs that could not be run."""

    records: list[Record] = field(default_factory=list)
    met: list[tuple[str, str]] = field(default_factory=list)  # VAE, and what was required of it and holds
    failed: list[tuple[str, Failure]] = field(default_factory=list)  # with the VAE that it befell
    not_ready: dict[str, str] = field(default_factory=dict)  # VAE -> how to get its weights
    waiting: list[str] = field(default_factory=list)  # VAEs whose other shards have not finished


class DiskError(OSError):
    """A finished case or a record could not be written; the message names the folder."""


def run(config: RunConfig) -> Outcome:
    """Run a suite as `config` says and write its records.

    ValueError or OSError, one line for the user, where nothing can be run at all: an unknown name, no clips, a folder
    that cannot be read or written.  What fails of single clips and models is in the outcome instead.
    """
    without_tf32()
    module = plugins.find("suites", config.suite)
    check_options(config, module.Options)
    source = _Listed.of(plugins.find("data", config.data).build(config), config.data)
    if config.clips is not None and config.clips >= len(source.clips):
        config = replace(config, clips=None)  # all of them: the record is the full one, and says so
    suite: Suite = module.build(config)
    shard = _shard(config.shard)
    outcome = Outcome()
    chosen = _choose(config, suite, outcome)
    _refuse_namesakes(chosen, config)
    _check_writable(Path(config.results))
    _check_writable(Path(config.runs))
    jobs = [_Job(name, suite, source, config) for name in chosen]
    ahead = _Ahead()
    mine = [(job, case) for job in jobs for case in job.cases[shard[0] :: shard[1]]]
    todo = sum(case.id not in job.store for job, case in mine)
    with ahead, tqdm(total=todo, desc=config.suite, unit="case", disable=None if todo else True) as bar:
        for job in jobs:
            bar.set_postfix_str(job.name)
            own = job.cases[shard[0] :: shard[1]]
            job.measure(own, ahead, bar, outcome)
            while damaged := _conclude(job, own, outcome):
                job.measure(damaged, ahead, bar, outcome)
    return outcome


def _choose(config: RunConfig, suite: Suite, outcome: Outcome) -> list[str]:
    """The VAEs to run.  Unknown names are the user's mistake; those without weights are left out and said."""
    if config.vaes is not None and not config.vaes:
        raise ValueError("vaes=[] names no VAE; leave it out to run all that are ready")
    asked = config.vaes if config.vaes is not None else suite.default_vaes(adapters.names())
    modes = {mode for name in asked for mode in adapters.find(name).modes}
    if config.mode and config.mode not in modes:
        raise ValueError(
            f"no mode {config.mode!r}{did_you_mean(config.mode, sorted(modes))} (there are: {', '.join(sorted(modes))})"
        )
    chosen = []
    for name in dict.fromkeys(asked):
        how = adapters.available(name, config.weights) if suite.needs_weights else ""
        if how:
            outcome.not_ready[name] = how
        elif config.mode and config.mode not in (own := adapters.find(name).modes):
            outcome.not_ready[name] = f"has no mode {config.mode!r} (it has: {', '.join(own)})"
        else:
            chosen.append(name)
    return chosen


def _refuse_namesakes(names: list[str], config: RunConfig) -> None:
    """ValueError for one checkpoint that is named twice: both rows would be the same record."""
    called: dict[str, str] = {}
    for name in names:
        label = adapters.label(name, config.weights)
        if label in called:
            raise ValueError(f"{called[label]} and {name} are the same checkpoint, {label}: name it once")
        called[label] = name


@dataclass
class _Listed:
    """A source whose clips were listed once, for all VAEs."""

    identity: dict[str, str]
    clips: list[Clip]

    @classmethod
    def of(cls, source: VideoSource, name: str) -> _Listed:
        """ValueError for a source without clips, and for clips that share an id, by which their results are kept."""
        clips = list(source)
        if not clips:
            raise ValueError(f"data={name} has no clip there; `vaebench list data` says what each source reads")
        twice, times = Counter(clip.id for clip in clips).most_common(1)[0]
        if times > 1:
            raise ValueError(f"data={name}: {times} clips are called {twice!r}; give each a name of its own")
        return cls(source.identity, clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)


class _Job:
    """One VAE in one run: its cases, its store, and what went wrong."""

    def __init__(self, name: str, suite: Suite, source: VideoSource, config: RunConfig) -> None:
        self.name, self.suite, self.source, self.config = name, suite, source, config
        self.spec: VAESpec = adapters.find(name)
        self.weights = adapters.weights_digest(name, config.weights) if suite.needs_weights else "random"
        config_sha256 = adapters.config_digest(name, config.weights) if suite.needs_weights else ""
        self.vae = {
            **asdict(self.spec),
            "name": adapters.label(name, config.weights),
            "weights": self.weights,
            "config_sha256": config_sha256,
            "mode": suite.identity.get("mode") or self.spec.reference_mode,
        }
        self.setting = suite.setting(source)
        record = records.record_path(Path(config.results), suite.name, self.setting, self.vae["name"])
        records.check_replaceable(record, self.vae, source.identity)
        self.cases = list(suite.cases(source, self.spec))
        facts = {
            "suite": [suite.name, suite.version, suite.identity],
            "vae": [
                {key: value for key, value in asdict(self.spec).items() if key not in PROSE},
                self.weights,
                config_sha256,
            ],
            "data": [source.identity, [clip.stamp for clip in source]],
            "code": code_digest(self.spec.family),
            "torch": [torch.__version__, *versions().values()],
            "device": device_name(pick_device(config.device)),
        }
        self.fingerprint = records.fingerprint(facts)
        self.store = Store(Path(config.runs) / self.fingerprint)
        self.broken = ""  # why the VAE itself could not be loaded

    def measure(self, cases: list[Case], ahead: _Ahead, bar: tqdm, outcome: Outcome) -> None:
        """Measure those of `cases` that are not in the store; a failure is noted and the next case follows."""
        missing = [case for case in cases if case.id not in self.store]
        if not missing:
            return
        try:
            vae = self.suite.open(self.name)
        except Exception as error:
            if self.config.fail_fast:
                raise
            self.broken = explain(error)
            outcome.failed.append((self.name, Failure(self.name, "", self.broken)))
            bar.update(len(missing))
            return
        for case in ahead.decoded(missing):
            self.store.forget_failure(case.id)
            try:
                statistics = self.suite.measure(vae, case)
            except Exception as error:
                if self.config.fail_fast:
                    raise
                file = case.clip.file if case.clip else ""
                with _disk(self.store.folder):
                    self.store.fail(case.id, file, explain(error))
            else:
                with _disk(self.store.folder):
                    self.store.put(case.id, statistics)
            bar.update()


def _conclude(job: _Job, own: list[Case], outcome: Outcome) -> list[Case]:
    """Summarize and write the record once every case, of all shards, is measured or known to have failed.

    Returns those of this process's `own` cases whose files turn out to be damaged: they are to be measured again.
    """
    if job.broken:
        return []
    kept: dict[str, Statistics] = {}
    failed: list[Failure] = []
    missing: set[str] = set()
    for case in job.cases:
        statistics = job.store.get(case.id)
        if statistics is not None:
            kept[case.id] = statistics
        elif said := job.store.failure(case.id):
            failed.append(Failure(**said))
        else:
            missing.add(case.id)
    if missing:
        damaged = [case for case in own if case.id in missing]
        if not damaged:
            outcome.waiting.append(job.name)
        return damaged
    outcome.failed.extend((job.name, failure) for failure in failed)
    if kept:
        try:
            _write(job, kept, failed, outcome)
        except DiskError:
            raise
        except Exception as error:
            if job.config.fail_fast:
                raise
            why = f"measured, but its scores cannot be summed up: {explain(error)}"
            outcome.failed.append((job.name, Failure(job.name, "", why)))
    return []


def _write(job: _Job, kept: Mapping[str, Statistics], failed: list[Failure], outcome: Outcome) -> None:
    """Write the record of a VAE whose cases are all done, and note which demands it meets."""
    record = _record(job, kept, failed)
    demands = job.suite.demands(job.spec, kept)
    root = Path(job.config.results)
    with _disk(root):
        records.write(record, root, job.suite.per_case(kept))
        records.write_pictures(root, record, job.suite.pictures(kept))
    outcome.met.extend((job.name, demand.said) for demand in demands if demand.met)
    outcome.failed.extend((job.name, Failure(job.name, "", demand.said)) for demand in demands if not demand.met)
    outcome.records.append(record)


def _record(job: _Job, kept: Mapping[str, Statistics], failed: list[Failure]) -> Record:
    config = job.config
    asked = {key: value for key, value in as_dict(config).items() if key not in OUTPUT}
    machine = asdict(describe(pick_device(config.device)))
    # a suite that sets the flags itself, in processes of its own, says which
    machine["flags"] |= {key: value for key, value in job.suite.identity.items() if key in machine["flags"]}
    fitted = {"padded_to": f"{job.spec.fit(config.num_frames)} frames, size a multiple of {job.spec.size_multiple}"}
    return Record(
        suite=job.suite.name,
        suite_version=job.suite.version,
        vae=job.vae,
        data={**job.source.identity, **(fitted if any(case.clip for case in job.cases) else {})},
        # whichever process wrote it, whoever runs it again takes all of the cases
        config={**asked, "vaes": [job.name], "shard": "auto"},
        setting=job.setting,
        scores=job.suite.summarize(kept),
        absent=dict(job.suite.absent),
        failed=failed,
        machine=machine,
        fingerprint=job.fingerprint,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        extra=job.suite.extra(kept),
    )


class _Ahead:
    """Decodes the next clips in threads while the device computes, and keeps them for the next VAE while they fit.

    Threads, not processes: decoders and resizing release the interpreter's lock, and nothing has to be copied or forked.
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(
            max_workers=min(AHEAD, os.cpu_count() or 1),
            thread_name_prefix="decode",
            # OpenMP gives every thread a team of its own: more than one each, they spin beside the model and slow it by a fifth
            initializer=torch.set_num_threads,
            initargs=(1,),
        )
        self.threads = torch.get_num_threads()
        self.kept: dict[str, Tensor] = {}
        self.kept_bytes = 0

    def __enter__(self) -> _Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        torch.set_num_threads(self.threads)  # what threads born from now on begin with

    def decoded(self, cases: list[Case]) -> Iterator[Case]:
        """The cases in order, each with a clip whose `load()` is already under way, or has already failed."""
        waiting: list[tuple[Case, Future[Tensor] | None]] = []
        upcoming: Iterable[Case] = iter(cases)
        while True:
            while len(waiting) < AHEAD and (case := next(upcoming, None)):  # type: ignore[call-overload]
                waiting.append((case, self.pool.submit(self._load, case) if case.clip else None))
            if not waiting:
                return
            case, frames = waiting.pop(0)
            clip = replace(case.clip, load=frames.result) if frames and case.clip else case.clip
            yield replace(case, clip=clip)

    def _load(self, case: Case) -> Tensor:
        assert case.clip is not None
        if case.clip.id in self.kept:
            return self.kept[case.clip.id]
        frames = case.clip.load()
        if self.kept_bytes + frames.nbytes <= DECODED_BYTES:
            self.kept[case.clip.id] = frames
            self.kept_bytes += frames.nbytes
        return frames


def explain(error: Exception) -> str:
    """One line for the record and the user, with the remedy where one is known."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return "out of memory: try a block-wise mode (mode=tiled, native or streamed), dtype=bfloat16 or a smaller size"
    text = " ".join(str(error).split()) or repr(error)
    ours = isinstance(error, ValueError | OSError)
    return text if ours else f"{type(error).__name__}: {text} (fail_fast=true shows where)"


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


def code_digest(family: str) -> str:
    """sha256 of the source that a number comes from: ours, and the module of a VAE from somebody else's package.

    An edit anywhere there starts a new store; nothing that an older version measured is taken for this one's.
    """
    here = Path(__file__).parent
    files = [
        here / name
        for name in ("vae.py", "video.py", "protocol.py", "machine.py", "scoring.py", "suite.py", "metric.py")
    ]
    for folder in (
        *(here / name for name in ("suites", "metrics", "data", "features", "generation", "profiling", "video_io")),
        here.parent / "adapters",
        here.parent / "wfvae",
    ):
        files += sorted(folder.rglob("*.py"))
    files.append(Path(str(plugins.find("adapters", family).__file__)))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


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
