"""The base class of suites: list the cases, measure each case, summarize all statistics.

A suite is a module `vaebench/suites/<name>.py` with `build(config) -> Suite`.  If it has options, it also defines `Options`: a
frozen dataclass of `vaebench.settings.setting` fields, which `vaebench run --help` lists.  A module whose runs
can have several records per VAE defines `runs(config) -> list[RunConfig]`, one for each record.  The runner handles resuming,
progress, failures and records.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from vaebench import protocol
from vaebench.options import refuse_unused

if TYPE_CHECKING:
    from types import ModuleType

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.config import RunConfig
    from vaebench.data import VideoSource
    from vaebench.device_idle import IdleMeter
    from vaebench.kept_video import Pair
    from vaebench.records import Record, Score
    from vaebench.vae import VAESpec, VideoVAE
    from vaebench.video import Clip

    Statistics = dict[str, NDArray]  # the stored arrays of one case, by name


@dataclass(frozen=True)
class Case:
    """One unit of work.  `clip` is None in suites without video; the runner decodes it before `measure` calls `clip.load()`."""

    id: str  # unique in the run
    clip: Clip | None = None
    params: Mapping[str, Any] = field(default_factory=dict)  # parameters of the measurement, such as the dtype
    stored: Mapping[str, Any] = field(default_factory=dict)  # statistics of an earlier run with fewer metrics
    # results of other protocols or of a batch for the same clip and VAE, by names of the suite; see `Suite.shares`
    shared: dict[str, Any] = field(default_factory=dict)
    streamed: bool = (
        False  # `measure` reads `clip.stream`, if there is one: frames are decoded during it, a few ahead of it
    )
    prepared: Callable[[], Any] = lambda: None  # the result of `Suite.prepare`, or raises its error
    # n -> the next n cases, decoded, fewer at the end: what `measure` puts into their `shared`, it finds there later
    following: Callable[[int], list[Case]] = lambda count: []


class Demand(NamedTuple):
    """A requirement of the user (`require=`): whether the VAE meets it, and a sentence with the numbers."""

    met: bool
    sentence: str


class Candidate(Protocol):
    """A VAE to evaluate: its spec, its identity, and a function that loads it in any of its modes.

    `adapters.resolve(name)` returns one; `vaebench.evaluate` makes one from an object.
    """

    @property
    def name(self) -> str:
        """The name by which another process can load it; "" for an object in memory."""
        ...

    @property
    def spec(self) -> VAESpec: ...

    @property
    def label(self) -> str:
        """The name in records and tables."""
        ...

    @property
    def weights(self) -> str:
        """sha256 of the weights, or "random", "none", "in memory"."""
        ...

    @property
    def config_sha256(self) -> str: ...

    @property
    def code(self) -> Sequence[ModuleType | str]:
        """The modules that implement the VAE, for the fingerprint of cached results."""
        ...

    def load(
        self,
        mode: str = "",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        random_weights: bool = False,
    ) -> VideoVAE:
        """Load the VAE.

        Args:
            mode: one of `spec.modes`; "" for the reference mode
            dtype: None for the default of the VAE
            random_weights: use random weights of the released size

        Raises:
            ValueError: the VAE does not have this mode
        """
        ...


Subject = TypeVar("Subject")  # return value of `open`, argument of `measure`


class Suite(ABC, Generic[Subject]):
    """The base class of suites: `cases`, `measure` and `summarize` are required, everything else has a default."""

    name: ClassVar[str]
    needs_weights: ClassVar[bool] = True  # False: random weights of the released size suffice
    runs_network: ClassVar[bool] = True  # False: the spec suffices, and the record states "none" for `weights`
    builds_source: ClassVar[bool] = (
        False  # True: the suite builds data sources from the settings, so `evaluate` accepts no source object
    )
    codecs: ClassVar[bool] = False  # True: the suite also measures video codecs (`spec.codec`)
    # True: the idle share of the GPU is measured over some cases; False for suites that run processes.  A suite whose cases are
    # timed or long has a `meter` of its own (`device_idle.StepMeter`).
    measures_idle: ClassVar[bool] = False
    measures_speed: ClassVar[bool] = False  # True: tf32 and cudnn_benchmark are on by default on a GPU
    # settings of `RunConfig` that the suite does not use -> reason and alternative; a run that sets one is an error
    unused: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: RunConfig) -> None:
        from vaebench.machine import gpu_flags, pick_device

        refuse_unused(config, self.unused)
        self.flags = gpu_flags(config.tf32, config.cudnn_benchmark, pick_device(config.device), self.measures_speed)
        self.config = config
        # settings that can change a number; a suite that knows better which ones replaces it
        names = ("num_frames", "size", "clips", "mode", "dtype", "posterior", "protocol", "seed")
        self.identity: dict[str, Any] = {name: getattr(config, name) for name in names}
        self.identity["options"] = dict(config.options)
        # what a reconstruction depends on, by name; with `protocol=A,B`, the runner measures suites with equal values
        # together: the VAE is loaded once, and `Case.shared` of a clip is the same dictionary.  Empty: never together.
        self.shares: dict[str, Any] = {}
        self.absent: dict[str, str] = {}  # unavailable metric -> reason
        # lines for the user at the end of the run, such as of a setting that was not followed
        self.notes: list[str] = []
        self.columns: list[str] = []  # metrics in printed tables; empty: all
        self.digests: dict[str, str] = {}  # metric -> digits of the hash of its code (`scoring.metric_code`)

    @abstractmethod
    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        """All cases of a VAE, in a stable order."""

    @abstractmethod
    def measure(self, vae: Subject, case: Case) -> Statistics:
        """Measure one case and return the arrays to store."""

    def start(self, vae: Subject, case: Case) -> Callable[[], Statistics]:
        """Run the networks of the VAE, and return the rest of `measure`, which may run in another thread during the next case.

        The rest may use neither the VAE nor tensors that the VAE may overwrite in its next call, and holds the tensors that it
        reads until it ends.  By default all of `measure` runs at once.
        """
        statistics = self.measure(vae, case)
        return lambda: statistics

    def prepare(self, case: Case, frames: Tensor) -> Any:
        """What `measure` needs of a decoded clip and is computed without the device, in a decoding thread.

        `Case.prepared()` returns it, or raises its error.  By default there is nothing to prepare.

        Args:
            frames: the result of `case.clip.load()`
        """
        return None

    @abstractmethod
    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        """Compute the scores from the statistics of all cases.

        Args:
            statistics: case id -> statistics, in the order of `cases`

        Returns:
            `Score.key` -> score; the result depends on the arguments only
        """

    def open(self, candidate: Candidate) -> Subject:
        """Load what `measure` needs: by default the VAE in the mode, dtype and device of the run."""
        import torch

        from vaebench.machine import pick_device

        dtype = getattr(torch, self.config.dtype or "float32")
        vae: Any = candidate.load(self.config.mode, device=pick_device(self.config.device), dtype=dtype)
        return vae

    def meter(self, total: int) -> IdleMeter:
        """A meter of the idle share of the device for `total` cases; it measures nothing on a CPU or without `measures_idle`."""
        from vaebench.device_idle import IdleMeter, profiler_of
        from vaebench.machine import pick_device

        return IdleMeter(profiler_of(pick_device(self.config.device) if self.measures_idle else None), total)

    def refusal(self, spec: VAESpec) -> str:
        """The reason why the suite cannot measure a VAE; "" (the default) if it can."""
        if spec.codec and not self.codecs:
            return f"a video codec has no latents or network for the {self.name} suite: use --suite reconstruction"
        return ""

    def default_vaes(self, names: Sequence[str]) -> list[str]:
        """The VAEs among `names` that run if `vaes` is not set."""
        return list(names)

    def setting(self, source: VideoSource) -> str:
        """The name of the record's folder, such as "bundle-33x256"; records are comparable only if it is equal."""
        return video_setting(self.config, source)

    def replacement_refusal(self, record: Record, cases: Sequence[Case]) -> str:
        """The reason why a record of `cases` may not replace `record`, with the remedy; "" (the default) if it may.

        Args:
            record: an earlier record of the same VAE, data and setting
        """
        return ""

    def is_complete(self, case: Case, names: Collection[str]) -> bool:
        """Whether statistics with these names are all that this run needs of a case."""
        return True

    def revisit(self, cases: Sequence[Case], statistics: Mapping[str, Statistics]) -> list[Case]:
        """Cases to measure once more after all cases are measured, such as to save the frames of the worst ones."""
        return []

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        """Case id -> scalar scores of this case, for the `.clips.csv` file of the record."""
        return {}

    def demands(self, spec: VAESpec, statistics: Mapping[str, Statistics]) -> list[Demand]:
        """The requirements of the user for this VAE; if one is not met, the exit code is 1."""
        return []

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        """Case id -> its saved frames, uint8 (rows, n, H, W, 3); usually n frames of the reference and of the reconstruction."""
        return {}

    def videos(self, statistics: Mapping[str, Statistics]) -> dict[str, Pair]:
        """Case id -> all frames of the reference and of the reconstruction, if videos are saved."""
        return {}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """Curves and profiles for figures, as lists and numbers."""
        return {}


