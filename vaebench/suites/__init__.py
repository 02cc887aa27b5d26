"""A suite is three verbs: list the cases, measure one, summarize all.

One module `vaebench/suites/<name>.py` with `Options` (a frozen dataclass, a sentence per field, settable on the command
line) and `build(config) -> Suite`.  The runner owns everything between: resume, progress, failures, records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.results import Score
    from vaebench.vae import VideoVAE
    from vaebench.video import Clip

Statistics = dict[str, "NDArray"]  # what is stored of one case: name -> array


@dataclass(frozen=True)
class Case:
    """One thing to measure.  `clip` is None in suites that need no video; the runner decodes it ahead of `measure`."""

    id: str
    clip: Clip | None = None


class Suite(Protocol):
    name: str
    version: int  # raised when a number would change
    needs_weights: (
        bool  # False: cost does not depend on weight values, so random ones of the released size will do
    )
    setting: str  # what two records must share to be compared: "bundle-33x256"
    identity: Mapping[
        str, object
    ]  # everything of the suite that can change a number: options, metric versions
    absent: Mapping[str, str]  # scores that cannot be computed here, and why

    def cases(self, source: VideoSource) -> Iterable[Case]: ...

    def measure(self, vae: VideoVAE, case: Case) -> Statistics:
        """Everything that is worth keeping of one case; stored as soon as it exists."""
        ...

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        """All cases, by id, in the order of `cases` -> the scores.  Pure."""
        ...

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        """Case id -> its own scalar scores, for the `.clips.csv` beside the record; {} where there are none."""
        ...
