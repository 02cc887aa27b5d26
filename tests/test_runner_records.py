"""Every result has a record of its own, which no other result replaces, and the frames saved beside it."""

import json
import re
import shutil
from pathlib import Path

import pytest

import adapters
from tests.runs import BUNDLE, ROOT, SMALL, record, run
from vaebench import cli, records

pytestmark = pytest.mark.usefixtures("elsewhere")
CLIP = min(file.stem for file in BUNDLE.glob("*.mp4"))


def test_two_checkpoints_of_one_name_are_refused(capsys: pytest.CaptureFixture[str]):
    release, places = ROOT / "wfvae" / "weights", [Path(run, "ckpt", "last") for run in ("a", "b")]
    for place in places:
        place.mkdir(parents=True)
        shutil.copy(release / "tiny.safetensors", place)
        shutil.copy(release / "tiny.json", place / "config.json")
    assert run(f"vaes=[wfvae:{places[0]},wfvae:{places[1]}]", "clips=1") == 2
    assert "wfvae:a/ckpt/last and wfvae:b/ckpt/last are the same checkpoint, " in capsys.readouterr().err


def checkpoint(folder: str, change: float = 0.0, **config: str) -> Path:
    """A copy of the shipped WF-VAE in this folder, its last bias changed, more entries in its config.json."""
    from safetensors.torch import load_file, save_file

    release = ROOT / "wfvae" / "weights"
    tensors = load_file(release / "tiny.safetensors")
    tensors["decoder.conv_out.bias"] += change
    Path(folder).mkdir(parents=True)
    save_file(tensors, Path(folder) / "model.safetensors")
    described = json.loads((release / "tiny.json").read_text())
    (Path(folder) / "config.json").write_text(json.dumps({**described, **config}))
    return Path(folder)


@pytest.mark.parametrize("by", ["name", "weights="])
def test_checkpoints_whose_paths_end_alike_have_records_of_their_own(by: str):
    variants = {"a/run/out": {"change": 0.0}, "b/run/out": {"change": 0.01}, "c/run/out": {"_remark": "x"}}
    for folder, change in variants.items():
        place = checkpoint(folder, **change)
        words = [f"vaes=[wfvae:{place}]"] if by == "name" else ["vaes=[wfvae/tiny]", f"weights={place}"]
        assert run(*words, "clips=1") == 0
    written = [records.read(file) for file in Path("runs/results").rglob("wfvae-*.json")]
    assert len(written) == 3
    assert len({(found.vae["weights"], found.vae["config_sha256"]) for found in written}) == 3
    expected = r"wfvae/run-out-[0-9a-f]{6}" if by == "name" else r"wfvae/tiny \(run-out-[0-9a-f]{6}\)"
    assert all(re.fullmatch(expected, found.name) for found in written)
    assert len({records.read_clips(Path("runs/results"), found)["bundle/" + CLIP]["psnr"] for found in written}) == 2


