"""A protocol is a named set of evaluation choices, read from `vaebench/protocols/<name>.yaml`.

It defines whether the mode or a sample of the posterior is decoded, the dtype of the VAE, the rounding of pixels to 8 bits,
whether videos are compressed before scoring, and the metrics.  `default` scores the output of the VAE directly; others
reproduce published scripts, including their errors.  Scores of different protocols are never in the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vaebench import video as ranges
from vaebench.plugins import did_you_mean
from vaebench.settings import build, read_yaml

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.video import Video

FOLDER = Path(__file__).parent / "protocols"


@dataclass(frozen=True)
class Protocol:
    name: str  # name of the file without suffix
    about: str  # description in one line
    source: str  # origin of the choices
    posterior: Literal["mode", "sample"]  # decode the mode of q(z|x) or a sample
    dtype: Literal["float32", "bfloat16", "float16"]  # dtype of the VAE
    rounding: Literal["nearest", "truncate"]  # rounding of pixels to 8 bits; truncate: down
    codec: Literal["none", "mp4v"]  # lossy compression of reference and reconstruction before scoring
    metrics: tuple[str, ...]  # names in `vaebench list metrics`
    notes: tuple[str, ...] = ()  # deviations from the source, and limits of the scores

    def to_score(self, video: Video) -> Video:
        """float (B, 3, T, H, W) in -1..1 -> float32 in 0..1 on the 8-bit grid, the input of the metrics.

        Applies to references and reconstructions alike.

        Raises:
            ValueError: the codec does not support the size of the video
        """
        if self.rounding == "nearest" and self.codec == "none":
            return ranges.to_score(video)
        stored = ranges.to_stored(video) if self.rounding == "nearest" else _truncated(video)
        if self.codec == "mp4v":
            stored = _each_clip(_through_mp4v, stored)
        return stored.float().div_(255)


def names() -> list[str]:
    """The names of all protocols, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load(name: str) -> Protocol:
    """Load a protocol by name.

    Raises:
        ValueError: the name is unknown (the message suggests the closest one), or the file is invalid
    """
    known = names()
    if name not in known:
        raise ValueError(f"no protocol {name!r}{did_you_mean(name, known)} (available: {', '.join(known)})")
    return parse(name, read_yaml(FOLDER / f"{name}.yaml"))


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


def _truncated(video: Video) -> Tensor:
    """float (..., H, W) in -1..1 -> uint8, rounded down.

    5e-5 of a level is added first, since float32 arithmetic often returns a value just below the original 8-bit level.
    """
    import torch

    return video.float().add(1).mul_(127.5).add_(5e-5).clamp_(0, 255).to(torch.uint8)


def _each_clip(work: Callable[[Tensor], Tensor], stored: Tensor) -> Tensor:
    """Apply `work` on the CPU to each clip, uint8 (T, H, W, 3), of a uint8 batch (B, 3, T, H, W)."""
    import torch

    clips = stored.permute(0, 2, 3, 4, 1).cpu()
    done = torch.stack([work(clip) for clip in clips])
    return done.permute(0, 4, 1, 2, 3).to(stored.device)


def _through_mp4v(frames: Tensor) -> Tensor:
    """uint8 RGB (T, H, W, 3) -> the frames after writing with OpenCV's `VideoWriter` ("mp4v") and reading with decord.

    MPEG-4 part 2, 4:2:0, with OpenCV's settings: 2 bits per pixel at 30 frames/s, a key frame at least every 12
    frames, quantiser at least 3, and FFmpeg's fast chroma conversion for BGR.  The file is byte-identical to that of
    opencv-python-headless 5.0.0 and the frames to those of decord 0.6.0, on smooth clips and on noise.
    """
    import av
    import torch

    num, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise ValueError(f"mp4v requires an even height and width, got {height}x{width}: choose an even size=")
    file, rate = BytesIO(), 30
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate, options={"qmin": "3"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = (
            1  # more threads cut frames into slices: the file would depend on the machine
        )
        stream.gop_size = 12
        stream.bit_rate = stream.bit_rate_tolerance = 2 * rate * height * width
        for frame in frames.flip(-1).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        read = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    if len(read) != num:
        raise ValueError(f"mp4v returned {len(read)} of {num} frames")
    return torch.stack(read)
