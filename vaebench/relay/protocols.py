"""What each long-video protocol does between two windows, beyond its window arithmetic (`vaebench.long_video`).

Sources: Lightricks/LTX-Video 5260738, SkyworkAI/SkyReels-V2 abed76f, vita-epfl/Stable-Video-Infinity 34e4c50; `ltx-latent` and
`skyreels-v2-latent` are the pipelines of diffusers, which hand over latents and decode once.  `loop` and `static` belong to no
system: `loop` tests idempotence, `static` is the worst case that Stable Video Infinity's documentation describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vaebench import long_video
from vaebench.long_video import WindowProtocol

Content = Literal["copy", "teacher"]


@dataclass(frozen=True)
class Handover:
    """How frames or latents get from one window to the next.

    `condition` says what the carried frames are encoded with, to give the first latents of the next window:
        "window"     the next window itself
        "alone"      nothing: they are a video of their own, whose first frame is an image to a causal VAE
        "grey"       mid-grey frames behind them, up to the length of the window
        "reference"  copies of the first source frame behind them, up to the length of the window
    """

    operations: tuple[str, ...] = ()  # of `pixels.OPERATIONS`, on decoded frames
    condition: Literal["window", "alone", "grey", "reference"] = "window"
    posterior: Literal["mode", "sample"] = "mode"
    still: bool = False  # the source is its first frame, repeated
    strength: float = 1.0  # share of the carried latents in the first latents of the next window; the rest is its own
    crossfade: int = 0  # frames over which carried latents are blended into those of the next window
    adain: float = 0.0  # share of the first window's channel means and deviations in those of later windows


HANDOVERS: Mapping[str, Handover] = {
    "loop": Handover(("round8",)),
    "static": Handover(("truncate8",), still=True),
    "ltx-first-frame": Handover(("truncate8", "blur3", "x264"), "alone", "sample"),
    # 2 latents of 8 frames are blended; carried latents have strength 0.5
    "ltx-latent": Handover(strength=0.5, crossfade=16, adain=0.25),
    "skyreels-v2": Handover(("clamp",), "alone"),
    "skyreels-v2-latent": Handover(),
    "svi-film": Handover(("truncate8",), "grey"),
    "svi-shot": Handover(("truncate8",), "reference"),
}


@dataclass(frozen=True)
class Relay:
    """One protocol with the length of window that a run uses; `window` and `overlap` are in frames."""

    name: str
    window: int
    overlap: int
    own_window: int  # the protocol's own length; `window` is smaller if the run shortens it
    latents: bool  # whether latents are handed over, so that nothing is encoded again
    handover: Handover

    @property
    def step(self) -> int:
        """Frames that each further window adds; 0 if the same frames are reconstructed again."""
        return self.window - self.overlap

    @property
    def note(self) -> str:
        """What readers of a score must know about the length of the window; "" if it is the protocol's own."""
        if self.window == self.own_window:
            return ""
        return f"shortened window: {self.window} frames instead of {self.own_window}, with the same overlap"


def relay(name: str, window: int = 0) -> Relay:
    """The protocol `name` with windows of at most `window` frames; 0 = the protocol's own length.

    The overlap stays that of the protocol.  Lengths of protocols that hand over latents are converted to frames.

    Raises:
        ValueError: the protocol is unknown, or the window is not longer than the overlap or has an invalid length
    """
    own = long_video.find(name)
    full = _frames(own, own.window)
    shorter = 0 < window < full
    length = own.window
    if shorter:
        length = window if own.handover == "pixels" else _latent_frames(own, window)
    made = long_video.plan(name, hops=0, window=length).protocol
    length, overlap = _frames(made, made.window), _frames(made, made.overlap)
    return Relay(name, length, overlap, full, own.handover == "latents", HANDOVERS[name])


def _frames(protocol: WindowProtocol, length: int) -> int:
    """A length in the unit of the protocol -> frames."""
    return length if protocol.handover == "pixels" else protocol.rule.stride * (length - 1) + 1


def _latent_frames(protocol: WindowProtocol, frames: int) -> int:
    return (frames - 1) // protocol.rule.stride + 1
