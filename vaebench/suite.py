"""A suite is three verbs: list the cases, measure one, summarize all.

One module `vaebench/suites/<name>.py` with `build(config) -> Suite` and, if the suite has options, `Options`: a
frozen dataclass of `vaebench.settings.setting` fields, which `vaebench run --help` lists.  The runner does everything between:
resume, progress, failures, records.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from vaebench import protocol
from vaebench.options import refuse_unused

if TYPE_CHECKING:
    from types import ModuleType

    import torch
    from numpy.typing import NDArray

    from vaebench.config import RunConfig
    from vaebench.data import VideoSource
    from vaebench.records import Score
    from vaebench.vae import VAESpec, VideoVAE
    from vaebench.video import Clip

    Statistics = dict[str, NDArray]  # what is stored of one case: name -> array


@dataclass(frozen=True)
class Case:
    """One thing to measure.  `clip` is None in suites that need no video; the runner decodes it ahead of `measure`."""

    id: str  # unique in the run
    clip: Clip | None = None
    params: Mapping[str, Any] = field(default_factory=dict)  # what the suite needs to know of it, such as the dtype
    stored: Mapping[str, Any] = field(default_factory=dict)  # statistics of an earlier run with fewer metrics


class Demand(NamedTuple):
    """What the user required of a VAE (`require=`): whether it is met, and a sentence with the numbers."""

    met: bool
    sentence: str


class Candidate(Protocol):
    """A VAE to evaluate: its spec, what identifies it, and how to load it in any of its modes.

    `adapters.resolve(name)` is one, and so is the object that `vaebench.evaluate` was given.
    """

    @property
    def name(self) -> str:
        """Under which another process can load it; "" for an object in memory."""
        ...

    @property
    def spec(self) -> VAESpec: ...

    @property
    def label(self) -> str:
        """Its name in records and tables."""
        ...

    @property
    def weights(self) -> str:
        """sha256 of its weights, or "random", "none", "in memory"."""
        ...

    @property
    def config_sha256(self) -> str: ...

    @property
    def code(self) -> Sequence[ModuleType | str]:
        """The modules that the VAE is made of, for the fingerprint of cached results."""
        ...

    def load(
        self,
        mode: str = "",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        random_weights: bool = False,
    ) -> VideoVAE:
        """The VAE in `mode`; the default is its reference mode.  Raises ValueError for a mode that it does not have."""
        ...


Subject = TypeVar("Subject")  # what `open` makes of a candidate and `measure` works on


class Suite(ABC, Generic[Subject]):
    """The base class of suites: `cases`, `measure` and `summarize` are required, everything else has a default."""

    name: ClassVar[str]
    needs_weights: ClassVar[bool] = True  # False: random weights of the released size will do
    builds_source: ClassVar[bool] = (
        False  # True: it builds sources from the settings, so `evaluate` takes no source object
    )
    # settings of `RunConfig` that the suite does not use -> why, and what to set instead; a run that sets one is refused
    unused: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: RunConfig) -> None:
        refuse_unused(config, self.unused)
        self.config = config
        # everything of the suite that can change a number, besides its code: options, protocol
        self.identity: dict[str, Any] = {}
        self.absent: dict[str, str] = {}  # metrics that cannot be computed here -> why
        self.columns: list[str] = []  # metrics that a printed table shows; empty: all

    @abstractmethod
    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        """Everything to measure of a VAE, in a stable order."""

    @abstractmethod
    def measure(self, vae: Subject, case: Case) -> Statistics:
        """Everything that is worth keeping of one case; stored as soon as it exists."""

    @abstractmethod
    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        """Statistics of all cases, by case id, in the order of `cases` -> the scores.  Pure."""

    def open(self, candidate: Candidate) -> Subject:
        """What `measure` works on: by default the VAE itself, in the mode, dtype and device of the run."""
        import torch

        from vaebench.machine import pick_device

        dtype = getattr(torch, self.config.dtype or "float32")
        vae: Any = candidate.load(self.config.mode, device=pick_device(self.config.device), dtype=dtype)
        return vae

    def default_vaes(self, names: Sequence[str]) -> list[str]:
        """Those of all names that run if the user names none."""
        return list(names)

    def setting(self, source: VideoSource) -> str:
        """What two records must share to be compared, and the name of their folder: "bundle-33x256"."""
        return video_setting(self.config, source)

    def is_complete(self, case: Case, names: Collection[str]) -> bool:
        """Whether a case whose statistics of these names are stored has everything that this run needs."""
        return True

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        """Case id -> its own scalar scores, for the `.clips.csv` beside the record."""
        return {}

    def demands(self, spec: VAESpec, statistics: Mapping[str, Statistics]) -> list[Demand]:
        """What the user required of this VAE; if one is not met, the run ends with exit code 1."""
        return []

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        """Case id -> uint8 (2, n, H, W, 3): n frames of the reference and of the reconstruction, if they were kept."""
        return {}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """Curves and profiles for the plots, as plain lists and numbers."""
        return {}


def clip_cases(source: VideoSource, config: RunConfig) -> list[Case]:
    """One case per clip, or per clip of the first `config.clips`."""
    return [Case(clip.id, clip) for clip in islice(source, config.clips)]


def clip_generator(seed: int, clip: str) -> torch.Generator:
    """The generator of the posterior's draw for the clip of id `clip`: independent of the order of clips and of the shard."""
    import torch

    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {clip}".encode()))


def video_setting(config: RunConfig, source: VideoSource) -> str:
    """The setting of a suite that scores clips; every choice that differs from the default is in its name.

    A mode named by the user is one, also where it is the reference mode of some VAEs: a table of mode=whole is whole for all.
    """
    parts = [source.identity["name"], f"{config.num_frames}x{config.size}"]
    parts += [f"first{config.clips}"] if config.clips else []
    parts += [config.protocol] if config.protocol != "default" else []
    parts += [config.mode] if config.mode else []
    usual = protocol.load(config.protocol)
    parts += [config.posterior] if config.posterior not in ("", usual.posterior) else []
    parts += [f"seed{config.seed}"] if config.seed and (config.posterior or usual.posterior) == "sample" else []
    parts += [config.dtype] if config.dtype not in ("", usual.dtype) else []
    return "-".join(parts)
