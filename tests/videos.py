"""Small videos for tests, written with PyAV, and folders of images."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pictures(count: int, height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 (count, height, width, 3): smooth colour and a bright square that moves, every frame different."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    frames = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1)
    frames = np.repeat(frames[None], count, 0)
    for time, (top, left) in enumerate(rng.integers(0, (height // 2, width // 2), (count, 2))):
        frames[time, top : top + height // 3, left : left + width // 3] = (40 + time * 5 % 200, 200, 90)
    return frames.astype(np.uint8)


def write(
    file: Path,
    frames: NDArray[np.uint8],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: list[int] | None = None,
    form: str = "rgb24",
    options: dict[str, str] | None = None,
    **settings: Any,
) -> Path:
    """Encode frames (T, H, W, C) at 25 fps, or at the given `times`; `settings` are attributes of the encoder."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 25)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for time, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format=form)
            frame.pts = times[time] if times else time
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


def write_yuv(file: Path, yuv: tuple[int, int, int], codec: str, pix_fmt: str, **settings: Any) -> Path:
    """Two flat frames of 64x64 that hold exactly these code values."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"qp": "0"} if codec == "libx264" else {})
        stream.height = stream.width = 64
        stream.pix_fmt = pix_fmt
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for time in range(2):
            frame = av.VideoFrame(64, 64, pix_fmt)
            for plane, value in zip(frame.planes, yuv, strict=False):
                dtype = np.uint16 if "10" in pix_fmt else np.uint8
                plane.update(np.full(plane.buffer_size // dtype().itemsize, value, dtype).tobytes())
            for name, value in settings.items():
                setattr(frame, name, value)
            frame.pts = time
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file


def write_images(folder: Path, frames: NDArray[np.uint8]) -> Path:
    """A folder of the frames, their numbers unpadded as in SkyTimelapse: 10 sorts before 2."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(folder / f"sky_frames_{number}.png")
    return folder
