"""Video codecs as rows beside VAEs: `codec/x264-27`, `codec/x265-27`, `codec/av1-35` (encoder and CRF).

A codec is the yardstick that every engineer knows.  It has no latent that a diffusion model could learn: its "latent" is the
compressed clip, and `Codec.bits` counts its bits.  Counted are the packets of the encoder, parameter sets included; there is no
container.  The text about the encoder's settings that x264 and x265 would embed is not part of them.

Encoders are those of PyAV (x264, x265, SVT-AV1), at constant quality (CRF) with the default tuning, preset medium (SVT-AV1: 6),
25 frames per second, one key frame unless the clip is longer than the encoder's default interval, and one thread, so that the
packets do not depend on the machine.  Pixels are converted to BT.709 in limited range with 8 bits and 4:2:0 chroma, as in almost
every file; this conversion alone limits the PSNR of RGB frames (48.7 dB on the bundled clips).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from vaebench.vae import Posterior, VAESpec, VideoVAE
from vaebench.yuv import to_rgb, to_yuv

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from vaebench.video import Latent, Video

FAMILY = "codec"
RATE = (
    25  # frames per second; x264 and x265 scale the quality of CRF with the duration of a frame, which is neutral at 25
)


@dataclass(frozen=True)
class Encoder:
    """An encoder of PyAV and the decoder of its packets."""

    name: str
    decoder: str
    options: dict[str, str]
    largest_crf: int
    smallest_side: int
    license: str  # of the encoder
    reference: str


ENCODERS = {
    "x264": Encoder(
        "libx264",
        "h264",
        # without cpu-independent, x264's estimate of motion (mbtree) differs from call to call by about 1 % of the bits
        {"preset": "medium", "x264-params": "cpu-independent=1"},
        51,
        2,
        "GPL-2.0",
        "https://www.videolan.org/developers/x264.html",
    ),
    "x265": Encoder(
        "libx265",
        "hevc",
        {"preset": "medium", "x265-params": "log-level=error:info=0:pools=none:frame-threads=1"},
        51,
        16,
        "GPL-2.0",
        "https://www.x265.org",
    ),
    "av1": Encoder(
        "libsvtav1",
        "libdav1d",
        {"preset": "6", "svtav1-params": "lp=1"},
        63,
        4,
        "BSD-3-Clause-Clear",
        "https://gitlab.com/AOMediaCodec/SVT-AV1",
    ),
}  # fmt: skip


def spec_of(name: str) -> VAESpec:
    """The spec of `codec/ENCODER-CRF`.

    Raises:
        ValueError: the encoder is unknown, or the CRF is outside its range
    """
    kind, _, crf = name.partition("/")[2].rpartition("-")
    valid = ", ".join(f"{FAMILY}/{key}-CRF (0 to {known.largest_crf})" for key, known in ENCODERS.items())
    if kind not in ENCODERS or not crf.isdecimal() or str(int(crf)) != crf or int(crf) > ENCODERS[kind].largest_crf:
        raise ValueError(f"no codec {name!r}: expected one of {valid}, such as {FAMILY}/x265-27")
    encoder = ENCODERS[kind]
    return VAESpec(
        family=FAMILY,
        variant=f"{kind}-{crf}",
        temporal_compression=1,
        spatial_compression=1,
        latent_channels=3,
        causal=False,  # encoders look ahead
        size_multiple=2,  # 4:2:0
        codec=True,
        license=f"Apache-2.0; {encoder.name}: {encoder.license}",
        reference=encoder.reference,
        clamps=True,
    )


def requires(spec: VAESpec) -> None:
    """Check that PyAV has the encoder and the decoder.

    Raises:
        ImportError: it has not; the message names both and the remedy
    """
    import av

    encoder = _encoder(spec)
    if missing := {encoder.name, encoder.decoder} - av.codecs_available:
        raise ImportError(
            f"PyAV {av.__version__} was built without {', '.join(sorted(missing))}: pip install --force-reinstall av (the wheels "
            "of PyPI have it)"
        )


class Codec:
    """A `vaebench.vae.CodedVAE`: the latent holds the packets as bytes, in a buffer of the shape of the video.

    The buffer (B, 3, T, H, W) has one byte per value, in 0..255, in reading order: the number of packets, the size of each
    packet (four bytes each, the lowest first), and the packets; zeros follow.
    """

    def __init__(self, spec: VAESpec) -> None:
        self.spec = spec

    def encode(self, video: Video) -> Posterior:
        import torch

        clips = [_pack(self._packets(clip), clip.numel(), self.spec) for clip in video]
        return Posterior(torch.stack(clips).view(video.shape).to(video.device))

    def decode(self, latent: Latent) -> Video:
        import torch

        _, _, frames, height, width = latent.shape
        clips = []
        for stored in latent:
            clip = self._frames(_unpack(stored))
            if tuple(clip.shape) != (3, frames, height, width):
                raise ValueError(
                    f"{self.spec.name}: the decoder returned {tuple(clip.shape)}, expected {(3, frames, height, width)}"
                )
            clips.append(clip)
        return torch.stack(clips).to(latent.device)

    def bits(self, latent: Latent) -> torch.Tensor:
        """(B, 3, T, H, W), as `encode` returns it -> int64 (B,): the bits of all packets of a clip."""
        import torch

        return torch.tensor([8 * sum(map(len, _unpack(clip))) for clip in latent])

    def _packets(self, clip: torch.Tensor) -> list[bytes]:
        """float32 (3, T, H, W) in -1..1 -> the packets of the encoder."""
        import av
        from av.video.codeccontext import VideoCodecContext

        encoder = _encoder(self.spec)
        _, frames, height, width = clip.shape
        if min(height, width) < encoder.smallest_side:
            raise ValueError(
                f"{self.spec.name}: {encoder.name} needs frames of {encoder.smallest_side}x{encoder.smallest_side} or more, "
                f"got {height}x{width}"
            )
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings on every call otherwise; 1: errors only
        context = av.CodecContext.create(encoder.name, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = Fraction(1, RATE), Fraction(RATE)
        context.thread_count = 1
        context.options = {**encoder.options, "crf": self.spec.variant.rpartition("-")[2]}
        packets = []
        for index in range(frames):
            picture = _picture(to_yuv(clip[:, index]))
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            packets += context.encode(picture)
        packets += context.encode(None)
        data = [bytes(packet) for packet in packets]
        return [_without_text(packet) for packet in data] if encoder.decoder == "h264" else data

    def _frames(self, packets: Sequence[bytes]) -> torch.Tensor:
        """The packets of a clip -> float32 (3, T, H, W) in -1..1."""
        import av
        import torch
        from av.video.codeccontext import VideoCodecContext

        context = av.CodecContext.create(_encoder(self.spec).decoder, "r")
        assert isinstance(context, VideoCodecContext)
        context.thread_count = 1
        pictures = [picture for packet in packets for picture in context.decode(av.Packet(packet))]
        pictures += context.decode(None)
        if not pictures:
            raise ValueError(f"{self.spec.name}: the decoder returned no frames from {len(packets)} packets")
        return torch.stack([to_rgb(*_planes(picture.to_ndarray())) for picture in pictures], dim=1)


def _picture(planes: tuple[torch.Tensor, torch.Tensor]) -> av.VideoFrame:  # type: ignore[name-defined]  # noqa: F821
    """uint8 luma (H, W) and chroma (2, H/2, W/2) -> a frame of PyAV in yuv420p."""
    import av

    luma, chroma = planes
    picture = av.VideoFrame(luma.shape[1], luma.shape[0], "yuv420p")
    for plane, values in zip(picture.planes, (luma, *chroma), strict=True):
        rows = values.new_zeros(plane.height, plane.line_size)  # a row of PyAV is longer than the picture
        rows[:, : plane.width] = values
        plane.update(rows.numpy())
    return picture


def _planes(stacked: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 (3 H / 2, W), the planes of yuv420p one below the other -> luma (H, W) and chroma (2, H/2, W/2)."""
    import torch

    rows, width = stacked.shape
    height = rows * 2 // 3
    planes = torch.from_numpy(stacked)
    return planes[:height], planes[height:].reshape(2, height // 2, width // 2)


def _without_text(packet: bytes) -> bytes:
    """An H.264 packet without its SEI units (type 6): 672 bytes of text about x264's settings, which no decoder needs."""
    units = [unit for unit in re.split(b"\x00?\x00\x00\x01", packet) if unit and unit[0] & 31 != 6]
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in units)


def _pack(packets: list[bytes], room: int, spec: VAESpec) -> torch.Tensor:
    """Packets -> float32 (room,) as described in `Codec`."""
    import torch

    numbers = [len(packets), *map(len, packets)]
    data = b"".join([*(number.to_bytes(4, "little") for number in numbers), *packets])
    if len(data) > room:
        raise ValueError(
            f"{spec.name}: {len(data)} bytes, more than the {room} bytes of the clip itself: raise the CRF"
        )
    buffer = torch.zeros(room)
    buffer[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8).float()
    return buffer


def _unpack(stored: torch.Tensor) -> list[bytes]:
    """(3, T, H, W) as described in `Codec` -> packets."""
    import torch

    data = stored.detach().flatten().cpu().to(torch.uint8).numpy().tobytes()
    count = int.from_bytes(data[:4], "little")
    sizes = [int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(1, count + 1)]
    packets, start = [], 4 * (count + 1)
    for size in sizes:
        packets.append(data[start : start + size])
        start += size
    return packets


def _encoder(spec: VAESpec) -> Encoder:
    return ENCODERS[spec.variant.rpartition("-")[0]]


def load(
    spec: VAESpec,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> VideoVAE:
    return Codec(spec)
