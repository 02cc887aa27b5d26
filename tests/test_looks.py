"""What a reader of several figures relies on: one colour per VAE, titles in words, table order, marked chunk boundaries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.records import record, write_toy_records
from vaebench import kept_pictures, plot_style, plots, records, titles
from vaebench.plots import _looks
from vaebench.plots.blockwise import _boundaries
from vaebench.records import Score

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_toy_records(folder)
    scores = {"psnr": Score(58.92, "dB", "higher", 2, metric="psnr")}
    made = record("reconstruction", "clips-33x256", "identity/pixels", scores)
    records.write(made, folder, {clip: {"psnr": 58.92} for clip in ("clip0", "clip1")})
    return folder


def figure(root: Path, name: str, stem: str) -> Figure:
    with plot_style.applied("screen"):
        drawn = dict(plots.figures()[name](root, "screen"))
        for other, each in drawn.items():
            if other != stem:
                plt.close(each)
        drawn[stem].canvas.draw()
        return drawn[stem]


def test_a_vae_has_one_colour_in_all_figures(root: Path):
    looks = {name: look["color"] for name, look in _looks.of_vaes(root).items()}
    assert len(set(looks.values())) == len(looks) == 6
    per_clip = figure(root, "per_clip", "per_clip-psnr-clips-33x256").axes[0]
    names = [label.get_text().partition(" (")[0] for label in per_clip.get_yticklabels()]
    assert {name: to_hex(dots.get_facecolor()[0]) for name, dots in zip(names, per_clip.collections, strict=True)} == {
        name: looks[name] for name in names
    }
    bars = figure(root, "degradation", "degradation-clips-33x256").axes[0]
    rows = [label.get_text().partition(" ")[0] for label in bars.get_yticklabels()]
    assert [to_hex(bar.get_facecolor()) for bar in bars.patches] == [looks[name] for name in rows]
    bubbles = figure(root, "bubbles", "bubbles-clips-33x256-toy-device-float32-33x256").axes[0]
    drawn = {to_hex(area.get_edgecolor()[0]) for area in bubbles.collections if len(area.get_offsets())}
    assert {looks[name] for name in ("toy-a/one", "toy-a/two", "toy-b/one", "toy-c/with-a-long-name")} <= drawn
    plt.close("all")


def test_variants_are_shades_of_one_hue_and_those_with_quality_are_darker(tmp_path: Path):
    for suite, variants in (("reconstruction", (8, 16)), ("efficiency", (4, 8, 16))):
        for variant in variants:
            records.write(record(suite, "s", f"toy/{variant}", {}), tmp_path, {})
    looks = _looks.of_vaes(tmp_path)
    assert list(looks) == ["toy/8", "toy/16", "toy/4"]
    brightness = [int(look["color"][1:3], 16) + int(look["color"][3:5], 16) for look in looks.values()]
    assert brightness == sorted(brightness)
    assert len({look["marker"] for look in looks.values()}) == 1


def test_a_mode_has_one_colour_whatever_it_is_drawn_with():
    few, many = (_looks.of_modes(modes) for modes in (["whole", "tiled"], ["streamed", "tiled", "native", "whole"]))
    assert few["tiled"] == many["tiled"]
    assert few["whole"]["color"] == "#000000"
    independent = _looks.of_modes(["independent-9", "independent-17", "chunks-9"])
    assert len({look["color"] for look in independent.values()}) == 3


def test_identity_does_not_compress_the_axis_of_the_others(root: Path):
    axes = figure(root, "per_clip", "per_clip-psnr-clips-33x256").axes[0]
    assert not any("identity" in label.get_text() for label in axes.get_yticklabels())
    assert axes.get_xlim()[1] < 50
    plt.close("all")


@pytest.mark.parametrize(
    ("mode", "first_frames"),
    [
        ("independent-16", [16, 32]),
        ("chunks-8", [8, 16, 24, 32]),
        ("independent-33", []),
        ("tiled", []),
        ("osp-12", []),
    ],
)
def test_chunks_begin_at_multiples_of_the_size_that_a_mode_names(mode: str, first_frames: list[int]):
    assert _boundaries(mode, 33) == first_frames


def test_chunk_boundaries_are_marked_in_seam_profiles(root: Path):
    drawn = figure(root, "seam_profile", "seam_profile-toy-a-one-clips-33x256")
    by_frame, by_step, by_row, by_column = drawn.axes
    marks = [
        sorted(line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":" and len(line.get_xdata()) == 2)
        for axes in (by_frame, by_step, by_row, by_column)
    ]
    assert marks == [[15.5, 31.5], [15, 31], [], []]
    assert "dotted: chunk boundaries" in drawn.get_suptitle()
    plt.close("all")


def test_strips_stand_in_the_order_of_the_table(tmp_path: Path):
    frames = np.zeros((2, 1, 16, 16, 3), np.uint8)
    for name, psnr in (("toy/16", 25.0), ("toy/4", 20.0), ("toy/8", 30.0)):
        made = record("reconstruction", "s", name, {"psnr": Score(psnr, "dB", "higher", 1, metric="psnr")})
        records.write(made, tmp_path, {"clip": {"psnr": psnr}})
        kept_pictures.write_all(tmp_path, made, {"clip": frames})
    drawn = figure(tmp_path, "strips", "strips-s-clip")
    names = [axes.get_title(loc="left").partition(",")[0] for axes in drawn.axes[::4]]
    assert names == ["reference", "toy/8", "toy/16", "toy/4"]
    plt.close("all")


BUNDLE = {"name": "bundle", "sha256": "0"}


@pytest.mark.parametrize(
    ("suite", "config", "title"),
    [
        ("reconstruction", {}, "bundle, 33 frames of 256x256"),
        ("reconstruction", {"clips": 2, "num_frames": 1}, "bundle, 1 frame of 256x256, first 2 clips"),
        ("reconstruction", {"protocol": "wfvae-paper", "mode": "tiled", "dtype": "float16"},
         "bundle, 33 frames of 256x256, protocol wfvae-paper, mode tiled, dtype float16"),
        ("reconstruction", {"size": "480x832"}, "bundle, 33 frames of 480x832"),
        ("reconstruction", {"num_frames": None, "size": None}, "bundle, all frames"),
        ("blockwise", {"mode": "whole", "options": {"lengths": [5, 17], "independent": [], "metrics": ["psnr"]}},
         "bundle, 33 frames of 256x256, lengths 5 17, independent none"),
        ("diffusability", {}, "slug"),
    ],
)  # fmt: skip
def test_a_setting_is_written_in_words(suite: str, config: dict[str, Any], title: str):
    made = replace(record(suite, "slug", "toy/a", {}, config=config), data=BUNDLE)
    assert titles.setting_title(made) == title


def test_the_machine_of_a_cost_is_written_as_it_calls_itself():
    made = record("efficiency", "xeon-2.50ghz-2threads", "toy/a", {})
    machine = {"device": "Xeon @ 2.50GHz", "flags": {"threads": 2}}
    assert titles.setting_title(replace(made, machine=machine)) == "Xeon @ 2.50GHz, 2 threads"
    assert titles.setting_title(replace(made, machine=machine, setting="h100")) == "Xeon @ 2.50GHz"
    assert titles.setting_title(made) == "xeon-2.50ghz-2threads"


def test_no_figure_of_an_untrained_network_alone_is_committed():
    untrained = {
        made.name.replace("/", "-") for made in records.read_all(ROOT / "results", "blockwise")
        if made.vae["weights"] == "random"
    }  # fmt: skip
    assert untrained
    files = [file.name for file in (ROOT / "results" / "plots").iterdir()]
    assert [name for name in files if any(f"-{vae}-" in name for vae in untrained)] == []


def test_no_vae_has_the_colour_of_codecs(tmp_path: Path):
    score = {"psnr": Score(30.0, "dB", "higher", 2, metric="psnr")}
    names = [f"toy-{letter}/one" for letter in "abcdefgh"] + ["codec/x265-17", "codec/x265-25"]
    for name in names:
        records.write(record("reconstruction", "clips-33x256", name, score), tmp_path, {})
    looks = {name: look["color"] for name, look in _looks.of_vaes(tmp_path).items()}
    of_codecs = {looks.pop("codec/x265-17"), looks.pop("codec/x265-25")}
    assert len(of_codecs) == 1
    assert not of_codecs & set(looks.values())
    hues = _looks.hues(tmp_path)
    assert hues.pop("codec") not in hues.values()