def clip_cases(source: VideoSource, config: RunConfig) -> list[Case]:
    """One case for each of the first `config.clips` clips, or for all clips."""
    return [Case(clip.id, clip) for clip in islice(source, config.clips)]


def clip_generator(seed: int, clip: str) -> torch.Generator:
    """The generator of the posterior's draw for the clip of id `clip`: independent of the order of clips and of the shard."""
    import torch

    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {clip}".encode()))


def video_setting(config: RunConfig, source: VideoSource) -> str:
    """The setting of a suite that scores clips; its name has every choice that differs from the default.

    An explicit mode is always in the name, even if it is the reference mode of some VAEs: a table of mode=whole then has whole
    inference in every row.
    """
    parts = [source.identity["name"], f"{config.num_frames}x{config.size}"]
    parts += [f"first{config.clips}"] if config.clips else []
    parts += [config.protocol] if config.protocol != "default" else []
    parts += [config.mode] if config.mode else []
    defaults = protocol.load(config.protocol)
    parts += [config.posterior] if config.posterior not in ("", defaults.posterior) else []
    parts += [f"seed{config.seed}"] if config.seed and (config.posterior or defaults.posterior) == "sample" else []
    parts += [config.dtype] if config.dtype not in ("", defaults.dtype) else []
    parts += [name for name in ("tf32", "cudnn_benchmark") if getattr(config, name)]
    return "-".join(parts)
