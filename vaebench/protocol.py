"""A protocol is a named set of choices between a VAE and its scores, read from `vaebench/protocols/<name>.yaml`.

It says what of the posterior is decoded, in which precision the VAE runs, how pixels become 8 bits, whether a lossy
video file lies between the VAE and the metrics, and which metrics are taken.  `default` keeps what a VAE gives;
others reproduce what published scripts do, accidents included.  Numbers of two protocols share no table.
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
    name: str  # of its file
    about: str  # one line
    source: str  # where its choices come from
    posterior: Literal["mode", "sample"]  # what of q(z|x) is decoded
    dtype: Literal["float32", "bfloat16", "float16"]  # in which the VAE runs
    rounding: Literal["nearest", "truncate"]  # of pixels to 8 bits; truncate: towards black
    codec: Literal["none", "mp4v"]  # what reference and reconstruction pass before they are scored
    metrics: tuple[str, ...]  # by name
    notes: tuple[str, ...] = ()  # what it does not reproduce, and what its numbers are not

    def to_score(self, video: Video) -> Video:
        """float (B, 3, T, H, W) in -1..1 -> float32 in 0..1 on the 8-bit grid, as this protocol's metrics see it.

        For references and reconstructions alike.  ValueError where the codec cannot hold the video.
        """
        if self.rounding == "nearest" and self.codec == "none":
            return ranges.to_score(video)
        stored = ranges.to_stored(video) if self.rounding == "nearest" else _truncated(video)
        if self.codec == "mp4v":
            stored = _each_clip(_through_mp4v, stored)
        return stored.float().div_(255)


def names() -> list[str]:
    """Of all protocols, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load(name: str) -> Protocol:
    """The protocol called `name`; ValueError for an unknown one, with the nearest, and for a file that is not one."""
    known = names()
    if name not in known:
        raise ValueError(f"no protocol {name!r}{did_you_mean(name, known)} (there are: {', '.join(known)})")
    return parse(name, read_yaml(FOLDER / f"{name}.yaml"))


def parse(name: str, data: Mapping[str, Any]) -> Protocol:
    """The contents of a protocol's file.

    Raises:
        ValueError: unknown or missing key, invalid value
    """
    if "name" in data:
        raise ValueError(f"protocol {name}: the name is that of the file; leave the key 'name' out")
    try:
        return build(Protocol, {"name": name, **data})
    except ValueError as reason:
        raise ValueError(f"protocol {name}: {reason}") from None


def _truncated(video: Video) -> Tensor:
    """float (..., H, W) in -1..1 -> uint8, the fraction dropped.

    A twenty-thousandth of a level is added first: in float32 many a stored value lands just below itself.
    """
    import torch

    return video.float().add(1).mul_(127.5).add_(5e-5).clamp_(0, 255).to(torch.uint8)


def _each_clip(work: Callable[[Tensor], Tensor], stored: Tensor) -> Tensor:
    """`work` on each clip (T, H, W, 3) of a uint8 batch (B, 3, T, H, W), on the CPU and back."""
    import torch

    clips = stored.permute(0, 2, 3, 4, 1).cpu()
    done = torch.stack([work(clip) for clip in clips])
    return done.permute(0, 4, 1, 2, 3).to(stored.device)


def _through_mp4v(frames: Tensor) -> Tensor:
    """uint8 RGB (T, H, W, 3) -> the same frames after OpenCV's `VideoWriter` with "mp4v" and decord's reader.

    MPEG-4 part 2, 4:2:0, with OpenCV's settings: 2 bits a pixel at 30 frames/s, a key frame at least every 12,
    quantiser at least 3, and chroma taken the coarse way that FFmpeg has for BGR.  Byte for byte the file of
    opencv-python-headless 5.0.0 and the frames of decord 0.6.0, on smooth clips and on noise.
    """
    import av
    import torch

    num, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise ValueError(f"mp4v stores colour at half size and takes even sizes, got {height}x{width}")
    file, rate = BytesIO(), 30
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate, options={"qmin": "3"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1  # more would cut frames into slices, another file on each machine
        stream.gop_size = 12
        stream.bit_rate = stream.bit_rate_tolerance = 2 * rate * height * width
        for frame in frames.flip(-1).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        read = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    if len(read) != num:
        raise ValueError(f"mp4v gave back {len(read)} frames of {num}")
    return torch.stack(read)
