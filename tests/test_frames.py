"""From frames to clips: torchvision's sizes, Pillow's filter, and one set of pixels for every machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from vaebench.frame_size import parse
from vaebench.video_io import resize

ROOT = Path(__file__).parents[1]
SIZES = [
    (320, 568, 256),
    (189, 253, 256),
    (720, 1280, 256),
    (16, 16, 64),
    (64, 512, 48),
    (256, 342, 256),
    (100, 77, 33),
]
# sha256 of all of `golden()`: changes with any change of a pixel, on any machine
GOLDEN = "1dbb4d7326d91a13042ccce5bae271b5c7a47d0dd62545d60c9ab41a1fcf89bc"


def noise(height: int, width: int) -> Tensor:
    """uint8 (H, W, 3), the same on every machine."""
    values = np.arange(height * width * 3, dtype=np.uint64) * np.uint64(2654435761) >> np.uint64(13)
    return torch.from_numpy((values % np.uint64(256)).astype(np.uint8).reshape(height, width, 3))


def golden() -> str:
    digest = hashlib.sha256()
    for height, width, size in SIZES:
        digest.update(resize.fit(noise(height, width), size).numpy().tobytes())
    return digest.hexdigest()


def test_pixels_are_pinned() -> None:
    assert golden() == GOLDEN


def test_a_processor_without_vector_units_gives_the_same_pixels() -> None:
    script = "from tests.test_frames import golden; print(golden())"
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    printed = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == GOLDEN


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_sizes_and_places_are_those_of_torchvision(height: int, width: int, size: int) -> None:
    """torchvision takes floats where the processor lacks AVX2, hence one step of tolerance."""
    frame = noise(height, width)
    theirs = vision.center_crop(vision.resize(frame.permute(2, 0, 1), [size], antialias=True), [size, size])
    assert (resize.fit(frame, size).int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_the_filter_is_that_of_pillow_within_one_step(height: int, width: int, size: int) -> None:
    frame = noise(height, width)
    short = min(height, width)
    image = Image.fromarray(frame.numpy()).resize(
        (size * width // short, size * height // short), Image.Resampling.BILINEAR
    )
    theirs = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    top, left = round((theirs.shape[1] - size) / 2), round((theirs.shape[2] - size) / 2)
    theirs = theirs[:, top : top + size, left : left + size]
    assert (resize.fit(frame, size).int() - theirs.int()).abs().max() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))
def test_any_frame_becomes_a_square(height: int, width: int, size: int) -> None:
    assert resize.fit(noise(height, width), size).shape == (3, size, size)


@pytest.mark.parametrize(
    ("height", "width", "size"), [*SIZES, *((h, w, 480) for h in (7, 481, 1080) for w in (9, 853))]
)
def test_the_resize_to_a_square_is_that_of_the_short_side(height: int, width: int, size: int) -> None:
    short = min(height, width)
    assert resize.covering(height, width, size) == (int(size * height / short), int(size * width / short))


@pytest.mark.parametrize(
    ("height", "width", "size", "resized"),
    [
        (720, 1280, "480x832", (480, 853)),  # wider than the size: the height decides
        (480, 640, "480x832", (624, 832)),  # less wide: the width decides
        (1280, 720, "832x480", (853, 480)),
        (480, 832, "480x832", (480, 832)),
        (256, 342, "24x40", (29, 40)),
        (30, 40, "60x20", (60, 80)),
    ],
)
def test_another_shape_is_covered_and_its_middle_kept(
    height: int, width: int, size: str, resized: tuple[int, int]
) -> None:
    """torchvision takes floats where the processor lacks AVX2, hence one step of tolerance."""
    frame = noise(height, width)
    sides = list(parse(size))
    assert resize.covering(height, width, size) == resized
    theirs = vision.center_crop(vision.resize(frame.permute(2, 0, 1), list(resized), antialias=True), sides)
    ours = resize.fit(frame, size)
    assert list(ours.shape[1:]) == sides
    assert (ours.int() - theirs.int()).abs().max() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_a_resized_frame_covers_any_size_and_keeps_its_shape(height: int, width: int, tall: int, wide: int) -> None:
    resized = resize.covering(height, width, f"{tall}x{wide}")
    assert resized[0] >= tall
    assert resized[1] >= wide
    assert tall == resized[0] or wide == resized[1]
    assert resize.fit(noise(height, width), f"{tall}x{wide}").shape == (3, tall, wide)


def test_a_frame_of_the_right_height_is_only_cropped() -> None:
    frame = noise(20, 31)
    assert torch.equal(
        resize.fit(frame, 20), frame.permute(2, 0, 1)[:, :, 6:26]
    )  # 5.5 rounds to even, as torchvision does


def test_a_fine_grating_is_averaged_and_not_aliased() -> None:
    lines = torch.zeros(120, 120, 3, dtype=torch.uint8)
    lines[::2] = 255
    inside = resize.fit(lines, 20)[:, 2:-2, 2:-2].float()
    assert (inside - 127.5).abs().max() < 16  # without antialiasing it is 0 or 255


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_float_is_torchvisions_resize_of_float_pixels(height: int, width: int, size: int) -> None:
    frame = noise(height, width)
    unit = frame.permute(2, 0, 1) / 255
    theirs = vision.center_crop(vision.resize(unit, [size], antialias=True), [size, size])
    assert torch.equal(resize.fit(frame, size, "float"), theirs)


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_bilinear_is_torchvisions_resize_without_antialiasing(height: int, width: int, size: int) -> None:
    frame = noise(height, width)
    floats = vision.resize(frame.permute(2, 0, 1).float(), [size], antialias=False)
    theirs = vision.center_crop(floats, [size, size]).round()
    assert (resize.fit(frame, size, "bilinear") - theirs).abs().max() <= 1  # a tie may round either way


def test_lanczos_is_that_of_pillow() -> None:
    frame = noise(40, 60)
    image = Image.fromarray(frame.numpy()).resize((36, 24), Image.Resampling.LANCZOS)
    theirs = torch.from_numpy(np.array(image)).permute(2, 0, 1)[:, :, 6:30]
    assert torch.equal(resize.fit(frame, 24, "lanczos"), theirs)
    assert not torch.equal(resize.fit(frame, 24), theirs)


@pytest.mark.parametrize("how", resize.FILTERS)
def test_every_resize_only_crops_a_frame_of_the_right_height(how: str) -> None:
    frame = noise(20, 31)
    cropped = frame.permute(2, 0, 1)[:, :, 6:26]
    assert torch.equal(resize.fit(frame, 20, how), cropped / 255 if how == "float" else cropped)


def test_a_clip_has_channels_first_and_frames_second() -> None:
    frames = [noise(30, 40), noise(30, 40).flip(0), noise(30, 40).flip(1)]
    clip = resize.clip((frame.numpy() for frame in frames), 24)
    assert clip.shape == (3, 3, 24, 24)
    assert clip.dtype == torch.uint8
    assert torch.equal(clip[:, 1], resize.fit(frames[1], 24))
