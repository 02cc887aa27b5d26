"""The pictures that `keep=N` saves: the shape of their frames, and the record that they belong to."""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from adapters.pool import Pool
from tests.records import quality
from tests.runs import run
from vaebench import cli, jobs, kept_pictures, plots, records
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


def shown() -> tuple[list[str], list[str]]:
    """Names of the VAEs whose pictures are in the strips, and in the report."""
    strips = list(plots.figures()["strips"](Path("runs/results"), "screen"))
    rows = [axes.get_title(loc="left") for _, figure in strips for axes in figure.axes[::4]]
    plt.close("all")
    everything = list(records.read_all(Path("runs/results")))
    kept = clips.collect(Path("runs/results"), everything, {id(record): 0 for record in everything})
    names = [vae["name"] for clip in kept.clips for vae in clip["vaes"]]
    return sorted(row.partition(",")[0] for row in rows if row != "reference"), sorted(names)


def test_pictures_of_an_earlier_run_are_not_shown_with_the_new_record(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    words = ["vaes=[pool/4x8x8,dct/4]", "clips=1"]
    assert run(*words, "keep=1") == 0
    both = ["dct/4", "pool/4x8x8"]
    assert shown() == (both, both)
    files = sorted(str(file) for file in Path("runs/results/reconstruction").glob("*/*.json"))
    decode = Pool.decode
    monkeypatch.setattr(Pool, "decode", lambda self, latent: decode(self, latent) / 2)
    monkeypatch.setattr(jobs, "code", lambda modules: "edited")
    assert run(*words) == 0
    assert shown() == ([], [])
    capsys.readouterr()
    assert cli.main(["compare", *files, "--out", "pictures"]) == 0
    assert "no pictures of bundle/" in capsys.readouterr().err
    assert run(*words, "keep=1") == 0
    assert shown() == (both, both)
    assert run(*words) == 0  # the same measurement, so its pictures remain valid
    assert shown() == (both, both)


def test_only_a_picture_with_another_fingerprint_is_of_another_run(tmp_path: Path):
    record, file, _ = saved(tmp_path, 16, 16)
    other = replace(record, fingerprint="1" * 16)
    assert kept_pictures.of_record(tmp_path, record) == [file]
    assert kept_pictures.of_record(tmp_path, other) == []
    assert kept_pictures.find(file.parent, record, "x") == file
    assert kept_pictures.find(file.parent, other, "x") is None
    assert kept_pictures.find(file.parent, record, "y") is None
    with pytest.raises(ValueError, match=r"x\.png is of another run than its record: run this VAE again with keep=N"):
        kept_pictures.required(file.parent, other, "x")
    without_texts(file)  # earlier versions wrote no fingerprint
    assert kept_pictures.of_record(tmp_path, other) == [file]
    assert kept_pictures.required(file.parent, other, "x") == file
