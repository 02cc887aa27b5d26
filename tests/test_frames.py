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
