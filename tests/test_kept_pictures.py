"""The pictures that `keep=N` saves: their layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.records import quality
from vaebench import kept_pictures, records
from vaebench.report import clips

SHAPES = [(24, 40), (72, 128), (16, 16)]


def saved(root: Path, height: int, width: int) -> tuple[records.Record, Path, np.ndarray]:
    """A record without a size, as `vaebench score` writes it, and its picture with three frames."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, height, width, 3), dtype=np.uint8)
    record = quality("toy/a")
    record = replace(record, config={**record.config, "size": 0})
    records.write(record, root, {"x": {"psnr": 30.0}})
    kept_pictures.write_all(root, record, {"x": frames})
    return record, kept_pictures.path(kept_pictures.folder(root, record), "x"), frames


def without_texts(file: Path) -> None:
    """Remove the text entries, which earlier versions did not write."""
    with Image.open(file) as picture:
        pixels = np.asarray(picture)
    Image.fromarray(pixels).save(file)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_report_shows_frames_of_any_shape_whose_size_is_not_in_the_record(shape: tuple[int, int], tmp_path: Path):
    record, file, frames = saved(tmp_path, *shape)
    kept = clips.collect(tmp_path, [record], {id(record): 0})
    (clip,) = kept.clips
    assert (clip["source"], clip["count"], clip["height"], clip["width"]) == ("pictures", 3, *shape)
    assert np.array_equal(kept_pictures.read(file, 1), frames)


@pytest.mark.parametrize("shape", SHAPES)
def test_frames_of_earlier_versions_have_the_shape_of_the_size(shape: tuple[int, int], tmp_path: Path):
    _, file, frames = saved(tmp_path, *shape)
    without_texts(file)
    height, width = shape
    assert np.array_equal(kept_pictures.read(file, f"{height}x{width}"), frames)
    with pytest.raises(ValueError, match=rf"x\.png should have RGB frames of the shape 7x23.*\({2 * height}, "):
        kept_pictures.read(file, "7x23")


@pytest.mark.parametrize("count", [7, 999])
def test_a_number_of_frames_that_does_not_fit_is_refused(count: int, tmp_path: Path):
    about = PngInfo()
    about.add_text("frames", str(count))
    Image.new("RGB", (48, 32)).save(tmp_path / "x.png", pnginfo=about)
    with pytest.raises(ValueError, match=f"should have {count} RGB frames of one width"):
        kept_pictures.read(tmp_path / "x.png", 16)
