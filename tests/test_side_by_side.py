"""The video for viewing: its layout, its errors, its titles and what a player needs."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from vaebench import side_by_side

SHADES = {"reference": 100, "A: toy/one": 110, "B: a name that is far too long for one column of sixty-four pixels": 60}


def frames(value: int, count: int = 3, height: int = 64, width: int = 48) -> np.ndarray:
    return np.full((count, height, width, 3), value, np.uint8)


def test_each_column_shows_its_video_and_its_error_below(tmp_path: Path):
    reference, *others = (frames(value) for value in SHADES.values())
    titles = list(SHADES)[1:]
    file = tmp_path / "new" / "x.mp4"
    side_by_side.write(file, reference, dict(zip(titles, others, strict=True)), fps=12.5)
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 12.5
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(pictures) == 3
    height, width = 256, 192  # four times the frames of 64x48
    assert pictures[0].shape == (2 * (height + side_by_side.BAND), 3 * width + 2 * side_by_side.GAP, 3)
    for picture in pictures:
        for column, value in enumerate(SHADES.values()):
            left, top = column * (width + side_by_side.GAP), side_by_side.BAND
            inside = (slice(top + 8, top + height - 8), slice(left + 8, left + width - 8))
            assert np.abs(picture[inside].astype(int) - value).max() <= 3
            below = (slice(inside[0].start + height + side_by_side.BAND, inside[0].stop + height), inside[1])
            expected = 255 if not column else min(255, side_by_side.AMPLIFIED * abs(value - 100))
            assert np.abs(picture[below].astype(int) - expected).max() <= 3
        assert picture[: side_by_side.BAND].min() < 100  # the titles


@pytest.mark.parametrize("shape", [(7, 5), (301, 299)])  # H.264 needs even sizes
def test_odd_sizes_are_padded(shape: tuple[int, int], tmp_path: Path):
    video = frames(100, 1, *shape)
    side_by_side.write(tmp_path / "x.mp4", video, {"A": video}, fps=0)
    with av.open(str(tmp_path / "x.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1


def test_another_shape_than_the_reference_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"B has the shape \(2, 64, 48, 3\), its reference \(3, 64, 48, 3\)"):
        side_by_side.write(tmp_path / "x.mp4", frames(1), {"B": frames(1, 2)}, fps=1)
    assert list(tmp_path.iterdir()) == []
