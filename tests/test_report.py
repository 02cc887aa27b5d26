"""The report is one file from records alone, needs nothing else, and runs no text of a record as code."""

import base64
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.records import cost, quality, write_toy_records
from vaebench import cli, kept_pictures, kept_video, records
from vaebench.records import Failure, Record, Score
from vaebench.report import charts, clips, tables
from vaebench.tables import grouped

EVIL = "toy/<script>window.hacked=1</script>"


def with_markup() -> Record:
    """A record whose VAE has a name that is markup."""
    record = quality("toy/markup")
    return replace(record, vae={**record.vae, "name": EVIL})


class Page(HTMLParser):
    """The elements of a page, and the text of each script."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.handlers: list[str] = []
        self.policy, self.text, self._script = "", "", None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href", "action") and value]
        self.handlers += [key for key, _ in attrs if key.startswith("on")]
        self._script = named if tag == "script" else None
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"] or ""

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts.append((self._script, data))
        else:
            self.text += data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toy records of every suite, and one whose texts are markup."""
    folder = tmp_path_factory.mktemp("results")
    write_toy_records(folder)
    evil = replace(
        with_markup(),
        absent={"fvd": "<img src=x onerror=window.hacked=2> needs `</script>`"},
        failed=[Failure("clip</script>", "", "<b>broken</b>")],
        scores={
            "psnr": Score(31.0, "dB", "higher", 8, note="</script><script>window.hacked=3</script>", metric="psnr")
        },
    )
    records.write(evil, folder, {"clip</script>": {"psnr": 31.0}, "<i>clip</i>": {"psnr": 31.0}})
    return folder


