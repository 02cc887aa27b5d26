"""A video for viewing: reference and reconstructions beside each other, with amplified errors below, as an mp4 file.

H.264 plays everywhere and is lossy: measure on the lossless videos of `keep_video`, not on this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaebench.files import draft

AMPLIFIED = 4  # factor that makes errors visible
SMALLEST = 256  # pixels; smaller frames are enlarged by a whole factor
BAND = 24  # height of a line of text in pixels
GAP = 4  # pixels between pictures
CRF = "12"  # hardly visible loss
UNKNOWN_FPS = 24.0  # display rate of clips whose own rate is unknown


def write(file: Path, reference: NDArray, reconstructions: Mapping[str, NDArray], fps: float) -> None:
    """Write the video.

    Args:
        reference: uint8 (T, H, W, 3)
        reconstructions: title -> uint8 of the same shape
        fps: frames per second; 0 if unknown

    Raises:
        ValueError: a reconstruction has another shape than the reference
        OSError: the file cannot be written
    """
    import av

    for title, frames in reconstructions.items():
        if frames.shape != reference.shape:
            raise ValueError(f"{title} has the shape {frames.shape}, its reference {reference.shape}")
    titles = ["reference", *reconstructions]
    canvas = _canvas(titles, reference.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    with draft(file) as part, av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps or UNKNOWN_FPS).limit_denominator(1001))
        stream.height, stream.width = canvas.shape[:2]
        stream.pix_fmt = "yuv420p"  # the only format that all browsers play
        stream.codec_context.options = {"crf": CRF}
        for time, real in enumerate(reference):
            picture = _picture(canvas, real, [frames[time] for frames in reconstructions.values()])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _factor(height: int) -> int:
    """The factor by which frames are enlarged."""
    return max(1, -(-SMALLEST // height))


def _places(shape: tuple[int, ...], columns: int) -> tuple[int, int, list[int], list[int]]:
    """Height and width of an enlarged frame, and the left and top edges of all pictures."""
    factor = _factor(shape[1])
    height, width = factor * shape[1], factor * shape[2]
    lefts = [column * (width + GAP) for column in range(columns)]
    return height, width, lefts, [BAND, 2 * BAND + height]


def _canvas(titles: list[str], shape: tuple[int, ...]) -> NDArray:
    """uint8 (H, W, 3), H and W even as H.264 needs them: white with the titles, without pictures."""
    from PIL import Image, ImageDraw, ImageFont

    height, width, lefts, (first, second) = _places(shape, len(titles))
    tall, wide = second + height, lefts[-1] + width
    image = Image.new("RGB", (wide + wide % 2, tall + tall % 2), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=BAND * 0.6)
    for i, (title, left) in enumerate(zip(titles, lefts, strict=True)):
        draw.text((left + GAP, first - BAND + 3), _fitting(title, width, font), fill="black", font=font)
        if i:
            draw.text((left + GAP, second - BAND + 3), f"error x {AMPLIFIED}", fill="black", font=font)
    return np.asarray(image)


def _fitting(title: str, width: int, font: object) -> str:
    """The title, cut at the end to fit into `width` pixels."""
    shown = title
    while shown and font.getlength(shown) > width - 2 * GAP:  # type: ignore[attr-defined]  # of Pillow, without types
        shown = shown[:-1]
    return shown


def _picture(canvas: NDArray, real: NDArray, reconstructed: list[NDArray]) -> NDArray:
    """One frame of the video: the canvas with the pictures, uint8 (H, W, 3) each."""
    picture = canvas.copy()
    height, width, lefts, (first, second) = _places((1, *real.shape), 1 + len(reconstructed))
    factor = _factor(real.shape[0])
    for i, (left, frame) in enumerate(zip(lefts, [real, *reconstructed], strict=True)):
        error = np.abs(frame.astype(np.int16) - real) * AMPLIFIED
        for top, pixels in ((first, frame), (second, error.clip(0, 255).astype(np.uint8))):
            if i or top == first:  # the reference has no error
                enlarged = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
                picture[top : top + height, left : left + width] = enlarged
    return picture
