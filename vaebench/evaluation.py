"""Evaluate a VAE object with any suite on any data, without writing files.  `vaebench.runner` does the same by name.

import vaebench

record = vaebench.evaluate(vae, suite="reconstruction", data="folder", root="clips")
print(record.scores["psnr"].value)
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import torch

from vaebench import plugins
from vaebench.config import OUTPUT, RunConfig, as_dict, complete
from vaebench.data import list_clips
from vaebench.machine import describe, flags_set, pick_device
from vaebench.overlap import overlap_of
from vaebench.prefetch import Prefetch
from vaebench.records import Failure, Record
from vaebench.vae import VAESpec, VideoVAE, networks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.kept_video import Pair
    from vaebench.suite import Candidate, Case, Statistics, Suite

VAEFactory = Callable[[str], VideoVAE]  # mode -> the VAE in that mode


@dataclass(frozen=True)
class InMemory:
    """A candidate for a suite, made from a VAE object or from a factory `make(mode)`."""

    spec: VAESpec
    make: VAEFactory
    vae: VideoVAE
    name: str = ""
    config_sha256: str = ""

    @classmethod
    def of(cls, vae: VideoVAE | VAEFactory) -> InMemory:
        """Make a candidate.

        Args:
            vae: an object, evaluated in its only mode; or a factory, which has all modes of its spec

        Raises:
            TypeError: `vae` has no `spec`, `encode` and `decode` and cannot be called
        """
        if not isinstance(vae, type) and all(hasattr(vae, name) for name in ("spec", "encode", "decode")):
            vae = cast(VideoVAE, vae)
            spec = replace(vae.spec, modes=("whole",), reference_mode="whole", lossless_modes=())
            return cls(spec, lambda mode: vae, vae)
        if not callable(vae) or isinstance(vae, torch.nn.Module):
            raise TypeError(
                f"{type(vae).__name__} is not a VAE: expected spec (a vaebench.VAESpec), encode(video) -> vaebench.Posterior "
                "and decode(latent) -> video"
            )
        first = vae("")
        return cls(first.spec, vae, first)

    @property
    def label(self) -> str:
        return self.spec.name

    @cached_property
    def weights(self) -> str:
        """sha256 of all parameters and buffers; a unique name if the object has none."""
        modules = networks(self.vae)
        if not modules:
            return f"in memory {uuid4().hex[:8]}"
        total = hashlib.sha256()
        for key, value in ((key, value) for part in modules for key, value in part.state_dict().items()):
            if not isinstance(value, torch.Tensor):  # the extra state of a module
                total.update(f"{key} {value!r}".encode())
                continue
            total.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
            total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()

    @property
    def code(self) -> list[str]:
        return [type(self.vae).__module__]

    def load(
        self,
        mode: str = "",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        random_weights: bool = False,
    ) -> VideoVAE:
        """The object itself, on its own device and in its own dtype."""
        if mode and mode not in self.spec.modes:
            raise ValueError(f"{self.spec.name} has no mode {mode!r} (available: {', '.join(self.spec.modes)})")
        return self.make(mode or self.spec.reference_mode)


@dataclass
class Evaluation:
    """The record of one VAE, with the scores and pictures of single clips."""

    record: Record
    clips: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # clip id -> its scores
    pictures: Mapping[str, NDArray] = field(default_factory=dict)  # clip id -> uint8 (rows, n, H, W, 3)
    videos: Mapping[str, Pair] = field(default_factory=dict)  # clip id -> all frames, as `keep_video` asks


class NothingMeasured(ValueError):
    """No case could be measured; the message has the reason of the first failure."""

    def __init__(self, failed: Sequence[Failure]) -> None:
        super().__init__(f"no case could be measured: {failed[0].reason if failed else 'the suite lists no cases'}")
        self.failed = failed


def evaluate(
    vae: VideoVAE | VAEFactory,
    suite: str = "reconstruction",
    data: str | VideoSource = "bundle",
    **given: Any,
) -> Record:
    """Run a suite on a VAE object and return its record.  No file is written.

    Args:
        vae: an object that meets the contract of `vaebench.vae` (`spec`, `encode`, `decode`), evaluated on its own device and
            in its own dtype; or a function `make(mode)` that returns one, for suites that compare modes
        suite: name in `vaebench list suites`
        data: name in `vaebench list data`, or a `vaebench.data.VideoSource`
        given: settings of `vaebench run` and options of the suite, such as `num_frames=17, metrics=["psnr"]`

    Returns:
        the record, with a score for each metric; clips that failed are in `record.failed`

    Raises:
        TypeError: `vae` does not meet the contract
        ValueError: a name or setting is unknown, or no clip could be measured (with the reason of the first failure)
    """
    return evaluation(vae, suite, data, **given).record


def evaluation(
    vae: VideoVAE | VAEFactory,
    suite: str = "reconstruction",
    data: str | VideoSource = "bundle",
    **given: Any,
) -> Evaluation:
    """As `evaluate`, but also return the scores of each clip and the saved frames."""
    candidate = InMemory.of(vae)
    config = _config(suite, data, given)
    if config.dtype:
        raise ValueError(f"dtype={config.dtype}: a VAE object keeps its own dtype; convert the object before the call")
    parts = networks(vae) or networks(candidate.load())
    parameter = next((p for part in parts for p in part.parameters()), None)
    if "dtypes" in given and parameter is not None:
        raise ValueError("dtypes: a VAE object keeps its own dtype; evaluate an object in each dtype")
    if parameter is not None:
        device = str(parameter.device) if config.device == "auto" else config.device
        name = str(parameter.dtype).removeprefix("torch.")
        dtype: Any = name if name in ("float32", "bfloat16", "float16") else ""
        config = replace(config, device=device, dtype=dtype)
    built: Suite[Any] = plugins.find("suites", suite).build(config)
    if built.builds_source and not isinstance(data, str):
        raise ValueError(
            f"the {suite} suite builds its own source of longer clips; give data by name, such as data='folder', root=DIR"
        )
    source = list_clips(plugins.find("data", config.data).build(config) if isinstance(data, str) else data, config.data)
    modules = [module for part in parts for module in part.modules()]
    training = [module.training for module in modules]
    try:
        for part in parts:
            part.eval()  # dropout and batch statistics of training are not part of the VAE
        return run(built, candidate, source)
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode


def run(suite: Suite[Any], candidate: Candidate, source: VideoSource) -> Evaluation:
    """Measure every case of a suite on one VAE, in this process.

    Raises:
        NothingMeasured: no case could be measured
    """
    # a training that validates keeps its own choice of flags
    with flags_set(suite.flags["tf32"], suite.flags["cudnn_benchmark"]):
        return _run(suite, candidate, source)


def _run(suite: Suite[Any], candidate: Candidate, source: VideoSource) -> Evaluation:
    if refusal := suite.refusal(candidate.spec):
        raise ValueError(f"{candidate.label}: {refusal}")
    cases = list(suite.cases(source, candidate.spec))
    subject = suite.open(candidate)
    statistics: dict[str, Statistics] = {}
    failed: list[Failure] = []
    first: Exception | None = None

    def start(case: Case) -> Callable[[], Statistics]:
        try:
            return suite.start(subject, case) if overlap.splits else partial(suite.measure, subject, case)
        except Exception as error:
            if suite.config.fail_fast:
                raise
            return partial(_raise, error)

    def finish(case: Case, work: Callable[[], Statistics], _: float) -> None:
        nonlocal first
        try:
            statistics[case.id] = work()
        except Exception as error:
            if suite.config.fail_fast:
                raise
            first = first or error
            failed.append(Failure(case.id, case.clip.file if case.clip else "", explain(error)))

    device = pick_device(suite.config.device)
    with Prefetch(device) as prefetch, suite.meter(len(cases)) as meter, overlap_of(device) as overlap:
        for case in prefetch.decoded(cases, suite.prepare):
            meter.next_case(begins=not case.shared)
            overlap.submit(partial(finish, case, start(case)))
    for case in suite.revisit(cases, statistics):
        statistics[case.id] = {**statistics[case.id], **suite.measure(subject, case)}
    if not statistics:
        raise NothingMeasured(failed) from first
    for note in suite.notes:
        warnings.warn(note, stacklevel=2)
    idle = asdict(meter.result) if meter.result else None
    record = record_of(suite, candidate, source, suite.config, cases, statistics, failed, idle=idle)
    return Evaluation(record, suite.per_case(statistics), suite.pictures(statistics), suite.videos(statistics))


def _raise(error: Exception) -> Statistics:
    raise error


def _config(suite: str, data: str | VideoSource, given: Mapping[str, Any]) -> RunConfig:
    """The settings of a run, validated like those of the command line."""
    name = data if isinstance(data, str) else str(data.identity.get("name", "clips"))
    known = {setting.name for setting in fields(RunConfig)} - {"suite", "data", "options"}
    if unsupported := known & {"vaes", "weights", "shard", "results", "runs", "fetch", "published"} & given.keys():
        raise ValueError(
            f"{', '.join(sorted(unsupported))}: only `vaebench run` has these settings; remove them from evaluate()"
        )
    run = {key: value for key, value in given.items() if key in known}
    options = {key: value for key, value in given.items() if key not in known}
    return complete({**run, "suite": suite, "data": name, "options": options})


def record_of(
    suite: Suite[Any],
    candidate: Candidate,
    source: VideoSource,
    config: RunConfig,
    cases: list[Case],
    statistics: Mapping[str, Statistics],
    failed: list[Failure],
    fingerprint: str = "",
    idle: Mapping[str, float] | None = None,
) -> Record:
    """Build the record of one VAE from the statistics and failures of its cases, and the idle share of the device, if measured."""
    spec = candidate.spec
    settings = {key: value for key, value in as_dict(config).items() if key not in OUTPUT}
    machine = asdict(describe(pick_device(config.device)))
    # a suite that sets these flags in subprocesses lists them in its identity
    machine["flags"] |= {key: value for key, value in suite.identity.items() if key in machine["flags"]}
    machine |= {"device_idle": dict(idle)} if idle else {}
    padded = {"padded_to": f"{spec.fit(config.num_frames)} frames, size a multiple of {spec.size_multiple}"}
    return Record(
        suite=suite.name,
        vae=vae_of(suite, candidate),
        data={**source.identity, **(padded if any(case.clip for case in cases) else {})},
        # one process writes the record of all shards; running it again covers all cases
        config={**settings, "vaes": [candidate.name] if candidate.name else None, "shard": "auto"},
        setting=suite.setting(source),
        scores=suite.summarize(statistics),
        absent=dict(suite.absent),
        failed=failed,
        machine=machine,
        fingerprint=fingerprint,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        extra=suite.extra(statistics),
        columns=list(suite.columns),
        digests=dict(suite.digests),
    )


def vae_of(suite: Suite[Any], candidate: Candidate) -> dict[str, Any]:
    """The `vae` field of a record: the spec, the digests of weights and config, and the mode."""
    without = "random" if suite.runs_network else "none"
    without_latent = dict.fromkeys(("temporal_compression", "spatial_compression", "latent_channels"))
    return {
        **asdict(candidate.spec),
        **(without_latent if candidate.spec.codec else {}),
        "name": candidate.label,
        "weights": candidate.weights if suite.needs_weights else without,
        "config_sha256": candidate.config_sha256 if suite.needs_weights else "",
        "mode": suite.identity.get("mode") or (candidate.spec.reference_mode if suite.runs_network else ""),
    }


def explain(error: Exception) -> str:
    """One line that describes `error` for the record and the user, with the remedy if one is known."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return "out of memory: try a block-wise mode (mode=tiled, native or streamed), dtype=bfloat16 or a smaller size"
    text = " ".join(str(error).split()) or repr(error)
    expected = isinstance(error, ValueError | OSError)
    return text if expected else f"{type(error).__name__}: {text} (fail_fast=true shows where)"
