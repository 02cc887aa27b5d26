"""The statistics of a set of stored latents, and of the set without some clips, each with the basis of its own clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vaebench.latents import passes
from vaebench.latents.jackknife import Means, mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

GROUPS = 20  # sets of clips to leave out: the passes are computed anew for each


def described(clips: Sequence[Means]) -> list[dict[str, NDArray]]:
    """Both passes over the "latent" (C, t, h, w) and "rgb" (3, t, h, w) of each clip, standardized by all of them.

    Returns:
        for each clip, statistics whose means describe the set; its other arrays are kept
    """
    channels = [passes.first(clip["latent"]) for clip in clips]
    basis = passes.Basis.of(mean(channels))
    of_rgb = passes.Basis.of(mean([passes.first(clip["rgb"]) for clip in clips]))
    return [
        {name: value for name, value in clip.items() if name not in ("latent", "rgb")}
        | of_channels
        | passes.second(clip["latent"], basis)
        | passes.rgb(clip["rgb"], of_rgb)
        for clip, of_channels in zip(clips, channels, strict=True)
    ]


def without_groups(clips: Sequence[Means], groups: int = GROUPS) -> list[dict[str, NDArray]]:
    """For each group of clips: the means over all other clips, standardized by these alone.

    A clip that differs from the others changes the channel statistics that standardize all clips.  With a fixed basis, the
    jackknife would count a change of power as one of the score, and miss that of the basis.

    Args:
        clips: as `described`
        groups: largest number of groups; each clip is a group of its own if there are no more clips
    """
    n = min(len(clips), groups)
    return [mean(described([clip for i, clip in enumerate(clips) if i % n != k])) for k in range(n)] if n > 1 else []
