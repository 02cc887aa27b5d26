"""A protocol decides how every data source resizes its clips."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.sources import build
from tests.test_shards import pack
from vaebench.video import to_model


@pytest.fixture(params=["folder", "shards", "skytimelapse"])
def clip_under(request: pytest.FixtureRequest, video: Path, tmp_path: Path):
    """A function: protocol -> the first clip of the source, as it is loaded."""
    if request.param == "skytimelapse":
        root = request.getfixturevalue("sky")
    else:
        root = tmp_path / "clips"
        root.mkdir()
        (root / "a.mp4").write_bytes(video.read_bytes())
        pack(root / "0.tar", {"a.mp4": video.read_bytes()})
    return lambda name: next(iter(build(request.param, root, protocol=name, size=24))).load()


def test_the_filter_is_that_of_the_protocol(clip_under):
    default, floats = clip_under("default"), clip_under("wfvae-paper")
    assert default.dtype == torch.uint8
    assert floats.dtype == torch.float32
    assert floats.shape == default.shape == (3, 5, 24, 24)
    assert (floats * 255 - default).abs().max() <= 1  # the same filter, not rounded
    assert not torch.equal((floats * 255).round(), floats * 255)
    others = [clip_under(name) for name in ("default-bilinear", "default-lanczos")]
    assert all(other.dtype == torch.uint8 and not torch.equal(other, default) for other in others)
    assert (to_model(floats) - to_model(default)).abs().max() <= 1 / 127
