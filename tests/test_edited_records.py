"""A record that was edited by hand or comes from elsewhere: one line names the file and the field, nothing is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.records import write_toy_records
from vaebench import cli, records

RECORD = "reconstruction/clips-33x256/toy-a-one.json"
COST = "efficiency/toy-device/toy-a-one.json"
BLOCKWISE = "blockwise/clips-33x256/toy-a-one.json"
LATENT = "latent/clips-33x256/toy-a-one.json"
Edit = Callable[[dict[str, Any]], object]


def put(path: str, value: Any) -> Edit:
    """Write `value` at the dotted `path`."""

    def edit(data: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for key in parents:
            data = data[key]
        data[last] = value

    return edit


def drop(path: str) -> Edit:
    """Delete the entry at `path`."""

    def edit(data: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for key in parents:
            data = data[key]
        del data[last]

    return edit


def rename(path: str, new: str) -> Edit:
    def edit(data: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for key in parents:
            data = data[key]
        data[new] = data.pop(last)

    return edit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_toy_records(tmp_path / "inside" / "r")
    return tmp_path / "inside" / "r"


@pytest.mark.parametrize(
    ("file", "edit", "field"),
    [
        (RECORD, put("scores/psnr/value", "31"), 'scores.psnr.value should be a finite number, not "31"'),
        (RECORD, put("scores/psnr/value", float("nan")), "NaN is not a finite number"),
        (RECORD, put("scores/psnr/value", float("inf")), "Infinity is not a finite number"),
        (RECORD, put("scores/psnr/value", True), "scores.psnr.value should be a finite number, not true"),
        (RECORD, put("scores/psnr/low", "x"), 'scores.psnr.low should be a finite number, not "x"'),
        (RECORD, put("scores/psnr/high", []), "scores.psnr.high should be a finite number, not []"),
        (RECORD, put("scores/psnr/n", "8"), 'scores.psnr.n should be a whole number, not "8"'),
        (RECORD, put("scores/psnr/n", None), "scores.psnr.n should be a whole number, not null"),
        (RECORD, put("scores/psnr/better", "sideways"), "scores.psnr.better should be one of higher, lower, neither"),
        (RECORD, put("scores/psnr/unit", 3), "scores.psnr.unit should be a string, not 3"),
        (RECORD, put("scores/psnr/note", None), "scores.psnr.note should be a string, not null"),
        (RECORD, put("scores/psnr/signed", 1), "scores.psnr.signed should be true or false, not 1"),
        (RECORD, put("scores/psnr/median", 1), "scores.psnr.median is not a field of a score"),
        (RECORD, drop("scores/psnr/unit"), "scores.psnr.unit is missing"),
        (RECORD, put("scores/psnr", 31.0), "scores.psnr should be an object {...}, not 31.0"),
        (RECORD, put("scores", []), "scores should be an object {...}, not []"),
        (RECORD, put("scores", None), "scores should be an object {...}, not null"),
        (RECORD, put("absent", ["lpips"]), 'absent should be an object {...}, not ["lpips"]'),
        (RECORD, put("absent", {"lpips": 1}), "absent.lpips should be a string, not 1"),
        (RECORD, put("failed", {}), "failed should be a list [...], not {}"),
        (RECORD, put("failed", [{"case": "a"}]), "failed[0].file is missing"),
        (RECORD, put("vae", "toy-a/one"), 'vae should be an object {...}, not "toy-a/one"'),
        (RECORD, drop("vae/temporal_compression"), "vae.temporal_compression is missing"),
        (RECORD, put("vae/spatial_compression", "8"), 'vae.spatial_compression should be a whole number, not "8"'),
        (RECORD, put("vae/latent_channels", 0), "vae.latent_channels should be 1 or more, not 0"),
        (RECORD, drop("vae/name"), "vae.name is missing"),
        (RECORD, put("vae/name", 5), "vae.name should be a string, not 5"),
        (RECORD, put("vae/family", None), "vae.family should be a string, not null"),
        (RECORD, drop("vae/weights"), "vae.weights is missing"),
        (RECORD, put("config", []), "config should be an object {...}, not []"),
        (RECORD, drop("config/size"), "config.size is missing"),
        (RECORD, put("config/num_frames", "33"), 'config.num_frames should be a whole number, not "33"'),
        (RECORD, put("extra", 5), "extra should be an object {...}, not 5"),
        (RECORD, put("schema", 99), "its schema is 99, expected 1 or 2"),
        (RECORD, drop("fingerprint"), "fingerprint is missing"),
        (RECORD, put("comment", "mine"), "comment is not a field of a record"),
        (RECORD, put("suite", "../../x"), "suite should be the name of a folder, not '../../x'"),
        (RECORD, put("suite", ".."), "suite should be the name of a folder, not '..'"),
        (RECORD, put("suite", ""), "suite should be the name of a folder, not ''"),
        (RECORD, put("setting", "../../x"), "setting should be the name of a folder, not '../../x'"),
        (RECORD, put("setting", "a\\b"), r"setting should be the name of a folder, not 'a\\b'"),
        (RECORD, put("suite", "efficiency"), "of its fields suite, setting and vae.name: move it to "),
        (RECORD, put("vae/name", "../../../x"), "clips-33x256/x-"),
        (COST, put("scores/encode_s@float32 33x256/value", -1.0), "scores.encode_s@float32 33x256.value should not be neg"),
        (COST, rename("scores/encode_s@float32 33x256", "encode_s@float32"), "the key scores.encode_s@float32 should be 'enc"),
        (COST, put("scores/encode_s@float32 33x256/condition/frames", "33"), "condition.frames should be a whole number, not"),
        (COST, put("scores/encode_s@float32 33x256/condition/frames", 33.0), "condition.frames should be a string or a whole numb"),
        (COST, put("scores/encode_s@float32 33x256/status", "out of memory"), "has the value 0.5 and the status 'out of memory'"),
        (RECORD, put("scores/psnr/status", "lost"), "scores.psnr.status should be one of ok, out of memory, too few clips"),
        (RECORD, put("scores/psnr/value", None), "psnr has the value None and the status 'ok'"),
        (RECORD, drop("scores/psnr/metric"), "scores.psnr.metric is missing"),
        (BLOCKWISE, put("extra", {}), "extra.profiles is missing"),
        (BLOCKWISE, put("extra/profiles", []), "extra.profiles should be an object {...}, not []"),
        (BLOCKWISE, drop("extra/profiles/streamed"), "extra.profiles.streamed is missing"),
        (BLOCKWISE, drop("extra/profiles/whole"), "extra.profiles.whole is missing"),
        (BLOCKWISE, put("extra/profiles/streamed/by_row", "x"), 'extra.profiles.streamed.by_row should be a list [...], not'),
        (BLOCKWISE, put("extra/profiles/streamed/by_frame", []), "extra.profiles.streamed.by_frame is empty"),
        (BLOCKWISE, put("extra/profiles/streamed/metrics", {}), "extra.profiles.streamed.metrics.psnr is missing"),
        (BLOCKWISE, put("extra/profiles/whole/metrics/psnr", ["x"]), "extra.profiles.whole.metrics.psnr[0] should be a"),
        (BLOCKWISE, put("extra/by_length/lengths", [5]), "extra.by_length.whole.psnr should have 1 values, as lengths has"),
        (BLOCKWISE, put("extra/by_length/streamed/psnr", [1, "x", 2]), "extra.by_length.streamed.psnr[1] should be a"),
        (BLOCKWISE, put("extra/by_length/whole/bytes", [1.0, None, 2.0]), "extra.by_length.whole.bytes[1] should be a fin"),
        (BLOCKWISE, drop("extra/by_length"), "extra.by_length is missing"),
        (LATENT, put("extra/subbands/names", "hhh"), 'extra.subbands.names should be a list [...], not "hhh"'),
        (LATENT, put("extra/subbands/latents/share", [1.0]), "extra.subbands.latents should have lists of 8 values, as names has"),
        (LATENT, put("extra/subbands/pixels/share", ["x"] * 8), 'extra.subbands.pixels.share[0] should be a finite number'),
        (LATENT, drop("extra/space"), "extra.space is missing"),
        (LATENT, put("extra/space/power", [1.0]), "extra.space should have lists of one length, got [8, 1]"),
        (LATENT, put("extra/denoising/mmse", 1.0), "extra.denoising.mmse should be a list [...], not 1.0"),
        (LATENT, put("extra/zigzag", [None]), "extra.zigzag[0] should be a finite number, not null"),
        (LATENT, drop("extra/decoder/added"), "extra.decoder.added is missing"),
        (LATENT, put("extra/decoder/masked/low", []), "extra.decoder.masked should have lists of 1 values"),
        (LATENT, put("extra/decoder/psnr/mean", ["x"]), 'extra.decoder.psnr.mean[0] should be a finite number, not "x"'),
        (LATENT, drop("extra/autocorrelation/x"), "extra.autocorrelation.x is missing"),
        (LATENT, drop("extra/eigenvalues/raw"), "extra.eigenvalues.raw is missing"),
    ],
)  # fmt: skip
def test_an_edited_record_is_refused_by_file_and_field(
    root: Path, file: str, edit: Edit, field: str, capsys: pytest.CaptureFixture[str]
):
    data = json.loads((root / file).read_text())
    edit(data)
    (root / file).write_text(json.dumps(data))
    before = sorted(root.parent.parent.rglob("*"))
    # figures of the other suites need no look: an edit that shows only in one figure is in its own
    only = {RECORD: "bubbles", COST: "cost_bars", BLOCKWISE: "by_frame", LATENT: "subbands"}[file]
    assert cli.main(["plot", "--results", str(root), "--only", only]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert str(root / file) in captured.err
    assert field in captured.err
    assert [file for file in sorted(root.parent.parent.rglob("*")) if file not in before] in ([], [root / "plots"])


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"', "[" * 100_000])
def test_a_file_without_an_object_is_named(root: Path, content: str, capsys: pytest.CaptureFixture[str]):
    (root / RECORD).write_text(content)
    assert cli.main(["plot", "--results", str(root)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""  # no figure of the other records either
    assert captured.err.startswith(f"vaebench: {root / RECORD} is not a record of vaebench: ")
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("clip,psnr\na,31\nb,x\n", "line 3, psnr should be a finite number, not 'x'"),
        ("clip,psnr\na,nan\n", "line 2, psnr should be a finite number, not 'nan'"),
        ("name,psnr\na,31\n", "line 2 should have the columns"),
        ("clip,psnr\na,31,32\n", "line 2 should have the columns"),
        ("clip,psnr\na\n", "line 2 should have the columns"),
    ],
)
def test_edited_scores_of_clips_are_named_by_line(
    root: Path, text: str, place: str, capsys: pytest.CaptureFixture[str]
):
    file = (root / RECORD).with_suffix(".clips.csv")
    file.write_text(text)
    assert cli.main(["plot", "--results", str(root), "--only", "per_clip"]) == 2
    assert f"{file} is not a list of scores by clip: {place}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda file: file.write_bytes(b"no picture"), "cannot be read as a picture"),
        (lambda file: file.write_bytes(file.read_bytes()[:-40]), "cannot be read as a picture"),
        (lambda file: Image.new("L", (96, 64)).save(file), "should have square RGB frames"),
        (lambda file: Image.new("RGB", (96, 63)).save(file), "should have square RGB frames"),
        (lambda file: Image.new("RGB", (96, 128)).save(file), "should have square RGB frames"),
        (lambda file: Image.new("RGB", (48, 32)).save(file), "has frames of 16 pixels, those of other VAEs have 32"),
    ],
)
def test_a_damaged_or_foreign_picture_is_named(
    root: Path, make: Callable[[Path], object], reason: str, capsys: pytest.CaptureFixture[str]
):
    for vae in ("toy-a-two", "toy-a-one"):  # the order of the table, best first
        folder = root / f"reconstruction/clips-33x256/{vae}.frames"
        folder.mkdir()
        Image.effect_noise((96, 64), 50).convert("RGB").save(folder / "clip0.png")
    file = folder / "clip0.png"
    make(file)
    assert cli.main(["plot", "--results", str(root), "--only", "strips"]) == 2
    said = capsys.readouterr().err
    assert f"{file} " in said
    assert reason in said
    assert len(said.splitlines()) == 1


def test_no_name_in_a_record_leads_out_of_the_results_folder(root: Path):
    record = records.read(root / RECORD)
    for suite, setting, name in (("..", "..", ".."), ("../x", "/etc", "a/../../b"), ("a\\b", ".", "~")):
        place = records.record_path(root, suite, setting, name)
        assert place.resolve().parent.parent.parent == root.resolve()
    assert records.read_clips(root, record)
