"""Figures come from records alone, are the same bytes twice, and carry units on their axes."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from tests.records import UNTRAINED, cost, quality, record, write_toy_records
from vaebench import cli, plot_style, plots, records
from vaebench.plots.blockwise import PROFILES
from vaebench.records import Record, Score, by_key


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of every suite for made-up VAEs, whose names say so."""
    folder = tmp_path_factory.mktemp("results")
    write_toy_records(folder)
    return folder


def draw_all(folder: Path, out: Path) -> dict[str, str]:
    """Name -> sha256 of every figure and table of the records in `folder`."""
    files = list(plots.draw(folder, out, formats=("png", "svg")))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two VAEs, for all figures at once: three kinds are drawn for each VAE."""
    folder = tmp_path_factory.mktemp("two")
    write_toy_records(folder, ("toy-a/one", "toy-b/one"))
    return folder


@pytest.fixture(scope="module")
def drawn(two: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return draw_all(two, tmp_path_factory.mktemp("drawn"))


def test_every_figure_and_table_is_written_and_twice_the_same_bytes(two: Path, drawn: dict[str, str], tmp_path: Path):
    assert draw_all(two, tmp_path) == drawn
    kinds = {name.partition("-")[0] for name in drawn if name.endswith(".png")}
    assert kinds >= {
        "per_clip",
        "rate_distortion",
        "bubbles",
        "cost_bars",
        "degradation",
        "seam_profile",
        "by_frame",
        "by_length",
        "spectra",
        "eigenspectra",
        "autocorrelation",
        "noise_curves",
        "subbands",
    }
    assert {
        "reconstruction-clips-33x256.md",
        "efficiency-toy-device.md",
        "blockwise-clips-33x256.md",
    } <= drawn.keys()


@pytest.mark.parametrize("name", sorted(plots.figures()))
def test_axes_say_what_they_show_in_which_unit(root: Path, name: str):
    with plot_style.applied("paper"):
        for _, figure in plots.figures()[name](root, "paper"):
            for axes in figure.axes:
                if axes.has_data() and axes.axison and not axes.images:
                    assert axes.get_xlabel()
            plt.close(figure)


@pytest.mark.parametrize(
    "stem", ["bubbles-clips-33x256-toy-device-float32-33x256", "rate_distortion-psnr-clips-33x256"]
)
def test_labels_of_points_do_not_overlap(root: Path, stem: str):
    kind = stem.partition("-")[0]
    with plot_style.applied("screen"):
        figure = dict(plots.figures()[kind](root, "screen"))[stem]
        figure.canvas.draw()
        boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
        assert len(boxes) >= 4
        overlaps = [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]
        plt.close(figure)
    assert overlaps == []


def test_labels_of_bubbles_do_not_cover_other_bubbles():
    with plot_style.applied("screen"):
        figure, axes = plt.subplots()
        xs, ys, radii = [1.0, 2.0, 9.0], [1.0, 1.02, 3.0], [15.0, 12.0, 12.0]
        axes.scatter(xs, ys, s=[3.14159 * radius**2 for radius in radii])
        plot_style.label_points(axes, xs, ys, ["a long name (16 ch)", "b (4 ch)", "c"], radii)
        boxes = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}  # without its line
        for i, name in enumerate(("a long name (16 ch)", "b (4 ch)", "c")):
            for x, y in axes.transData.transform(list(zip(xs, ys, strict=True)))[[j for j in range(3) if j != i]]:
                assert not boxes[name].padded(1).contains(x, y), name
        plt.close(figure)


def test_out_of_memory_is_written_in_the_figure(root: Path):
    with plot_style.applied("screen"):
        figure = dict(plots.figures()["cost_bars"](root, "screen"))["cost_bars-toy-device-float32-33"]
        said = [text.get_text() for axes in figure.axes for text in axes.texts]
        plt.close(figure)
    assert said.count("OOM") == 4  # two halves, time and memory


def texts(root: Path, name: str) -> dict[str, str]:
    """Every word of the figures called `name`, by stem."""
    found = {}
    with plot_style.applied("screen"):
        for stem, figure in plots.figures()[name](root, "screen"):
            figure.canvas.draw()
            found[stem] = " | ".join(text.get_text() for text in figure.findobj(plt.Text))
            plt.close(figure)
    return found


def test_each_number_of_frames_has_its_own_bars(root: Path):
    said = texts(root, "cost_bars")
    assert said.keys() == {"cost_bars-toy-device-float32-33", "cost_bars-toy-device-float32-65"}
    assert "65 frames at 256x256, float32" in said["cost_bars-toy-device-float32-65"]


@pytest.mark.parametrize(
    "name",
    [*("per_clip", "degradation", "seam_profile", "by_frame", "by_length"), *("spectra", "noise_curves", "subbands")],
)
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


def test_published_numbers_are_drawn_only_on_request_and_say_so(
    drawn: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert not any("published" in name for name in drawn)
    assert cli.main(["plot", "--published", "--format", "svg", "--out", str(tmp_path)]) == 0  # and needs no record
    assert capsys.readouterr().out.split() == [str(tmp_path / "bubbles-published.svg")]
    title = re.findall(r">([^<]*2411\.17459)<", (tmp_path / "bubbles-published.svg").read_text())
    assert title == ["AS PUBLISHED, not measured here: arXiv 2411.17459"]
    labels = re.findall(r">([^<]* [(][0-9]+ ch[)])<", (tmp_path / "bubbles-published.svg").read_text())
    assert sorted(labels) == ["Allegro (4 ch)", "CogVideoX (16 ch)", "OD-VAE (4 ch)", "WF-VAE L (16 ch)"]
    assert cli.main(["plot", "--published", "--only", "strips"]) == 2
    assert "unless it is --only bubbles" in capsys.readouterr().err


def test_published_bubbles_are_dashed_beside_the_encode_of_measured_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    plot = ["plot", "--published", "--only", "bubbles", "--results", str(tmp_path), "--out", str(tmp_path / "plots")]
    assert cli.main(plot) == 2
    assert "bubbles cannot be drawn from" in capsys.readouterr().err
    for each in (quality("odvae/1.2"), quality("toy/a"), quality("toy/b"), cost("odvae/1.2", ("float32", 33, 256)),
                 cost("toy/a", ("float32", 33, 256))):  # fmt: skip
        records.write(each, tmp_path, {})
    figures: list[plt.Figure] = []
    monkeypatch.setattr(plot_style, "save", lambda figure, *rest: iter([figures.append(figure) or Path(rest[1])]))
    assert cli.main(plot) == 0
    captured = capsys.readouterr()
    assert captured.out == "bubbles-clips-33x256-toy-device-float32-33x256-and-published\n"
    assert "no cost at 33x256 of toy/b" in captured.err
    (figure,) = figures
    (axes,) = figure.axes
    # x of the points: 33 frames in 1 s of encode, and the paper's 33 frames in 0.0945 s for OD-VAE
    dots = {round(float(line.get_xdata()[0]), 1): float(line.get_ydata()[0]) for line in axes.lines}
    assert dots[33.0] == 30.0
    assert dots[round(33 / 0.0945, 1)] == 30.69
    discs = [disc for disc in axes.collections if len(disc.get_offsets())]
    dashed = [disc for disc in discs if disc.get_linestyle()[0][1]]
    assert len(dashed) == 4
    assert len(discs) == 6
    at = {round(float(disc.get_offsets()[0][0]), 1): to_hex(disc.get_edgecolor()[0]) for disc in dashed}
    solid = next(to_hex(disc.get_edgecolor()[0]) for disc in discs if disc not in dashed)  # odvae is the first record
    assert at[round(33 / 0.0945, 1)] == solid
    assert list(at.values()).count("#7f7f7f") == 3
    assert axes.get_xlabel() == "frames per second, encode (log scale)"
    assert "AS PUBLISHED, not measured here" in axes.get_title("left")
    plt.close(figure)


@pytest.mark.parametrize(
    ("made", "missing"),
    [
        ([quality("toy/a")], ["there is no cost record: run `vaebench run --suite efficiency`"]),
        ([cost("toy/a", ("float32", 33, 256))], ["no record has the PSNR of a trained VAE: run `vaebench run --suite recon"]),
        (
            [quality("toy/a"), cost("toy/a", ("float32", 5, 64))],
            ["no cost at 33x256 of toy/a (only at 5x64): run `vaebench run --suite efficiency frames=33 sizes=256`"],
        ),
        (
            [quality("toy/a"), cost("toy/b", ("float32", 33, 256))],
            ["no cost at 33x256 of toy/a: run", "no PSNR at 33x256 of toy/b: run `vaebench run num_frames=33 size=256`"],
        ),
        (
            [quality("toy/a (ft-1a2b3c)", weights="ft.safetensors"), cost("toy/a", ("float32", 33, 256))],
            ["toy/a (ft-1a2b3c) was scored with weights=", "run both suites with vaes=[toy:ft.safetensors]"],
        ),
    ],
)  # fmt: skip
def test_bubbles_that_cannot_be_drawn_name_the_missing_records(
    made: list[Record], missing: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for each in made:
        records.write(each, tmp_path / "r", {})
    assert cli.main(["plot", "--results", str(tmp_path / "r"), "--only", "bubbles"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"vaebench: bubbles cannot be drawn from {tmp_path / 'r'}: ")
    assert len(captured.err.splitlines()) == 1
    assert all(text in captured.err for text in missing), captured.err
    assert cli.main(["plot", "--results", str(tmp_path / "r"), "--format", "png"]) == 0
    captured = capsys.readouterr()
    assert "bubbles-" not in captured.out
    assert all(text in captured.err for text in missing), captured.err


def test_folders_without_quality_and_cost_lack_no_bubbles(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = str(tmp_path / "r")
    records.write(record("diffusability", "clips", "toy/a", quality("toy/a").scores), tmp_path / "r", {})
    for words in (["plot", "--format", "png"], ["report"]):
        assert cli.main([*words, "--results", folder]) == 0
        assert "bubbles" not in capsys.readouterr().err
    assert cli.main(["plot", "--results", folder, "--only", "bubbles"]) == 2


@pytest.mark.parametrize("name", ["protocols", "drift"])
def test_a_figure_without_data_is_described_in_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    records.write(cost("toy/a", ("float32", 33, 256)), tmp_path, {})
    assert cli.main(["plot", "--results", str(tmp_path), "--only", name]) == 2
    message = capsys.readouterr().err
    sentence = plots.first_sentence(plots.figures()[name].__doc__).rstrip(".")
    assert message == f"vaebench: no record in {tmp_path} has the data for {name} ({sentence})\n"
    assert "Raises" not in message


def test_bubbles_pair_equal_frames_and_sizes_and_say_who_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for each in (quality("toy/a"), quality("toy/b"), quality("toy/a", num_frames=5, size=64),
                 cost("toy/a", ("float32", 33, 256), ("bfloat16", 33, 256), ("float32", 33, 512)),
                 cost("toy/b", ("float32", 5, 256))):  # fmt: skip
        records.write(each, tmp_path / "r", {})
    assert cli.main(["plot", "--results", str(tmp_path / "r"), "--only", "bubbles", "--format", "png"]) == 0
    captured = capsys.readouterr()
    assert [Path(line).name for line in captured.out.splitlines()] == [
        "bubbles-clips-33x256-toy-device-float32-33x256.png",
        "bubbles-clips-33x256-toy-device-bfloat16-33x256.png",
    ]
    assert captured.err == (
        "bubbles: no cost at 33x256 of toy/b (only at 5x256): run `vaebench run --suite efficiency frames=33 sizes=256`\n"
        "bubbles: no cost at 5x64 of toy/a (only at 33x256, 33x512): run `vaebench run --suite efficiency frames=5 sizes=64`\n"
    )


def test_one_figure_can_be_asked_for_and_a_wrong_name_is_answered(root: Path, tmp_path: Path):
    files = list(plots.draw(root, tmp_path, only="degradation", formats=("pdf",)))
    assert [file.name for file in files] == ["degradation-clips-33x256.pdf"]
    with pytest.raises(ValueError, match="did you mean 'degradation'"):
        list(plots.draw(root, tmp_path, only="degredation"))
    with pytest.raises(ValueError, match="no format gif"):
        list(plots.draw(root, tmp_path, formats=("gif",)))


def test_flicker_and_metrics_of_plug_ins_have_figures(tmp_path: Path):
    for i, name in enumerate(("toy/a", "toy/b")):
        values = {"flicker": 0.1 + i, "sharpness": 2.0 + i}
        scores = [Score(value, "", "lower", 2, metric=metric) for metric, value in values.items()]
        scores.append(Score(9.0 + i, "", "lower", 2, metric="set_distance"))  # of all clips: none of its own
        made = record("reconstruction", "clips-5x32", name, by_key(scores))
        records.write(made, tmp_path / "r", {"x": values, "y": values})
        changes = [
            Score(0.1, "", "lower", 2, signed=mode != "whole", metric=metric, condition={"mode": mode})
            for metric in values
            for mode in ("whole", "streamed")
        ]
        curve = {"metrics": {metric: [1.0, 2.0] for metric in values}}
        profiles = {"whole": curve, "streamed": {**curve, **{key: [0.0, 0.1] for key in PROFILES}}}
        lengths = {mode: {metric: [1.0, 2.0] for metric in values} for mode in ("whole", "streamed")}
        extra = {"profiles": profiles, "by_length": {"lengths": [5, 9], **lengths}}
        records.write(record("blockwise", "clips-5x32", name, by_key(changes), extra), tmp_path / "r", {})
    stems = {file.stem for file in plots.draw(tmp_path / "r", tmp_path / "out", formats=("svg",))}
    assert {f"per_clip-{metric}-clips-5x32" for metric in ("flicker", "sharpness")} <= stems
    assert "per_clip-set_distance-clips-5x32" not in stems
    assert {f"rate_distortion-{m}-clips-5x32" for m in ("flicker", "sharpness", "set_distance")} <= stems
    for kind in ("degradation", "by_frame", "by_length"):
        for words in texts(tmp_path / "r", kind).values():
            assert "FLICKER" in words
            assert "SHARPNESS" in words


def test_labels_of_small_markers_do_not_cover_other_markers():
    with plot_style.applied("screen"):
        figure, axes = plt.subplots()
        axes.plot([1.0, 1.05, 3.0], [1.0, 1.0, 2.0], "o")
        plot_style.label_points(axes, [1.0, 1.05, 3.0], [1.0, 1.0, 2.0], ["a long name", "b", "c"])
        boxes = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}
        neighbour = axes.transData.transform((1.05, 1.0))
        assert not boxes["a long name"].contains(*neighbour)
        plt.close(figure)


def test_bubbles_of_frames_that_are_not_square_have_their_shape_in_the_title_and_labels_beside_them(tmp_path: Path):
    for i, name in enumerate(("toy-a/one", "toy-a/two", "toy-b/one")):
        made = quality(name, size="64x96")
        score = Score(30.0 + 0.05 * i, "dB", "higher", 8, metric="psnr")
        records.write(replace(made, scores={"psnr": score}), tmp_path, {})
        records.write(cost(name, ("float32", 33, "64x96")), tmp_path, {})
    with plot_style.applied("screen"):
        ((_, figure),) = plots.figures()["bubbles"](tmp_path, "screen")
        figure.canvas.draw()
        (axes,) = figure.axes
        assert "cost: 33 frames of 64x96, float32" in axes.get_title("left")
        points = {text.get_text().partition(" ")[0]: text.xy for text in axes.texts}
        for text in axes.texts:
            box = Text.get_window_extent(text)
            for name, at in points.items():
                assert not box.contains(*axes.transData.transform(at)), f"{text.get_text()} covers {name}"
        plt.close(figure)
