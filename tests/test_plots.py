"""Figures come from records alone, are the same bytes twice, and carry units on their axes."""

import hashlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vaebench import plots, results
from vaebench.plots import _style
from vaebench.results import Record, Score

LABELS = ("streamed", "naive-16")
UNTRAINED = "toy-d/tiny"


def record(
    suite: str, setting: str, name: str, scores: dict[str, Score], extra: dict | None = None, weights: str = "none"
) -> Record:
    family, variant = name.split("/")
    vae = {"family": family, "variant": variant, "name": name, "temporal_compression": 4, "spatial_compression": 8,
           "latent_channels": 16, "weights": weights}  # fmt: skip
    return Record(suite, 1, vae, {}, {}, setting, scores, {}, [], {}, "0" * 16, "2026-01-01", extra=extra or {})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of every suite for made-up VAEs, whose names say so."""
    folder = tmp_path_factory.mktemp("results")
    rng = np.random.default_rng(0)
    for i, name in enumerate(("toy-a/one", "toy-a/two", "toy-b/one", "toy-c/with-a-long-name", UNTRAINED)):
        weights = "random" if name == UNTRAINED else "none"
        values = 28 + 2 * i + rng.normal(0, 2, 12)
        score = Score(float(values.mean()), "dB", "higher", 12, 0.5, float(values.mean() - 1), float(values.mean() + 1))
        made = record("reconstruction", "clips-33x256", name, {"psnr": score}, weights=weights)
        results.write(made, folder, {f"clip{j}": {"psnr": float(v)} for j, v in enumerate(values)})
        costs: dict[str, Score] = {}
        for frames, size in ((33, 256), (33, 512), (65, 256)):
            case = f"float32 {frames}x{size}"
            for half in ("encode", "decode"):
                if i == 3 and size == 512:
                    costs[f"{half}_s@{case}"] = Score(None, "s", "lower", 0, note="out of memory (33x512x512 float32)")
                    continue
                seconds = (1 + i) * size / 512
                costs[f"{half}_s@{case}"] = Score(seconds, "s", "lower", 9)
                costs[f"{half}_frames_per_s@{case}"] = Score(frames / seconds, "frames/s", "higher", 9)
                costs[f"{half}_peak_bytes@{case}"] = Score((1 + i) * 2.0**30, "bytes", "lower", 1)
        results.write(record("efficiency", "toy-device", name, costs), folder, {})
        changes = {"psnr@whole": Score(30.0, "dB", "higher", 8)}
        profiles: dict = {"whole": {"metrics": {"psnr": [30.0] * 33}}}
        curves: dict = {
            "lengths": [5, 17, 33],
            "whole": {"psnr": [None, 30.0, 30.0], "bytes": [1e8, 3e8, 6e8]},
        }
        for label in LABELS:
            off = 0.0 if label == "streamed" else -1.5 - i
            changes[f"psnr@{label}"] = Score(off, "dB", "higher", 8, 0.1, off - 0.2, off + 0.2, signed=True)
            changes[f"pixels_max@{label}"] = Score(abs(off), "", "lower", 8)
            profiles[label] = {"by_frame": [0.01 * (t % 16 == 0) for t in range(33)], "by_step": [0.01] * 32,
                               "by_row": [0.001] * 256, "by_column": [0.001] * 256, "metrics": {"psnr": [29.0] * 33}}  # fmt: skip
            curves[label] = {"psnr": [None, 29.5, 29.0], "bytes": [1e8, 1e8, 1e8]}
        results.write(
            record("blockwise", "clips-33x256", name, changes, {"profiles": profiles, "by_length": curves}, weights),
            folder,
            {},
        )
    (folder / "subbands").mkdir()
    names = [f"{i:03b}".replace("0", "h").replace("1", "g") for i in range(8)]
    bands = {"setting": "clips-33x256", "clips": 2, "names": names, "energy": [2.0**-i for i in range(8)],
             "share": [2.0**-i / 2 for i in range(8)], "entropy_bits": [8.0 - i for i in range(8)]}  # fmt: skip
    (folder / "subbands" / "clips-33x256.json").write_text(json.dumps(bands))
    return folder


def test_every_figure_and_table_is_written_and_twice_the_same_bytes(root: Path, tmp_path: Path):
    runs = []
    for out in (tmp_path / "a", tmp_path / "b"):
        files = list(plots.draw(root, out, formats=("png", "svg")))
        runs.append({file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})
    assert runs[0] == runs[1]
    kinds = {name.partition("-")[0] for name in runs[0] if name.endswith(".png")}
    assert kinds >= {
        "per_clip",
        "rate_distortion",
        "bubbles",
        "cost_bars",
        "degradation",
        "seam_profile",
        "by_frame",
        "by_length",
        "subbands",
    }
    assert {
        "reconstruction-clips-33x256.md",
        "efficiency-toy-device.md",
        "blockwise-clips-33x256.md",
    } <= runs[0].keys()


@pytest.mark.parametrize("name", sorted(plots.figures()))
def test_axes_say_what_they_show_in_which_unit(root: Path, name: str):
    with _style.applied("paper"):
        for _, figure in plots.figures()[name](root, "paper"):
            for axes in figure.axes:
                if axes.has_data() and axes.axison and not axes.images:
                    assert axes.get_xlabel()
            plt.close(figure)


@pytest.mark.parametrize("stem", ["bubbles-clips-33x256-toy-device-float32-33x256", "rate_distortion-clips-33x256"])
def test_labels_of_points_do_not_overlap(root: Path, stem: str):
    kind = stem.partition("-")[0]
    with _style.applied("screen"):
        figure = dict(plots.figures()[kind](root, "screen"))[stem]
        figure.canvas.draw()
        boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
        assert len(boxes) >= 4
        overlaps = [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]
        plt.close(figure)
    assert overlaps == []


def test_out_of_memory_is_written_in_the_figure(root: Path):
    with _style.applied("screen"):
        figure = dict(plots.figures()["cost_bars"](root, "screen"))["cost_bars-toy-device-float32-33"]
        said = [text.get_text() for axes in figure.axes for text in axes.texts]
        plt.close(figure)
    assert said.count("OOM") == 4  # two halves, time and memory


def texts(root: Path, name: str) -> dict[str, str]:
    """Every word of the figures called `name`, by stem."""
    found = {}
    with _style.applied("screen"):
        for stem, figure in plots.figures()[name](root, "screen"):
            figure.canvas.draw()
            found[stem] = " | ".join(text.get_text() for text in figure.findobj(plt.Text))
            plt.close(figure)
    return found


def test_each_number_of_frames_has_its_own_bars(root: Path):
    said = texts(root, "cost_bars")
    assert said.keys() == {"cost_bars-toy-device-float32-33", "cost_bars-toy-device-float32-65"}
    assert "65 frames at 256x256, float32" in said["cost_bars-toy-device-float32-65"]


@pytest.mark.parametrize("name", ["per_clip", "degradation", "seam_profile", "by_frame", "by_length"])
def test_untrained_vaes_are_marked_where_quality_is_shown(root: Path, name: str):
    said = " | ".join(texts(root, name).values())
    assert f"{UNTRAINED} (untrained)" in said
    assert said.count("(untrained)") == said.count(UNTRAINED)
    assert "toy-a/one (untrained)" not in said


@pytest.mark.parametrize("name", ["rate_distortion", "bubbles"])
def test_untrained_vaes_are_left_out_where_vaes_are_compared_by_quality(root: Path, name: str):
    said = " | ".join(text for stem, text in texts(root, name).items() if "published" not in stem)
    assert "toy-a" in said
    assert UNTRAINED not in said
    assert "tiny" not in said


def test_a_broken_record_of_subbands_is_named(tmp_path: Path):
    file = tmp_path / "subbands" / "x.json"
    file.parent.mkdir()
    for text, reason in (("{", "no record of sub-bands"), ('{"setting": "x"}', "it lacks clips, names")):
        file.write_text(text)
        with pytest.raises(ValueError, match=reason):
            list(plots.draw(tmp_path, tmp_path / "out", only="subbands"))


def test_published_numbers_stand_in_a_figure_of_their_own_that_says_so(root: Path):
    with _style.applied("screen"):
        drawn = dict(plots.figures()["bubbles"](root, "screen"))
        title = drawn["bubbles-published"].axes[0].get_title(loc="left")
        for figure in drawn.values():
            plt.close(figure)
    assert "AS PUBLISHED" in title
    assert "2411.17459" in title


def test_one_figure_can_be_asked_for_and_a_wrong_name_is_answered(root: Path, tmp_path: Path):
    files = list(plots.draw(root, tmp_path, only="degradation", formats=("pdf",)))
    assert [file.name for file in files] == ["degradation-clips-33x256.pdf"]
    with pytest.raises(ValueError, match="did you mean 'degradation'"):
        list(plots.draw(root, tmp_path, only="degredation"))
    with pytest.raises(ValueError, match="no format gif"):
        list(plots.draw(root, tmp_path, formats=("gif",)))
