"""The figure of protocols: changes from the default on the same clips, one row per protocol, one marker per VAE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from tests.records import record
from vaebench import cli, plot_style, protocol, records
from vaebench.plots import Incomplete, protocols
from vaebench.records import Score, by_key

CLIPS = [30.0, 31.0, 35.0]


def write(folder: Path, name: str, by: list[float], vae: str = "toy-a/one", metric: str = "psnr", **config: object):
    """The record of `vae` under a protocol, with the scores of three clips changed by `by`."""
    values = np.add(CLIPS, by)
    scores = by_key([Score(float(values.mean()), "dB", "higher", 3, 1.0, 29.0, 35.0, metric=metric)])
    config = {"protocol": name, "clips": None, "mode": "", "seed": 0, "posterior": "", "dtype": "", **config}
    setting = f"bundle-33x256-{name}" + ("-other" if config["dtype"] or config["seed"] else "")
    made = replace(record("reconstruction", setting, vae, scores, config=config), data={"name": "bundle"})
    records.write(made, folder, {f"clip{i}": {metric: float(value)} for i, value in enumerate(values)})


def drawn(folder: Path) -> dict[str, list[Axes]]:
    """Stem of each figure -> its panels."""
    with plot_style.applied("screen"):
        return {stem: figure.axes for stem, figure in protocols.protocols(folder, "screen")}


def markers(axes: Axes) -> list[tuple[float, int]]:
    """(change, row) of each marker, top to bottom."""
    points = [container[0].get_xydata()[0] for container in axes.containers]
    return sorted(((round(float(x), 6), round(float(y))) for x, y in points), key=lambda point: point[1])


def test_rows_are_variants_by_their_choice_and_then_published_protocols(tmp_path: Path):
    write(tmp_path, "default", [0, 0, 0])
    write(tmp_path, "wfvae-paper", [1, 2, 3])
    write(tmp_path, "default-mp4v", [-1, -1, -1])
    write(tmp_path, "default-h264-one-side", [0, 0, -3])
    write(tmp_path, "default-definitions", [-2, 0, -1], metric="psnr_pooled")
    (axes,) = drawn(tmp_path)["protocols-bundle-33x256"]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["codec: mp4v", "codec: h264 (reconstruction only)", "another definition", "wfvae-paper"]
    assert markers(axes) == [(-1, 0), (-1, 1), (-1, 2), (2, 3)]
    assert [text.get_text() for text in axes.texts] == ["psnr_pooled"]
    assert "toy-a/one, 32.00 by default" in axes.get_legend().texts[0].get_text()


def test_the_interval_is_that_of_paired_differences(tmp_path: Path):
    write(tmp_path, "default", [0, 0, 0])
    write(tmp_path, "default-mp4v", [-1, -1, -1])  # clips differ by 5 dB, but all of them change alike
    write(tmp_path, "default-h264", [0, 1, 2])
    (axes,) = drawn(tmp_path)["protocols-bundle-33x256"]
    halves = [np.ptp(container[2][0].get_segments()[0][:, 0]) / 2 for container in axes.containers]
    assert halves == pytest.approx([0, 4.302653 / np.sqrt(3)], abs=1e-5)  # t(0.975, 2) times the standard error


def test_other_clips_and_overridden_protocols_are_not_compared(tmp_path: Path):
    write(tmp_path, "default", [0, 0, 0])
    write(tmp_path, "default-mp4v", [1, 1, 1], num_frames=17)
    write(tmp_path, "default-h264", [1, 1, 1], dtype="bfloat16")
    with pytest.raises(Incomplete, match="bundle-17x256 has no record with protocol=default"):
        drawn(tmp_path)


def test_a_seed_without_samples_changes_no_figure(tmp_path: Path):
    write(tmp_path, "default", [0, 0, 0])
    write(tmp_path, "default-mp4v", [-1, -1, -1], seed=1)  # as a run with seed=1 writes it: the scores are the same
    (axes,) = drawn(tmp_path)["protocols-bundle-33x256"]
    assert markers(axes) == [(-1, 0)]


def test_samples_of_each_seed_have_a_figure_with_all_protocols_that_do_not_sample(tmp_path: Path):
    assert protocol.load("default-sample").posterior == "sample"
    write(tmp_path, "default", [0, 0, 0], seed=1)
    write(tmp_path, "default-mp4v", [-1, -1, -1])
    write(tmp_path, "default-sample", [-2, -2, -2])
    write(tmp_path, "default-sample", [-3, -3, -3], seed=1)
    figures = drawn(tmp_path)
    assert ["seed 1" in axes.figure.get_suptitle() for (axes,) in figures.values()] == [False, True]
    assert {stem: sorted(markers(axes)) for stem, (axes,) in figures.items()} == {
        "protocols-bundle-33x256": [(-2, 0), (-1, 1)],
        "protocols-bundle-33x256-seed1": [(-3, 0), (-1, 1)],
    }


def test_a_vae_without_a_record_under_a_protocol_has_no_marker_there(tmp_path: Path):
    for vae in ("toy-a/one", "toy-b/two"):
        write(tmp_path, "default", [0, 0, 0], vae)
    write(tmp_path, "default-mp4v", [1, 1, 1], "toy-b/two")
    (axes,) = drawn(tmp_path)["protocols-bundle-33x256"]
    assert markers(axes) == [(1, 0)]


def test_the_identity_and_untrained_vaes_are_left_out(tmp_path: Path):
    for vae, by in (("toy-a/one", 1), ("identity/pixels", -20)):
        write(tmp_path, "default", [0, 0, 0], vae)
        write(tmp_path, "default-mp4v", [by] * 3, vae)
    (axes,) = drawn(tmp_path)["protocols-bundle-33x256"]
    assert markers(axes) == [(1, 0)]


def test_the_command_draws_it_from_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["vaes=pool/4x8x8", "num_frames=2", "size=16", "clips=2", "metrics=psnr"]
    assert cli.main(["run", *words, "protocol=default,default-float"]) == 0
    assert cli.main(["plot", "--only", "protocols", "--format", "svg"]) == 0
    (file,) = Path("runs/results/plots").glob("*.svg")
    assert file.name == "protocols-bundle-2x16-first2.svg"
    assert "rounding: none" in file.read_text()
    assert cli.main(["run", *words, "results=one"]) == 0
    assert cli.main(["plot", "--results", "one", "--only", "protocols"]) == 2
    assert "no record in one has the data for protocols" in capsys.readouterr().err