@pytest.fixture(scope="module")
def page(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("out") / "report.html"
    assert cli.main(["report", "--results", str(root), "--out", str(out)]) == 0
    return Page(out.read_text(encoding="utf-8"))


def data_of(page: Page) -> dict:
    return json.loads(next(text for attributes, text in page.scripts if attributes.get("id") == "data"))


def test_nothing_is_loaded_from_elsewhere(page: Page):
    assert {link.partition(":")[0] for link in page.links if not link.startswith("#")} <= {"data"}
    assert page.policy.startswith("default-src 'none';")


def test_only_the_pages_own_script_may_run(page: Page):
    code = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(code) == 1
    digest = base64.b64encode(hashlib.sha256(code[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page.policy
    assert page.handlers == []


def test_texts_of_records_stay_text(page: Page):
    assert EVIL in page.text
    assert "<img src=x onerror=window.hacked=2>" in page.text
    assert "failed: clip</script>" in page.text


def test_every_record_and_figure_is_in_the_page(page: Page, root: Path):
    data = data_of(page)
    shown = [record.name for group in grouped(records.read_all(root)).values() for record in group]
    assert [entry["vae"] for entry in data["records"]] == shown
    for kind in ("per_clip", "rate_distortion", "bubbles", "cost_bars", "degradation", "seam_profile"):
        assert kind in page.text


def test_every_score_in_a_table_has_its_origin(page: Page):
    data = data_of(page)
    for record in data["records"]:
        assert dict(dict(record["groups"])["Code"])["fingerprint"] == "0" * 16
        assert all(score["value"] is None or score["shown"] for score in record["scores"].values())


def test_the_same_records_give_the_same_file(tmp_path: Path):
    root = tmp_path / "r"
    for each in (quality("toy/a"), cost("toy/a", ("float32", 33, 256))):
        records.write(each, root, {"x": {"psnr": 30.0}} if each.suite == "reconstruction" else {})
    files = [tmp_path / "a.html", tmp_path / "b.html"]
    for file in files:
        assert cli.main(["report", "--results", str(root), "--out", str(file)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_folder_without_records_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["report", "--results", str(tmp_path)]) == 2
    assert f"no records in {tmp_path}: run `vaebench run` first" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_the_best_value_is_that_of_a_trained_vae():
    scored = {"toy/a": 30.0, "toy/b": 31.0, "identity/pixels": 58.92, "toy/random": 40.0}
    group = [
        replace(quality(name), scores={"psnr": Score(value, "dB", "higher", 8, metric="psnr")})
        for name, value in scored.items()
    ]
    group[3] = replace(group[3], vae={**group[3].vae, "weights": "random"})
    table = tables.build(group, {id(record): i for i, record in enumerate(group)})
    assert [row.name for row in table.rows if any(cell.best for cell in row.cells)] == ["toy/b"]
    assert table.better[4] == "higher"


def test_costs_of_another_shape_are_not_offered(tmp_path: Path):
    made = [quality("toy/a"), cost("toy/a", ("float32", 33, 256), ("float32", 5, 64))]
    for each in made:
        records.write(each, tmp_path, {})
    everything = list(records.read_all(tmp_path))
    (chart,) = charts.bubbles(tmp_path, everything, {id(record): i for i, record in enumerate(everything)})
    assert [axis["key"] for axis in chart["axes"]] == ["toy-device float32 33x256", charts.LATENT]
    (point,) = chart["points"]
    assert point["x"]["toy-device float32 33x256"] == 16.5  # 33 frames in one second each way
    assert point["memory"]["toy-device float32 33x256"] == 2.0**30
    assert everything[point["costs"]["toy-device float32 33x256"]].suite == "efficiency"


def test_codecs_are_placed_by_their_bits_and_vaes_by_sixteen_bits_per_value(tmp_path: Path):
    scores = {"psnr": 30.0, "bits_per_pixel": 0.25}
    codec = replace(
        quality("codec/x265-25"),
        scores={name: Score(value, "", "neither", 8, metric=name) for name, value in scores.items()},
    )
    nothing = dict.fromkeys(("temporal_compression", "spatial_compression", "latent_channels"))
    codec = replace(codec, vae={**codec.vae, **nothing, "codec": True})
    for each in (quality("toy/a"), codec):
        records.write(each, tmp_path, {})
    everything = list(records.read_all(tmp_path))
    (chart,) = charts.bubbles(tmp_path, everything, {id(record): i for i, record in enumerate(everything)})
    assert [axis["key"] for axis in chart["axes"]] == [charts.LATENT, charts.BITS]
    assert [point["x"] for point in chart["points"]] == [
        {charts.BITS: 0.25},
        {charts.LATENT: 16 / 256, charts.BITS: 1.0},  # 16 channels at 4x8x8
    ]
    table = tables.build(everything, {id(record): i for i, record in enumerate(everything)})
    facts = {row.name: [cell.value for cell in row.cells[:3]] for row in table.rows}
    assert facts == {"codec/x265-25": [None, None, None], "toy/a": [256, 16, 256]}


def test_vaes_share_the_frames_of_their_reference(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 16, 24, 3), dtype=np.uint8)  # a reference and two results
    for name, reconstruction in (("toy/a", frames[1]), ("toy/b", frames[2])):
        record = quality(name)
        records.write(record, tmp_path, {"x": {"psnr": 9.0}})
        kept_video.write_all(tmp_path, record, {"x": kept_video.Pair(np.stack([frames[0], reconstruction]), 25.0)})
    everything = list(records.read_all(tmp_path))
    kept = clips.collect(tmp_path, everything, {id(record): i for i, record in enumerate(everything)})
    (clip,) = kept.clips
    assert (clip["count"], clip["height"], clip["width"], clip["fps"]) == (4, 16, 24, 25.0)
    assert [vae["name"] for vae in clip["vaes"]] == ["toy/a", "toy/b"]
    assert len(kept.films) == 3


def test_a_damaged_picture_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    record = quality("toy/a")
    records.write(record, tmp_path, {"x": {"psnr": 30.0}})
    folder = kept_pictures.folder(tmp_path, record)
    folder.mkdir()
    (folder / "x.png").write_bytes(b"no picture")
    assert cli.main(["report", "--results", str(tmp_path)]) == 2
    assert f"{folder / 'x.png'} cannot be read as a picture" in capsys.readouterr().err


def test_a_folder_as_out_is_refused_by_name(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["report", "--results", str(root), "--out", str(tmp_path)]) == 2
    expected = (
        f"vaebench: --out {tmp_path} is a folder: give the HTML file to write, such as {tmp_path / 'report.html'}\n"
    )
    assert capsys.readouterr().err == expected
    assert list(tmp_path.iterdir()) == []
