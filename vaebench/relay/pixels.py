"""What long-video systems do to the pixels between two windows: 8-bit rounding or truncation, a blur, one frame of H.264.

Every operation takes and returns float (B, 3, T, H, W) in -1..1.  They are lossy without any VAE: with a perfect codec, LTX-Video's
operations leave 21 dB after ten hops, so the suite measures each protocol with an identity VAE too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from vaebench.video import to_model, to_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.video import Video

CRF = 29  # constant rate factor of LTX-Video's conditioning frames


def source(frames: Tensor, operations: tuple[str, ...]) -> Video:
    """uint8 (..., H, W) -> float32 in -1..1, in the arithmetic of a protocol with these operations.

    Whether a level survives a truncation depends on the last bit: 47 of 256 are lowered if they come from v * (2 / 255) - 1, as in
    a system that truncates, and 63 if they come from v / 127.5 - 1, as elsewhere in this package.
    """
    return frames.float().mul_(2 / 255).sub_(1) if "truncate8" in operations else to_model(frames)


def clamp(video: Video) -> Video:
    """Clamp to -1..1; no quantization (SkyReels-V2 hands over float32 frames)."""
    return video.clamp(-1, 1)


def round8(video: Video) -> Video:
    """Clamp and round to 8 bits.  Applying it twice is the same as applying it once."""
    return to_model(to_stored(video)).to(video.dtype)


def truncate8(video: Video) -> Video:
    """Clamp and round down to 8 bits, as Stable Video Infinity and LTX-Video write frames.

    The arithmetic is float32: (x + 1) * 127.5, truncated, and back by v * (2 / 255) - 1.  With a perfect codec 47 of the 256 levels
    are one level lower after each hop.  A codec with an error of at least half a level that is zero on average loses half a level
    per hop.
    """
    return source(_truncated(video), ("truncate8",)).to(video.dtype)


def _truncated(video: Video) -> Tensor:
    """float (...) in -1..1 -> uint8, clamped and rounded down."""
    return video.float().add(1).mul(127.5).clamp(0, 255).to(torch.uint8)


def blur3(video: Video) -> Video:
    """Gaussian blur of each frame, 3x3, sigma 1, with mirrored borders (LTX-Video)."""
    taps = torch.exp(-torch.tensor([1.0, 0.0, 1.0], dtype=video.dtype, device=video.device) / 2)
    taps = taps / taps.sum()
    frames = video.transpose(1, 2).flatten(0, 1)  # (B * T, 3, H, W)
    padded = F.pad(frames, (1, 1, 1, 1), mode="reflect")
    rows = sum(tap * part for tap, part in zip(taps, _shifts(padded, -2), strict=True))
    blurred = sum(tap * part for tap, part in zip(taps, _shifts(torch.as_tensor(rows), -1), strict=True))
    return torch.as_tensor(blurred).unflatten(0, (video.shape[0], -1)).transpose(1, 2)


def _shifts(padded: Tensor, axis: int) -> list[Tensor]:
    length = padded.shape[axis] - 2
    return [padded.narrow(axis, start, length) for start in range(3)]


def x264(video: Video) -> Video:
    """Each frame truncated to 8 bits, encoded as a one-frame H.264 file (CRF 29, veryfast, yuv420p) and decoded again.

    Raises:
        ValueError: height or width is odd
    """
    height, width = video.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(f"H.264 with 4:2:0 chroma needs an even height and width, got {height}x{width}: change size=")
    frames = _truncated(video).permute(0, 2, 3, 4, 1).flatten(0, 1).cpu().numpy()  # (B * T, H, W, 3)
    decoded = torch.stack([torch.from_numpy(_through_x264(frame)) for frame in frames])
    stored = decoded.unflatten(0, (video.shape[0], -1)).permute(0, 4, 1, 2, 3)
    return to_model(stored.to(video.device)).to(video.dtype)


def _through_x264(frame: NDArray) -> NDArray:
    """uint8 RGB (H, W, 3) -> the frame after encoding and decoding."""
    import av

    height, width, _ = frame.shape
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=1, options={"crf": str(CRF), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = (
            1  # more threads cut a frame into slices: the file would depend on the machine
        )
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


OPERATIONS: Mapping[str, Callable[[Video], Video]] = {
    "clamp": clamp,
    "round8": round8,
    "truncate8": truncate8,
    "blur3": blur3,
    "x264": x264,
}


def apply(names: tuple[str, ...], video: Video) -> Video:
    """float (B, 3, T, H, W) in -1..1 after the operations `names` of OPERATIONS, in this order."""
    for name in names:
        video = OPERATIONS[name](video)
    return video


def low_frequencies(image: Video, sigma: float = 32.0) -> Video:
    """float (..., H, W) -> its Gaussian low-pass; weights beyond the border are left out and the others sum to 1."""
    height, width = image.shape[-2:]
    down, across = (_gaussian(side, sigma).to(image) for side in (height, width))
    return down @ image @ across.T


@cache
def _gaussian(side: int, sigma: float) -> Tensor:
    """float64 (side, side): row i has the weights of output i."""
    at = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-(at[:, None] - at).square() / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)
