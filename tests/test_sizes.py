"""Frames of any shape: size=480x832 in every source and suite, and sizes=A,B in one run."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

import adapters
import vaebench
from tests.records import record as toy_record
from vaebench import cli, plot_style, plots, plugins, records
from vaebench.config import parse_run
from vaebench.metric import Metric
from vaebench.records import Score
from vaebench.scoring import build_metrics

SMALL = ("vaes=pool/4x8x8", "num_frames=4", "clips=2", "metrics=psnr")
pytestmark = pytest.mark.usefixtures("elsewhere")


def found() -> dict[str, records.Record]:
    return {record.setting: record for record in records.read_all(Path("runs/results"), "reconstruction")}


@pytest.mark.parametrize("source", ["bundle", "synthetic"])
@pytest.mark.parametrize(("size", "shape"), [("24x40", (24, 40)), ("40x24", (40, 24)), ("32x32", (32, 32))])
def test_every_source_gives_clips_of_the_size(source: str, size: str, shape: tuple[int, int]):
    config = parse_run([f"data={source}", f"size={size}", "num_frames=3"])
    clip = next(iter(plugins.find("data", source).build(config)))
    frames = clip.load()
    assert frames.shape == (3, 3, *shape)
    assert frames.float().std() > 5


def test_a_synthetic_clip_of_another_shape_is_the_middle_of_the_square_one():
    def frames(size: str) -> torch.Tensor:
        return next(iter(plugins.find("data", "synthetic").build(parse_run([f"size={size}", "num_frames=3"])))).load()

    assert torch.equal(frames("24x40"), frames("40")[..., 8:32, :])


def test_a_run_at_another_shape_has_a_setting_and_a_store_of_its_own(capsys: pytest.CaptureFixture[str]):
    for size in ("40", "24x40", "40x24"):
        assert cli.main(["run", *SMALL, f"size={size}"]) == 0
    by_setting = found()
    assert set(by_setting) == {f"bundle-4x{size}-first2-psnr" for size in ("40", "24x40", "40x24")}
    assert len({record.fingerprint for record in by_setting.values()}) == 3
    assert len({record.scores["psnr"].value for record in by_setting.values()}) == 3
    assert by_setting["bundle-4x24x40-first2-psnr"].config["size"] == "24x40"
    assert by_setting["bundle-4x40-first2-psnr"].config["size"] == 40


def test_a_square_written_with_both_sides_is_the_same_run():
    assert cli.main(["run", *SMALL, "size=40x40"]) == 0
    (record,) = found().values()
    assert (record.setting, record.config["size"]) == ("bundle-4x40-first2-psnr", 40)


def test_the_score_is_that_of_the_clips_cropped_by_hand():
    score = vaebench.evaluate(
        vae := adapters.load("pool/4x8x8"), num_frames=4, size="24x40", clips=1, metrics=["psnr"]
    ).scores["psnr"]
    clip = next(iter(plugins.find("data", "bundle").build(parse_run(["size=24x40", "num_frames=4"])))).load()
    video = clip.float().div(127.5).sub(1)[None]
    out = vae.decode(vae.encode(video).mode()).add(1).mul(127.5).clamp(0, 255).round()
    error = (out - clip.float()).div(255).square().mean(dim=(1, 3, 4))
    assert score.value == pytest.approx(float((-10 * error.log10()).mean()), abs=1e-3)


def test_other_shapes_run_through_the_modes_of_a_vae():
    words = ("vaes=wfvae/tiny", "num_frames=5", "size=32x48", "clips=1", "metrics=psnr", "independent=5")
    assert cli.main(["run", "--suite", "blockwise", *words]) == 0
    (record,) = records.read_all(Path("runs/results"), "blockwise")
    assert record.setting.startswith("bundle-5x32x48")
    assert record.failed == []
    assert record.scores["psnr@streamed"].value == pytest.approx(0, abs=1e-3)  # it is lossless


def test_several_sizes_of_one_run_have_a_record_each(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", *SMALL, "sizes=24,24x40"]) == 0
    out = capsys.readouterr().out
    assert "bundle-4x24-first2-psnr" in out
    assert "bundle-4x24x40-first2-psnr" in out
    by_setting = found()
    assert {record.config["size"] for record in by_setting.values()} == {24, "24x40"}
    assert all("sizes" not in record.config["options"] for record in by_setting.values())
    file = Path("runs/results/reconstruction/bundle-4x24x40-first2-psnr/pool-4x8x8.json")
    before = by_setting["bundle-4x24x40-first2-psnr"].scores
    assert cli.main(["run", "--config", str(file), "results=again"]) == 0
    (again,) = records.read_all(Path("again"), "reconstruction")
    assert again.scores == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["size=480p"], "size='480p' should be a side such as 256, or height x width such as 480x832"),
        (["size=0"], "size='0' should be"),
        (["size=24x0"], "size='24x0' should be"),
        (["sizes=24,tall"], "sizes='tall' should be"),
        (["sizes=24,24x24"], "sizes: 24 is given twice (24x24 is the same size); name each size once"),
        (["sizes=24x40,24x40"], "sizes: 24x40 is given twice; name each size once"),
        (["sizes=24,32", "size=40"], "size=40 and sizes=24,32: set one of them"),
        (
            ["--suite", "diffusability", "tier=0", "size=24x40"],
            "size=24x40: the diffusability suite generates square videos; give one side, such as size=24",
        ),
    ],
)
def test_an_invalid_size_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", "vaes=pool/4x8x8", *words]) == 2
    assert message in capsys.readouterr().err


def test_one_call_makes_one_record():
    with pytest.raises(ValueError, match=r"sizes=.* gives a record per size: use `vaebench run`"):
        vaebench.evaluate(adapters.load("pool/4x8x8"), num_frames=4, clips=1, sizes=["24", "32"])


class OnlySquare(Metric):
    square = True

    def measure(self, reference, reconstruction):
        return torch.zeros(len(reference))

    def reduce(self, statistics):
        return 0.0


def test_a_metric_of_square_frames_is_absent_with_the_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plugins.find("metrics", "psnr"), "build", lambda device: OnlySquare())
    metrics, absent = build_metrics(["psnr"], torch.device("cpu"), 4, "24x40")
    assert metrics == {}
    assert absent == {"psnr": "needs square frames, these have 24x40; give one side, such as size=24"}
    assert list(build_metrics(["psnr"], torch.device("cpu"), 4, 24)[0]) == ["psnr"]


def test_fvd_needs_square_frames():
    from vaebench.metrics.fvd import FVD
    from vaebench.metrics.i3d_l2 import I3DL2

    assert FVD.square
    assert I3DL2.square


def test_kept_frames_of_another_shape_are_drawn(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", *SMALL, "size=24x40", "keep=1"]) == 0
    (sheet,) = Path("runs/results").rglob("*.png")
    with Image.open(sheet) as picture:
        assert (picture.height, picture.width) == (2 * 24, 3 * 40)
        pixels = np.asarray(picture).astype(np.float32) / 255
    with plot_style.applied("screen"):
        ((_, figure),) = plots.figures()["strips"](Path("runs/results"), "screen")
        drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
        plt.close(figure)
    assert np.allclose(drawn[0], pixels[:24, 80:])  # the last frame of the reference
    assert any(np.allclose(image, pixels[24:, 80:]) for image in drawn if image.shape == (24, 40, 3))


def test_relay_and_latent_run_at_another_shape_and_relay_draws_its_frames(capsys: pytest.CaptureFixture[str]):
    words = ("vaes=pool/4x8x8", "num_frames=17", "clips=1", "size=32x48")
    assert cli.main(["run", "--suite", "relay", *words, "protocols=loop", "hops=2", "keep=1"]) == 0
    assert cli.main(["plot", "--only", "relay_strips"]) == 0
    assert cli.main(["run", "--suite", "relay", *words[:-1], "size=32x47", "protocols=ltx-first-frame", "hops=1"]) == 2
    assert "size=32x47: ltx-first-frame compresses frames with H.264" in capsys.readouterr().err
    assert cli.main(["run", "--suite", "latent", *words]) == 0


def test_videos_made_elsewhere_are_scored_at_another_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    bundle = str(Path(vaebench.__file__).parent / "data/bundle")
    words = ["--reference", bundle, "--reconstruction", bundle, "num_frames=2", "metrics=psnr"]
    assert cli.main(["score", *words, "size=24x40"]) == 0
    (record,) = found().values()
    assert record.config["size"] == "24x40"
    assert record.scores["psnr"].value == pytest.approx(58.92, abs=0.01)
    assert cli.main(["score", *words, "size=400x4000"]) == 1
    assert "smaller than size=400x4000" in capsys.readouterr().err


def test_the_figure_has_each_metric_over_the_pixels_of_a_frame(capsys: pytest.CaptureFixture[str]):
    words = ("vaes=pool/4x8x8,dct/4", "num_frames=4", "clips=3", "metrics=psnr,ssim", "sizes=24,24x40,48")
    assert cli.main(["run", *words]) == 0
    with plot_style.applied("screen"):
        ((stem, figure),) = plots.figures()["resolution"](Path("runs/results"), "screen")
        left, right = figure.axes
        labels = [axes.get_ylabel() for axes in (left, right)]
        ticks = [text.get_text() for text in left.get_xticklabels()]
        lines = {container.get_label(): container.lines[0] for container in left.containers}
        plt.close(figure)
    assert stem == "resolution-bundle-4-frames-first3-psnr+ssim"
    assert labels == ["psnr [dB] (higher is better)", "ssim (higher is better)"]
    assert ticks == ["24x24", "24x40", "48x48"]
    by_setting = {(record.name, record.config["size"]): record for record in records.read_all(Path("runs/results"))}
    for name in ("pool/4x8x8", "dct/4"):
        assert list(lines[name].get_xdata()) == [24 * 24, 24 * 40, 48 * 48]
        expected = [by_setting[name, size].scores["psnr"].value for size in (24, "24x40", 48)]
        assert np.allclose(lines[name].get_ydata(), expected)


def test_a_record_without_a_valid_size_is_named(capsys: pytest.CaptureFixture[str]):
    made = toy_record(
        "reconstruction", "clips-4x24", "toy/a", {"psnr": Score(30, "dB", "higher", 1, metric="psnr")}, weights="none"
    )
    file = records.write(made, Path("results"), {})
    content = json.loads(file.read_text())
    content["config"]["size"] = "tall"
    file.write_text(json.dumps(content))
    assert cli.main(["plot", "--results", "results", "--only", "resolution"]) == 2
    assert f"{file} is not a valid record of suite reconstruction: config.size='tall'" in capsys.readouterr().err
