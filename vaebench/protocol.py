"""A protocol is a named set of evaluation choices, read from `vaebench/protocols/`.

It defines the resize of the clips, whether the mode or a sample of the posterior is decoded, the dtype of the VAE, the rounding of
pixels to 8 bits, lossy compression before the VAE or before scoring, and the metrics.  `default` scores the output of the VAE
directly; others reproduce published scripts, including their errors; `one_choice.yaml` has variants of another protocol that
differ from it in one choice.  Scores of different protocols are never in the same table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vaebench import long_video
from vaebench import video as ranges
from vaebench.compression import CODECS, each_clip
from vaebench.plugins import did_you_mean
from vaebench.settings import build, read_yaml, split_list

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.video import Video

FOLDER = Path(__file__).parent / "protocols"
ONE_CHOICE = FOLDER / "one_choice.yaml"  # name -> base and the choices that differ from it


@dataclass(frozen=True)
class Protocol:
    name: str
    about: str  # description in one line
    source: str  # origin of the choices
    posterior: Literal["mode", "sample"]  # decode the mode of q(z|x) or a sample
    dtype: Literal["float32", "bfloat16", "float16"]  # dtype of the VAE
    rounding: Literal["nearest", "truncate", "none"]  # rounding of pixels to 8 bits; truncate: down; none: float pixels
    codec: Literal["none", "mp4v", "h264"]  # lossy compression before scoring
    metrics: tuple[str, ...]  # names in `vaebench list metrics`
    notes: tuple[str, ...] = ()  # deviations from the source, and limits of the scores
    resize: Literal["antialiased", "float", "bilinear", "lanczos"] = "antialiased"  # see `vaebench.video_io.resize`
    pixels: Literal["float32", "bfloat16"] = "float32"  # dtype of the conversions between pixels and -1..1
    compressed: Literal["both", "reconstruction"] = "both"  # the videos that `codec` applies to
    input_codec: Literal["none", "h264"] = (
        "none"  # lossy compression of clips before the VAE; also the scored reference
    )
    clip: str = ""  # clips of the published numbers, frames x size, such as "33x256"; "" if it has none
    base: str = ""  # protocol that this one differs from in one choice

    def to_model(self, frames: Tensor) -> Video:
        """Frames (B, 3, T, H, W), uint8 or float32 in 0..1 -> float32 in -1..1, the input of the VAE and the reference.

        Raises:
            ValueError: the codec does not support the size of the video
        """
        return self.to_range(self.through_input_codec(frames))

    def through_input_codec(self, frames: Tensor) -> Tensor:
        """Whole clips (B, 3, T, H, W), uint8 or float32 in 0..1 -> uint8, after `input_codec`; unchanged without one.

        Raises:
            ValueError: the codec does not support the size of the video
        """
        if self.input_codec == "none":
            return frames
        import torch

        if frames.dtype != torch.uint8:
            frames = frames.mul(255).round_().clamp_(0, 255).to(torch.uint8)
        return each_clip(CODECS[self.input_codec], frames)

    def to_range(self, frames: Tensor) -> Video:
        """uint8, or float32 in 0..1 -> a new tensor, float32 in -1..1: `to_model` of frames that went through `input_codec`."""
        if self.pixels == "float32":
            return ranges.to_model(frames)
        return ranges.to_unit(frames).bfloat16().mul_(2).sub_(1).float()

    def to_score(self, video: Video, *, reference: bool = False) -> Video:
        """float (B, 3, T, H, W) in -1..1 -> float32 in 0..1, the input of the metrics.

        The values are on the 8-bit grid unless `rounding` is "none".

        Args:
            reference: the video is the reference, which `compressed: reconstruction` leaves as it is

        Raises:
            ValueError: the codec does not support the size of the video
        """
        codec = self._codec(reference)
        if self.rounding == "nearest" and codec == "none":
            return ranges.to_score(video)
        if self.rounding == "none":
            return video.float().add(1).div_(2).clamp_(0, 1)
        stored = self._stored(video)
        if codec != "none":
            stored = each_clip(CODECS[codec], stored)
        return stored.float().div_(255)

    def windows(self, pieces: Iterable[Video], *, reference: bool = False) -> Iterator[Video]:
        """Pieces (B, 3, n, H, W) of a video in -1..1 -> `to_score` of it, in windows of `video.WINDOW` frames.

        Without a codec one window is in memory at a time.  A codec compresses the whole clip, which is held in uint8.

        Args:
            reference: as in `to_score`

        Raises:
            ValueError: the codec does not support the size of the video
        """
        codec = self._codec(reference)
        if codec == "none":
            scored = (self.to_score(piece, reference=reference) for piece in pieces)
            yield from ranges.rechunked(scored, ranges.WINDOW)
            return
        import torch

        stored = each_clip(CODECS[codec], torch.cat([self._stored(piece) for piece in pieces], dim=2))
        yield from self.windows_of_coded(stored)

    def windows_of_coded(self, stored: Tensor) -> Iterator[Video]:
        """A compressed clip, uint8 (B, 3, T, H, W) -> the windows of `windows`."""
        for window in stored.split(ranges.WINDOW, dim=2):
            yield window.float().div_(255)

    def coded_reference(self, frames: Tensor) -> Tensor | None:
        """Whole clips from `through_input_codec` (B, 3, T, H, W) -> uint8, after `codec`; None if references are not compressed.

        Raises:
            ValueError: the codec does not support the size of the video
        """
        codec = self._codec(reference=True)
        return None if codec == "none" else each_clip(CODECS[codec], self._stored(self.to_range(frames)))

    def _codec(self, reference: bool) -> str:
        """The codec of the scored videos: "none" for a reference that `compressed: reconstruction` leaves as it is."""
        return "none" if reference and self.compressed == "reconstruction" else self.codec

    def _stored(self, video: Video) -> Tensor:
        """float in -1..1 -> uint8, rounded as `rounding` says, which is not "none"."""
        return ranges.to_stored(video) if self.rounding == "nearest" else _truncated(video, self.pixels)

    @property
    def of_reference(self) -> list[str]:
        """The choices that decide the pixels of the scored reference, besides the resize of the clip."""
        return [self.pixels, self.input_codec, self.rounding, self._codec(reference=True)]

    @property
    def identity(self) -> list[str]:
        """The choices that decide the pixels and are not settings of a run, for cache keys."""
        return [self.name, self.resize, self.pixels, self.input_codec, self.rounding, self.codec, self.compressed]

    def __post_init__(self) -> None:
        if self.rounding == "none" and self.codec != "none":
            raise ValueError(f"codec={self.codec} compresses 8-bit pixels: rounding should be nearest or truncate")


def names() -> list[str]:
    """The names of all protocols: those with a file, sorted, then the variants with one other choice."""
    files = sorted(file.stem for file in FOLDER.glob("*.yaml") if file != ONE_CHOICE)
    return [*files, *_variants()]


def load(name: str) -> Protocol:
    """Load a protocol by name.

    Raises:
        ValueError: the name is unknown (the message suggests the closest one), or the file is invalid
    """
    known = names()
    if "," in name:
        raise ValueError(
            f"protocol={name} names several protocols, which only `vaebench run` evaluates in one call: give one"
        )
    if name not in known:
        near = did_you_mean(name, known)
        if name in long_video.PROTOCOLS:
            near = f": it is one of the relay suite, where the setting is protocols={name}"
        raise ValueError(f"no protocol {name!r}{near} (available: {', '.join(known)})")
    variants = _variants()
    if name not in variants:
        return parse(name, read_yaml(FOLDER / f"{name}.yaml"))
    changes = variants[name]
    base = {key: value for key, value in read_yaml(FOLDER / f"{changes['base']}.yaml").items() if key != "clip"}
    return parse(name, {**base, "notes": (), **changes})


def load_all(text: str) -> list[Protocol]:
    """The protocols of `protocol=A,B`, each once.

    Raises:
        ValueError: no name is given, or a name is unknown
    """
    chosen = [load(name) for name in dict.fromkeys(split_list(text, "protocol"))]
    if not chosen:
        raise ValueError(f"protocol={text!r} names no protocol (available: {', '.join(names())})")
    return chosen


def parse(name: str, data: Mapping[str, Any]) -> Protocol:
    """Build a protocol from the content of its file.

    Raises:
        ValueError: a key is unknown or missing, or a value is invalid
    """
    if "name" in data:
        raise ValueError(f"protocol {name}: the file name is the name of the protocol; remove the key 'name'")
    try:
        return build(Protocol, {"name": name, **data})
    except ValueError as reason:
        raise ValueError(f"protocol {name}: {reason}") from None


@cache
def _variants() -> dict[str, dict[str, Any]]:
    return read_yaml(ONE_CHOICE)


def _truncated(video: Video, pixels: str) -> Tensor:
    """float (..., H, W) in -1..1 -> uint8, rounded down.

    In float32, 5e-5 of a level is added first, since arithmetic often returns a value just below the original 8-bit level.  In
    bfloat16 the published script has no such correction, and neither has this function.
    """
    import torch

    if pixels == "float32":
        return video.float().add(1).mul_(127.5).add_(5e-5).clamp_(0, 255).to(torch.uint8)
    return video.bfloat16().clamp_(-1, 1).add_(1).div_(2).float().mul_(255).to(torch.uint8)
