"""A suite is three verbs: list the cases, measure one, summarize all.

One module `vaebench/suites/<name>.py` with `Options` (a frozen dataclass, a sentence per field, settable on the command
line) and `build(config) -> Suite`.  The runner owns everything between: resume, progress, failures, records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vaebench import protocol

if TYPE_CHECKING:
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

    id: str
    clip: Clip | None = None


class Demand(NamedTuple):
    """What the user required of a VAE (`require=`): whether it is met, and a sentence with the numbers."""

    met: bool
    said: str


class Suite(Protocol):
    name: str
    version: int  # raised when a number would change
    needs_weights: bool  # False: cost does not depend on weight values, so random ones of the released size will do
    identity: Mapping[str, Any]  # everything of the suite that can change a number: options, metric versions
    absent: Mapping[str, str]  # scores that cannot be computed here, and why

    def default_vaes(self, names: Sequence[str]) -> list[str]:
        """Those of all names that run when the user names none."""
        ...

    def setting(self, source: VideoSource) -> str:
        """What two records must share to be compared, and the name of their folder: "bundle-33x256"."""
        ...

    def open(self, name: str) -> VideoVAE:
        """The VAE called `name`, loaded as this suite runs it."""
        ...

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]: ...

    def measure(self, vae: VideoVAE, case: Case) -> Statistics:
        """Everything that is worth keeping of one case; stored as soon as it exists."""
        ...

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        """All cases, by id, in the order of `cases` -> the scores.  Pure."""
        ...

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        """Case id -> its own scalar scores, for the `.clips.csv` beside the record; {} where there are none."""
        ...

    def demands(self, spec: VAESpec, statistics: Mapping[str, Statistics]) -> list[Demand]:
        """What the user required of this VAE; with one that is not met, the run ends with exit code 1."""
        ...

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        """Case id -> uint8 (2, n, H, W, 3): n frames of the reference and of the reconstruction, where they were kept."""
        ...

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """Curves and profiles for the plots, as plain lists and numbers; {} where there are none."""
        ...


def clip_cases(source: VideoSource, config: RunConfig) -> list[Case]:
    """One case per clip, or per clip of the first `config.clips`."""
    return [Case(clip.id, clip) for clip in islice(source, config.clips)]


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