def test_a_record_of_other_weights_is_never_replaced(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[wfvae/tiny]", "clips=1") == 0
    (file,) = Path("runs/results").rglob("wfvae-tiny.json")
    old = json.loads(file.read_text())
    old["vae"]["weights"] = "0" * 64
    before = json.dumps(old)
    file.write_text(before)
    capsys.readouterr()
    assert cli.main(["run", "vaes=wfvae/tiny", "clips=1", *SMALL, "--dry-run"]) == 1
    assert f"failed: wfvae/tiny: {file} is a different result: " in capsys.readouterr().out
    assert run("vaes=[pool/4x8x8,wfvae/tiny]", "clips=1") == 1
    said = capsys.readouterr().err
    assert (
        f"{file} is a different result: its vae.weights is '{'0' * 64}', that of this run is '{adapters.find('wfvae/tiny').sha256}'"
        in said
    )
    assert "move or delete it, or choose another folder with results=DIR" in said
    assert file.read_text() == before
    assert record("bundle-5x32-first1").scores["psnr"].n == 1  # the other VAE is measured
    assert run("vaes=[wfvae/tiny]", "clips=1", "results=other") == 0


def test_a_record_of_other_data_is_never_replaced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from vaebench.video_io import file_source

    monkeypatch.setattr(
        file_source, "marked", lambda name, sha256: name
    )  # a source that does not tell its folders apart
    for place, clip in (("a/clips", 0), ("b/clips", 1)):
        Path(place).mkdir(parents=True)
        shutil.copy(sorted(BUNDLE.glob("*.mp4"))[clip], place)
    assert run("vaes=[pool/4x8x8]", "data=folder", "root=a/clips") == 0
    first = record("clips-5x32")
    assert run("vaes=[pool/4x8x8]", "data=folder", "root=b/clips") == 1
    assert "is a different result: its data.sha256 is" in capsys.readouterr().err
    assert record("clips-5x32") == first


def test_a_damaged_record_fails_only_its_vae(capsys: pytest.CaptureFixture[str]):
    file = Path("runs/results/reconstruction/bundle-5x32-first1-psnr+flicker/dct-4.json")
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert run("vaes=[dct/4,pool/4x8x8]", "clips=1") == 1
    captured = capsys.readouterr().err
    assert f"failed: dct/4: {file} is not a record of vaebench: " in captured
    assert "move or delete it, or choose another folder with results=DIR" in captured
    assert file.read_text() == "{"
    assert record("bundle-5x32-first1").scores["psnr"].n == 1
    with pytest.raises(records.ReplaceError):
        run("vaes=[dct/4,pool/4x8x8]", "clips=1", "fail_fast=true")


def test_weights_of_ones_own_take_no_place_of_the_release():
    assert run("vaes=[wfvae/tiny]", "clips=1") == 0
    assert run("vaes=[wfvae/tiny]", f"weights={ROOT}/wfvae/weights/tiny.safetensors", "clips=1") == 0
    folder = Path("runs/results/reconstruction/bundle-5x32-first1-psnr+flicker")
    written = {file.stem: records.read(file) for file in folder.glob("*.json")}
    assert len(written) == 2
    assert written.pop("wfvae-tiny").name == "wfvae/tiny"
    ((stem, own),) = written.items()
    assert re.fullmatch(r"wfvae/tiny \(weights-tiny-[0-9a-f]{6}\)", own.name)
    assert stem == f"wfvae-tiny-{own.name[len('wfvae/tiny (') : -1]}"
    written["wfvae-tiny"] = records.read(folder / "wfvae-tiny.json")
    assert all(records.read_clips(Path("runs/results"), found) for found in written.values())


def test_a_try_with_fewer_metrics_takes_no_place_of_a_full_record():
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    assert cli.main(["run", "num_frames=5", "size=32", "metrics=[psnr]", "vaes=[pool/4x8x8]", "clips=1"]) == 0
    assert record("bundle-5x32-first1").scores.keys() == {"psnr", "flicker"}
    assert record("bundle-5x32-first1", metrics="psnr").scores.keys() == {"psnr"}


def test_kept_frames_are_the_clips_own_and_a_figure_shows_them():
    import numpy as np
    from PIL import Image

    assert run("vaes=[identity/pixels,pool/4x8x8]", "keep=1", "clips=2", "size=64") == 0
    (file,) = Path("runs/results/reconstruction/bundle-5x64-first2-psnr+flicker/identity-pixels.frames").glob("*.png")
    sheet = np.asarray(Image.open(file))
    assert sheet.shape == (2 * 64, 3 * 64, 3)
    assert np.array_equal(sheet[:64], sheet[64:])  # the identity gives every pixel back
    assert cli.main(["plot", "--only", "strips", "--format", "png"]) == 0
    assert len(list(Path("runs/results/plots").glob("strips-*.png"))) == 1


def test_every_kept_clip_has_a_picture_that_later_runs_leave(capsys: pytest.CaptureFixture[str]):
    root = Path("l" * 120)  # of a length at which the names of records and pictures are shortened
    root.mkdir()
    names = ["猫", "狗", "鸟", "a b", "a_b", "z" * 150]
    for name in names:
        shutil.copy(min(BUNDLE.glob("*.mp4")), root / f"{name}.mp4")
    words = ["vaes=[pool/4x8x8]", "data=folder", f"root={root}"]
    assert run(*words, "keep=6") == 0
    assert "pool/4x8x8" in capsys.readouterr().out
    pictures = {file: file.read_bytes() for file in Path("runs/results").rglob("*.png")}
    assert len(pictures) == len(names)
    for keep in ("keep=0", "keep=1"):
        assert run(*words, keep) == 0
        assert {file: file.read_bytes() for file in Path("runs/results").rglob("*.png")} == pictures


def test_a_figure_whose_records_are_not_there_says_so(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    capsys.readouterr()
    assert cli.main(["plot", "--only", "strips"]) == 2
    assert "no record in runs/results has the data for strips" in capsys.readouterr().err
