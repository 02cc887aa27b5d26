"""The windows of a long video: how the named protocols cut it, and where frames or latents are handed from window to window.

Systems that make minutes of video denoise one window at a time; the next window starts from the last frames of the one before.
If these frames are handed over as pixels, each hop decodes and encodes them once more; if they are handed over as latents, it
does not.  Each of LTX-Video and SkyReels-V2 exists in both forms, so a protocol is named, not a system.

    [0 ............. 97)                       skyreels-v2: windows of 97 frames, 17 of them from the window before
                [80 ............. 177)
                            [160 ............. 257)

Sources, as of 2025-12: SkyworkAI/SkyReels-V2 abed76f, Lightricks/LTX-Video 5260738, vita-epfl/Stable-Video-Infinity 34e4c50; the
two latent protocols are the long-video pipelines of diffusers 0.42.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from vaebench.plugins import did_you_mean
from vaebench.vae import FrameRule


@dataclass(frozen=True)
class WindowProtocol:
    """How one system cuts a long video into windows.

    `window` and `overlap` are in frames, or in latent frames if latents are handed over.  `rule` has the valid lengths in frames;
    its stride is the temporal compression of the system's VAE.
    """

    name: str
    window: int
    overlap: int
    handover: Literal["pixels", "latents"] = "pixels"  # "pixels": each hop encodes the carried frames again
    rule: FrameRule = field(default_factory=FrameRule)
    fps: float = 0.0  # 0: that of the clip
    padding: Literal["", "grey", "reference"] = ""  # fills the window behind the carried frames before they are encoded
    one_length: bool = False  # every window has `window` frames; otherwise the last one may be shorter
    extends: bool = True  # False: each hop reconstructs the same frames again
    block: int = 1  # latent frames that are denoised together, in asynchronous inference
    asynchronous: bool = False  # whether the system can denoise blocks one after the other
    system: str = ""  # what the protocol belongs to, for readers

    @property
    def unit(self) -> str:
        return "frames" if self.handover == "pixels" else "latent frames"


_LTX: dict[str, Any] = {"rule": FrameRule(8, 1)}
_SKYREELS: dict[str, Any] = {"rule": FrameRule(4, 1), "fps": 24, "asynchronous": True}
# SVI trains at 16 frames/s; its test script labels the same frames 24 frames/s
_SVI: dict[str, Any] = {"rule": FrameRule(4, 1), "fps": 16, "one_length": True}
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        WindowProtocol("loop", 17, 17, extends=False, system="the whole clip, reconstructed again and again"),
        WindowProtocol("static", 17, 1, system="the last frame, repeated: the worst case of SVI's documentation"),
        WindowProtocol("ltx-first-frame", 121, 1, fps=30, system="LTX-Video, released code", **_LTX),
        WindowProtocol("ltx-latent", 10, 3, "latents", fps=25, system="LTX-Video, diffusers", **_LTX),
        # 97 frames at 544x960 and 121 at 720x1280; an overlap of 37 frames is recommended too
        WindowProtocol("skyreels-v2", 97, 17, system="SkyReels-V2, released code", **_SKYREELS),
        WindowProtocol("skyreels-v2-latent", 25, 5, "latents", system="SkyReels-V2, diffusers", **_SKYREELS),
        WindowProtocol("svi-film", 81, 5, padding="grey", system="Stable Video Infinity, film", **_SVI),
        WindowProtocol("svi-shot", 81, 1, padding="reference", system="Stable Video Infinity, shot", **_SVI),
    )
}


class Window(NamedTuple):
    """The part `start` <= i < `stop` of the video; its first `overlap` frames come from the window before."""

    start: int
    stop: int
    overlap: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    @property
    def new(self) -> int:
        """The number of frames that this window adds to the video."""
        return self.length - self.overlap


@dataclass(frozen=True)
class Plan:
    """The windows of one video, in the unit of the protocol; `protocol` has the window, overlap and fps that were asked for."""

    protocol: WindowProtocol
    windows: tuple[Window, ...]

    @property
    def hops(self) -> int:
        """The number of times that frames are handed to a next window."""
        return len(self.windows) - 1

    @property
    def round_trips(self) -> int:
        """The number of times that the first frame of the last window is decoded and encoded again."""
        if self.protocol.handover == "latents":
            return 0
        return self.hops if self.protocol.extends else len(self.windows)

    @property
    def frames(self) -> int:
        """The number of frames of the video."""
        stop = self.windows[-1].stop
        return stop if self.protocol.handover == "pixels" else self.protocol.rule.stride * (stop - 1) + 1

    @property
    def seconds(self) -> float:
        """The duration of the video; NaN if the protocol has no frame rate."""
        return self.frames / self.protocol.fps if self.protocol.fps else math.nan

    def latents(self, length: Window | int) -> int:
        """The number of latent frames of a window, or of a number of frames."""
        count = length.length if isinstance(length, Window) else length
        return count if self.protocol.handover == "latents" else _latents(count, self.protocol)


def find(name: str) -> WindowProtocol:
    """The protocol of that name.

    Raises:
        ValueError: the name is unknown
    """
    if name not in PROTOCOLS:
        raise ValueError(
            f"no protocol {name!r}{did_you_mean(name, list(PROTOCOLS))} (available: {', '.join(PROTOCOLS)})"
        )
    return PROTOCOLS[name]


def plan(
    name: str,
    *,
    frames: int | None = None,
    at_least: int | None = None,
    seconds: float | None = None,
    hops: int | None = None,
    window: int = 0,
    overlap: int = 0,
    fps: float = 0.0,
    block: int = 1,
) -> Plan:
    """The windows of a video with exactly one of: `frames`, `at_least` that number, `seconds` or more, or `hops`.

    Args:
        name: one of PROTOCOLS
        frames: number of frames, which must be valid for the protocol
        at_least: number of frames, rounded up to a valid one
        seconds: duration, rounded up to a valid number of frames
        hops: number of hops between windows of full length
        window: length of a window, in the unit of the protocol; 0 = that of the protocol
        overlap: what a window takes from the one before, in the unit of the protocol; 0 = that of the protocol
        fps: frames per second; 0 = that of the protocol
        block: latent frames that are denoised together (`causal_block_size` of SkyReels-V2); 1 = synchronous

    Raises:
        ValueError: a value is invalid; the message has the nearest valid ones
    """
    protocol = find(name)
    length = window or protocol.window
    if not protocol.extends:
        overlap = overlap or length
    protocol = replace(
        protocol, window=length, overlap=overlap or protocol.overlap, fps=fps or protocol.fps, block=block
    )
    _check(protocol)
    wanted = {"frames": frames, "at_least": at_least, "seconds": seconds, "hops": hops}
    given = {key: value for key, value in wanted.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"a plan needs exactly one of {', '.join(wanted)}; got {', '.join(given) or 'none'}")
    ((key, value),) = given.items()
    least = 0 if key == "hops" else 1 if key in ("frames", "at_least") else None
    if not (math.isfinite(value) and (value > 0 if least is None else value >= least)):
        raise ValueError(f"{key}={value} should be {'more than 0' if least is None else f'at least {least}'}")
    if hops is not None:
        return Plan(protocol, tuple(_full(protocol, hops)))
    if seconds is not None:
        if not protocol.fps:
            raise ValueError(f"seconds={seconds:g}: {name} has no frame rate of its own: add fps=")
        # a product such as 0.1 * 30 may exceed the integer by its rounding error
        at_least = math.ceil(seconds * protocol.fps - 1e-9)
    if frames is not None:
        _check_frames(protocol, frames)
    return _covering(protocol, frames if frames is not None else _fit(protocol, at_least or 1))


def denoising_steps(made: Plan, *, steps: int, delay: int) -> tuple[int, ...]:
    """Network calls per window if each block starts `delay` steps after the block before it (`ar_step` of SkyReels-V2).

    The first window of n blocks takes `steps + (n - 1) * delay` calls; in later windows the carried blocks are clean already.
    """
    block = made.protocol.block
    blocks = [(made.latents(w) - (made.latents(w.overlap) if w.overlap else 0)) // block for w in made.windows]
    return tuple(steps + (count - 1) * delay for count in blocks)


def _full(protocol: WindowProtocol, hops: int) -> Sequence[Window]:
    length, overlap = protocol.window, protocol.overlap
    step = length - overlap
    return [Window(i * step, i * step + length, overlap if i else 0) for i in range(hops + 1)]


def _covering(protocol: WindowProtocol, frames: int) -> Plan:
    """The windows of a valid number of frames."""
    total = frames if protocol.handover == "pixels" else _latents(frames, protocol)
    step = protocol.window - protocol.overlap
    hops = math.ceil(max(total - protocol.window, 0) / step) if step else 0
    *full, last = _full(protocol, hops)
    return Plan(protocol, (*full, last._replace(stop=total)))


def _latents(frames: int, protocol: WindowProtocol) -> int:
    return (frames - 1) // protocol.rule.stride + 1


def _rule(protocol: WindowProtocol) -> FrameRule:
    """The valid lengths of a window in frames: whole latent frames, and whole blocks of them."""
    stride = protocol.rule.stride
    return replace(protocol.rule, stride=stride * protocol.block, offset=stride * (protocol.block - 1) + 1)


def _total_rule(protocol: WindowProtocol) -> FrameRule:
    """The valid lengths of a video, in frames."""
    if not protocol.one_length:
        return _rule(protocol)
    step = protocol.window - protocol.overlap
    return FrameRule(step, protocol.window % step, protocol.window)


def _fit(protocol: WindowProtocol, frames: int) -> int:
    if not protocol.extends:
        _check_frames(protocol, frames)
    return _total_rule(protocol).fit(frames)


def _nearest(rule: FrameRule, length: int, least: int = 1) -> str:
    """The valid lengths on both sides of an invalid one, as "249 or 253"; none of them is below `least`."""
    above = rule.fit(max(length, least))
    below = above - rule.stride
    return f"{below} or {above}" if rule.allows(below) and below >= least else str(above)


def _check_frames(protocol: WindowProtocol, frames: int) -> None:
    if not protocol.extends and frames != protocol.window:
        raise ValueError(
            f"frames={frames}: {protocol.name} reconstructs one window of {protocol.window} frames; choose its length "
            "with window= and the number of repetitions with hops="
        )
    rule = _total_rule(protocol)
    if not rule.allows(frames):
        raise ValueError(
            f"frames={frames} is invalid for {protocol.name}, which makes {_described(protocol)}: "
            f"use {_nearest(rule, frames)}"
        )


def _described(protocol: WindowProtocol) -> str:
    if protocol.one_length:
        return f"{protocol.window} + {protocol.window - protocol.overlap}k frames (windows of one length)"
    blocks = f" in blocks of {protocol.block} latent frames" if protocol.block > 1 else ""
    return f"{protocol.rule} frames{blocks}"


def _check(protocol: WindowProtocol) -> None:
    """Raises ValueError if window, overlap, fps or block are invalid."""
    name, block = protocol.name, protocol.block
    if block < 1 or (block > 1 and not protocol.asynchronous):
        raise ValueError(f"block={block}: {name} denoises all latent frames of a window together: use block=1")
    if not (math.isfinite(protocol.fps) and protocol.fps >= 0):
        raise ValueError(f"fps={protocol.fps:g} should be more than 0")
    pixels = protocol.handover == "pixels"
    blocks = _rule(protocol) if pixels else FrameRule(block)
    for key, length in (("window", protocol.window), ("overlap", protocol.overlap)):
        if length < 1:
            raise ValueError(f"{key}={length} should be at least 1 in {name}")
        least = protocol.overlap + 1 if key == "window" and protocol.extends else 1
        if pixels and not protocol.rule.allows(length):
            near = _nearest(protocol.rule, length, least)
            raise ValueError(f"{key}={length} is invalid for {name}, which takes {protocol.rule} frames: use {near}")
        if not blocks.allows(length):
            raise ValueError(
                f"{key}={length} of {name} has {_latents(length, protocol) if pixels else length} latent frames, which is "
                f"not a multiple of block={block}: use {_nearest(blocks, length, least)}"
            )
    if protocol.extends and protocol.overlap >= protocol.window:
        raise ValueError(
            f"overlap={protocol.overlap} should be less than window={protocol.window}: "
            f"{name} would not advance; the largest valid overlap is {protocol.window - blocks.stride}, and the smallest valid "
            f"window above the overlap is {blocks.fit(protocol.overlap + 1)}"
        )
    if not protocol.extends and protocol.overlap != protocol.window:
        raise ValueError(f"overlap={protocol.overlap}: {name} always carries its whole window: remove overlap=")
