"""The loop as a user meets it: resume after kill, shards, failures that stop nothing, records that run again."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import torch

import adapters
from vaebench import __version__, cli, evaluation, jobs, machine, records, runner
from vaebench.config import RunConfig, parse_run
from vaebench.data import bundle
from vaebench.prefetch import Prefetch
from vaebench.video import Clip

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "vaebench" / "data" / "bundle"
CLIP = min(file.stem for file in BUNDLE.glob("*.mp4"))
SMALL = ["num_frames=5", "size=32", "metrics=[psnr,flicker]"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> int:
    return cli.main(["run", *SMALL, *words])


def record(setting: str = "bundle-5x32", name: str = "pool-4x8x8", metrics: str = "psnr+flicker") -> records.Record:
    """The record of this VAE in the one folder of that setting; a folder of one's own has a digest in its name."""
    files = Path("runs/results/reconstruction").glob(f"{setting}-{metrics}/{name}.json")
    return records.read(max(files, key=lambda file: file.stat().st_mtime_ns))  # of the folder as it is now


def stores() -> list[Path]:
    """The folders of finished cases, beside the results."""
    return [folder for folder in Path("runs").iterdir() if folder.name != "results"]


def kept() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path("runs").rglob("*.npz")}


def test_the_main_job_prints_a_table_and_writes_records(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8,dct/4,dct/16]") == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[3:]] == ["dct/16", "dct/4", "pool/4x8x8"]
    found = record()
    assert found.scores["psnr"].n == 8
    assert found.scores["psnr"].low < found.scores["psnr"].value < found.scores["psnr"].high
    assert found.data["name"] == "bundle"
    assert found.machine["torch"]
    assert found.machine["packages"]["vaebench"] == __version__  # where it is installed there is no commit to tell
    with Path("runs/results/reconstruction/bundle-5x32-psnr+flicker/pool-4x8x8.clips.csv").open() as file:
        clips = {row["clip"]: float(row["psnr"]) for row in csv.DictReader(file)}
    assert len(clips) == 8
    assert sum(clips.values()) / 8 == pytest.approx(found.scores["psnr"].value, abs=1e-4)


def test_a_run_and_a_plot_leave_a_clone_unchanged():
    def git(*words: str) -> str:
        words = ("-c", "user.name=x", "-c", "user.email=x@y", *words)
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    shutil.copy(ROOT / ".gitignore", ".")
    for name in ("pool-4x8x8.json", "pool-4x8x8.clips.csv", "pool-4x8x8.frames/a.png"):
        file = Path("results/reconstruction/bundle-5x32-psnr+flicker") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("committed")
    git("add", "-A")
    git("commit", "-qm", "all")
    assert run("vaes=[pool/4x8x8]") == 0
    assert cli.main(["plot", "--format", "png"]) == 0
    assert list(Path("runs/results/plots").glob("*.png"))
    assert git("status", "--porcelain") == ""


def test_the_second_run_measures_nothing_and_says_the_same(monkeypatch: pytest.MonkeyPatch):
    assert run("vaes=[pool/4x8x8]") == 0
    first = record()
    monkeypatch.setattr(
        "adapters.ResolvedVAE.load", lambda *_, **__: pytest.fail("a VAE was loaded though all is in the store")
    )
    assert run("vaes=[pool/4x8x8]") == 0
    assert record().scores == first.scores


@pytest.mark.parametrize("change", ["size=24", "num_frames=4", "dtype=bfloat16"])
def test_what_can_change_a_number_changes_the_store(change: str):
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    assert run("vaes=[pool/4x8x8]", "clips=1", change) == 0
    assert len(stores()) == 2


def test_another_device_starts_a_new_store_and_the_same_one_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jobs, "device_name", lambda device: "Processor A")
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    assert len(stores()) == 1
    monkeypatch.setattr(jobs, "device_name", lambda device: "Processor B")
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    assert len(stores()) == 2


def test_another_cudnn_starts_a_new_store(monkeypatch: pytest.MonkeyPatch):
    for version, count in (("", 1), ("9.10.2", 2), ("9.10.2", 2), ("9.15.0", 3)):
        monkeypatch.setattr(jobs, "cudnn_version", lambda device, version=version: version)
        assert run("vaes=[pool/4x8x8]", "clips=1") == 0
        assert len(stores()) == count


def test_a_known_fault_of_the_libraries_is_on_stderr_and_in_the_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for module in (runner, machine):
        monkeypatch.setattr(module, "known_faults", lambda device: ["torch 2.9.1 with cuDNN 9.10.2: slow"])
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    assert "note: torch 2.9.1 with cuDNN 9.10.2: slow\n" in capsys.readouterr().err
    assert record("bundle-5x32-first1").machine["notes"] == ["torch 2.9.1 with cuDNN 9.10.2: slow"]


def test_an_edit_of_the_code_that_makes_a_number_starts_a_new_store(monkeypatch: pytest.MonkeyPatch):
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    monkeypatch.setattr(jobs, "code", lambda modules: "another")
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    assert len(stores()) == 2


def test_an_added_metric_alone_is_measured(monkeypatch: pytest.MonkeyPatch):
    from vaebench.metrics.psnr import PSNR

    assert run("vaes=[pool/4x8x8]", "metrics=[psnr]") == 0
    monkeypatch.setattr(PSNR, "measure", lambda *_: pytest.fail("psnr was measured before"))
    assert run("vaes=[pool/4x8x8]", "metrics=[psnr,psnr_pooled]") == 0
    assert len(stores()) == 1


def test_with_stored_latents_a_new_metric_needs_no_encoder(monkeypatch: pytest.MonkeyPatch):
    from adapters.pool import Pool

    assert run("vaes=[pool/4x8x8]", "metrics=[psnr]", "keep_latents=true") == 0
    with monkeypatch.context() as patch:
        patch.setattr(Pool, "encode", lambda *_: pytest.fail("the latents are stored"))
        assert run("vaes=[pool/4x8x8]", "metrics=[psnr,flicker]", "keep_latents=true") == 0
    kept = records.read(Path("runs/results/reconstruction/bundle-5x32-psnr+flicker/pool-4x8x8.json")).scores
    assert run("vaes=[pool/4x8x8]", "runs=fresh", "results=fresh") == 0
    fresh = records.read(Path("fresh/reconstruction/bundle-5x32-psnr+flicker/pool-4x8x8.json")).scores
    assert kept == fresh


def test_a_checkpoint_that_cannot_be_read_stops_no_other_vae(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    index = tmp_path / "mine" / "diffusion_pytorch_model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text("{broken")
    assert run(f"vaes=wan:{index.parent},wan:{tmp_path}/nowhere,pool/4x8x8", "clips=1") == 1
    said = capsys.readouterr()
    assert "pool/4x8x8" in said.out
    assert f"failed: wan:{index.parent}: {index} should list the files of the weights" in said.err
    assert f"not ready: wan:{tmp_path}/nowhere: {tmp_path}/nowhere does not exist" in said.err


def test_weights_with_a_missing_shard_are_a_failure_of_their_vae(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shard = tmp_path / "model-00001-of-00002.safetensors"
    shard.touch()
    assert run("vaes=wan/2.1", f"weights={shard}", "clips=1") == 1
    assert f"failed: wan/2.1: {shard} belongs to weights in 2 files, of which 1 are missing" in capsys.readouterr().err


def test_a_damaged_case_is_measured_again():
    assert run("vaes=[pool/4x8x8]") == 0
    before = record().scores
    some = sorted(Path("runs").rglob("*.npz"))[3]
    some.write_bytes(some.read_bytes()[:100])
    assert run("vaes=[pool/4x8x8]") == 0
    assert record().scores == before


def test_a_case_damaged_in_its_middle_is_measured_again_at_once(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8]") == 0
    before = record()
    some = sorted(Path("runs").rglob("*.npz"))[3]
    content = bytearray(some.read_bytes())
    content[content.index(b"\x93NUMPY") + 128] ^= 0xFF  # a byte of the first array; the index at the end is whole
    some.write_bytes(content)
    Path("runs/results/reconstruction/bundle-5x32-psnr+flicker/pool-4x8x8.json").unlink()
    assert run("vaes=[pool/4x8x8]") == 0
    assert record().scores == before.scores
    assert "waiting" not in capsys.readouterr().err


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
    assert run("vaes=[pool/4x8x8,wfvae/tiny]", "clips=1") == 2
    said = capsys.readouterr().err
    assert (
        f"{file} is a different result: its vae.weights is '{'0' * 64}', that of this run is '{adapters.find('wfvae/tiny').sha256}'"
        in said
    )
    assert "move or delete it, or choose another folder with results=DIR" in said
    assert file.read_text() == before
    assert not list(Path("runs/results").rglob("pool-*"))  # nothing was measured
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
    assert run("vaes=[pool/4x8x8]", "data=folder", "root=b/clips") == 2
    assert "is a different result: its data.sha256 is" in capsys.readouterr().err
    assert record("clips-5x32") == first


def test_another_config_beside_the_weights_starts_a_new_store():
    release, folder = ROOT / "wfvae" / "weights", Path("mine")
    folder.mkdir()
    shutil.copy(release / "tiny.safetensors", folder)
    config = json.loads((release / "tiny.json").read_text())
    for remark in ("first", "another"):
        (folder / "config.json").write_text(json.dumps({**config, "_remark": remark}))
        assert run("vaes=[wfvae/tiny]", f"weights={folder}", "clips=1") == 0
    assert len(stores()) == 2


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


def test_a_default_spelled_out_is_the_default():
    assert run("vaes=[pool/4x8x8]", "clips=1", "dtype=float32", "posterior=mode") == 0
    assert record("bundle-5x32-first1").scores["psnr"].n == 1


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"RANK": "1"}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "8"}, (2, 8)),
    ],
)
def test_a_process_is_one_of_many_only_where_both_numbers_are_there(
    found: dict[str, str], expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    from vaebench.distributed import rank_and_world

    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert rank_and_world() == expected


def test_more_clips_go_on_from_the_ones_that_are_done():
    assert run("vaes=[pool/4x8x8]", "clips=2") == 0
    before = kept()
    assert run("vaes=[pool/4x8x8]", "clips=4") == 0
    assert before.items() <= kept().items()
    assert len(kept()) == 4
    assert len(stores()) == 1


# the process is killed while it writes its third case, or between that and the fourth, on a machine of any speed
KILLED = """
import os, signal, sys
from vaebench import cli, store

def deadly(real, number):
    calls = []
    def call(*arguments):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    return call

where, number = sys.argv[1], int(sys.argv[2])
if where == "writing":
    os.fsync = deadly(os.fsync, number)  # two a case: its file, then the folder
else:
    store.Store.put = deadly(store.Store.put, number)
sys.exit(cli.main(sys.argv[3:]))
"""


@pytest.mark.parametrize(("where", "number", "whole"), [("writing", 5, 2), ("between", 4, 3)])
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(where: str, number: int, whole: int):
    words = ["run", "num_frames=5", "size=64", "metrics=[psnr]", "vaes=[dct/16]"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = [sys.executable, "-c", KILLED, where, str(number), *words]
    assert subprocess.run(killed, env=environment, capture_output=True).returncode == -signal.SIGKILL
    interrupted = kept()
    assert len(interrupted) == whole
    assert not Path("runs/results").exists()
    assert cli.main(words) == 0
    resumed, scores = kept(), record("bundle-5x64", "dct-16", "psnr").scores
    assert interrupted.items() <= resumed.items()
    shutil.rmtree("runs")
    assert cli.main(words) == 0
    assert kept() == resumed
    assert record("bundle-5x64", "dct-16", "psnr").scores == scores


def test_ctrl_c_ends_with_130_and_keeps_what_was_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from vaebench.suites.reconstruction import Reconstruction

    real, calls = Reconstruction.measure, []

    def measure(self, vae, case):
        calls.append(case.id)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, vae, case)

    monkeypatch.setattr(Reconstruction, "measure", measure)
    assert run("vaes=[pool/4x8x8]") == 130
    assert "run the same command again to resume" in capsys.readouterr().err
    assert len(kept()) == 2
    assert run("vaes=[pool/4x8x8]") == 0
    assert len(calls) == 3 + 6


def test_shards_share_a_store_and_the_last_one_writes_the_record(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8]", "shard=0/2") == 0
    assert "waiting for other shards: pool/4x8x8" in capsys.readouterr().err
    assert len(kept()) == 4
    assert not Path("runs/results").exists()
    assert run("vaes=[pool/4x8x8]", "shard=1/2") == 0
    sharded = record()
    assert sharded.config["shard"] == "auto"  # run again from its record, it is one process's to measure
    shutil.rmtree("runs")
    assert run("vaes=[pool/4x8x8]") == 0
    assert record().scores == sharded.scores


def test_rank_and_world_size_are_the_shard(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run("vaes=[pool/4x8x8]") == 0
    assert len(kept()) == 2


def folder_with_bad_clips() -> Path:
    root = Path("clips")
    root.mkdir()
    for clip in sorted(BUNDLE.glob("*.mp4"))[:2]:
        shutil.copy(clip, root)
    whole = sorted(BUNDLE.glob("*.mp4"))[0].read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 20])
    (root / "text.mp4").write_text("this is no video")
    return root


def test_a_corrupt_clip_is_listed_and_everything_else_goes_on(capsys: pytest.CaptureFixture[str]):
    root = folder_with_bad_clips()
    assert run("vaes=[pool/4x8x8,dct/4]", "data=folder", f"root={root}") == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    for name in ("pool-4x8x8", "dct-4"):
        found = record("clips*-5x32", name)
        assert found.scores["psnr"].n == 2
        assert sorted(Path(failure.file).name for failure in found.failed) == ["cut.mp4", "text.mp4"]
        assert all(failure.reason for failure in found.failed)
    assert "2 (2 failed)" in captured.out
    assert captured.err.count("text.mp4") >= 1


def test_a_clip_that_was_mended_is_tried_again():
    root = folder_with_bad_clips()
    words = ["vaes=[pool/4x8x8]", "data=folder", f"root={root}"]
    assert run(*words) == 1
    good = sorted(BUNDLE.glob("*.mp4"))[0]
    shutil.copy(good, root / "cut.mp4")
    shutil.copy(good, root / "text.mp4")
    assert run(*words) == 0
    assert record("clips*-5x32").failed == []
    assert record("clips*-5x32").scores["psnr"].n == 4


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


def test_a_protocol_stands_in_a_setting_of_its_own_and_changes_the_numbers(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", "vaes=[dct/4]", "num_frames=5", "size=32", "metrics=[psnr]", "clips=2"]) == 0
    assert "protocol" not in capsys.readouterr().err
    words = ["vaes=[dct/4]", "num_frames=5", "size=32", "metrics=[psnr]", "clips=2", "protocol=wfvae-paper"]
    assert cli.main(["run", *words]) == 0
    assert "protocol wfvae-paper: i3d_l2 is the number that the paper's tables call FVD" in capsys.readouterr().err
    plain = record("bundle-5x32-first2", "dct-4", "psnr")
    papers = record("bundle-5x32-first2-wfvae-paper", "dct-4", "psnr")
    assert plain.scores["psnr"].value != papers.scores["psnr"].value  # both sides went through mp4v
    assert cli.main(["run", *words[:-1], "protocol=wfvae-papr"]) == 2


def test_a_metric_that_needs_longer_clips_is_absent_and_says_so(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", "vaes=[pool/4x8x8]", "num_frames=1", "size=32", "clips=2", "metrics=[psnr,flicker]"]) == 0
    found = record("bundle-1x32-first2")
    assert found.scores.keys() == {"psnr"}
    assert "at least 2 frames" in found.absent["flicker"]
    assert "absent: flicker" in capsys.readouterr().err


def test_fail_fast_stops_at_the_first_failure():
    root = folder_with_bad_clips()
    with pytest.raises((ValueError, OSError), match=r"cut\.mp4"):
        run("vaes=[pool/4x8x8]", "data=folder", f"root={root}", "fail_fast=true")


def test_a_vae_that_breaks_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import adapters

    real = adapters.ResolvedVAE.load

    def load(self, *words: str, **settings: object):
        if self.name == "dct/4":
            raise RuntimeError("no such network")
        return real(self, *words, **settings)

    monkeypatch.setattr(adapters.ResolvedVAE, "load", load)
    assert run("vaes=[dct/4,pool/4x8x8]") == 1
    assert "failed: dct/4: RuntimeError: no such network" in capsys.readouterr().err
    assert record().scores["psnr"].n == 8


@pytest.mark.parametrize("broken", ["summarize", "per_case"])
def test_scores_that_cannot_be_summed_up_do_not_stop_the_others(
    broken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from vaebench.suites.reconstruction import Reconstruction

    real, calls = getattr(Reconstruction, broken), []

    def once(self, statistics):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("planted")
        return real(self, statistics)

    monkeypatch.setattr(Reconstruction, broken, once)
    assert run("vaes=[dct/4,pool/4x8x8]", "clips=1") == 1
    assert (
        "failed: dct/4: all cases were measured, but the scores could not be computed: RuntimeError: planted"
        in capsys.readouterr().err
    )
    assert not list(Path("runs/results").rglob("dct-4.*"))
    assert record("bundle-5x32-first1").scores["psnr"].n == 1


def tar(name: str, *members: str) -> None:
    Path("shards").mkdir(exist_ok=True)
    with tarfile.open(Path("shards") / name, "w") as archive:
        for member in members:
            archive.add(min(BUNDLE.glob("*.mp4")), member)


def test_a_source_without_clips_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]):
    tar("00000.tar", "a.txt")
    assert run("vaes=[pool/4x8x8]", "data=shards", "root=shards") == 2
    assert "data=shards has no clips" in capsys.readouterr().err


def test_clips_that_would_share_their_results_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    real = bundle.build

    class Twice:
        def __init__(self, config: RunConfig) -> None:
            self.source = real(config)
            self.identity = self.source.identity

        def __iter__(self) -> Iterator[Clip]:
            return chain(self.source, self.source)

    monkeypatch.setattr(bundle, "build", Twice)
    assert run("vaes=[pool/4x8x8]") == 2
    first = min(BUNDLE.glob("*.mp4")).stem
    assert f"2 clips have the id 'bundle/{first}'" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_record_without_clips_tells_of_no_padding(monkeypatch: pytest.MonkeyPatch):
    from vaebench.suites.efficiency import Efficiency

    monkeypatch.setattr(Efficiency, "_spawn", lambda *_: {"out_of_memory": "planted"})
    assert cli.main(["run", "--suite", "efficiency", "vaes=[pool/4x8x8]", "device=cpu"]) == 0
    (file,) = Path("runs/results/efficiency").rglob("pool-4x8x8.json")
    assert "padded_to" not in records.read(file).data
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    assert record("bundle-5x32-first1").data["padded_to"] == "8 frames, size a multiple of 8"


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 20 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_a_failure_with_a_remedy(error: Exception):
    said = evaluation.explain(error)
    assert "bfloat16" in said
    assert "\n" not in said


def test_vaes_without_weights_are_named_and_never_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.delenv("VAEBENCH_WEIGHTS", raising=False)
    assert run("vaes=[pool/4x8x8,svd/xt]", "clips=1") == 1
    assert "not ready: svd/xt: stabilityai/stable-video-diffusion-img2vid-xt/" in capsys.readouterr().err
    assert record("bundle-5x32-first1").scores["psnr"].n == 1
    assert not Path("runs/results/reconstruction/bundle-5x32-first1-psnr+flicker/svd-xt.json").exists()


def test_a_named_untrained_vae_runs_and_is_marked(capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[cogvideox/tiny]", "clips=1") == 0
    captured = capsys.readouterr()
    assert "cogvideox/tiny (untrained)" in captured.out
    assert "say nothing about the quality of the VAE" in captured.err


def test_a_record_runs_again_from_its_own_file_and_is_not_replaced():
    assert run("vaes=[pool/4x8x8]", "clips=2", "results=committed") == 0
    (file,) = Path("committed").rglob("pool-4x8x8.json")
    old = json.loads(file.read_text())
    assert not {"results", "runs"} & old["config"].keys()
    old["config"] |= {"results": "committed", "runs": "elsewhere"}  # as records said until now
    file.write_text(json.dumps(old))
    before = file.read_bytes()
    shutil.rmtree("runs")
    assert cli.main(["run", "--config", str(file)]) == 0
    assert record("bundle-5x32-first2").scores == records.read(file).scores
    assert file.read_bytes() == before
    assert not Path("elsewhere").exists()


def test_a_sample_of_the_posterior_depends_on_the_seed_and_not_on_the_shard():
    words = ["vaes=[cogvideox/tiny]", "posterior=sample", "clips=2"]
    assert run(*words) == 0
    first = record("bundle-5x32-first2-sample", "cogvideox-tiny").scores
    shutil.rmtree("runs")
    assert run(*words, "shard=1/2") == 0
    assert run(*words, "shard=0/2") == 0
    assert record("bundle-5x32-first2-sample", "cogvideox-tiny").scores == first
    assert run(*words, "seed=1") == 0
    assert record("bundle-5x32-first2-sample-seed1", "cogvideox-tiny").scores != first


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "json"])
def test_the_table_comes_in_the_format_that_was_asked_for(form: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["run", *SMALL, "--format", form, "vaes=[pool/4x8x8]", "clips=1"]) == 0
    text = capsys.readouterr().out
    assert "pool/4x8x8" in text
    if form == "json":
        json.loads(text)


def test_an_output_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]):
    Path("blocked").write_text("in the way")
    assert run("vaes=[pool/4x8x8]", "results=blocked") == 2
    assert "blocked cannot be written: choose another folder with results=DIR" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_full_disk_is_one_line_and_loses_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run("vaes=[pool/4x8x8]", "clips=2") == 0
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert run("vaes=[pool/4x8x8]") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert len(kept()) == 2
    assert not list(Path("runs").rglob("*.part"))
    monkeypatch.setattr(os, "fsync", real)
    assert run("vaes=[pool/4x8x8]") == 0


def test_clips_are_decoded_ahead_of_the_device(monkeypatch: pytest.MonkeyPatch):
    """While the first clip is being measured, the next one is decoded by another thread."""
    from vaebench.suites.reconstruction import Reconstruction

    decoding = threading.Event()
    seen: list[str] = []
    real = Prefetch._load

    def load(self, case):
        frames = real(self, case)
        seen.append(threading.current_thread().name)
        if len(seen) >= 2:
            decoding.set()
        return frames

    monkeypatch.setattr(Prefetch, "_load", load)
    measure = Reconstruction.measure

    def patient(self, vae, case):
        assert decoding.wait(20), "the second clip was not decoded while the first was measured"
        return measure(self, vae, case)

    monkeypatch.setattr(Reconstruction, "measure", patient)
    assert run("vaes=[pool/4x8x8]", "clips=3") == 0
    assert all(name.startswith("decode") for name in seen)


def test_decoding_ahead_leaves_the_cores_to_the_model(monkeypatch: pytest.MonkeyPatch):
    """A decoding thread computes alone; the model, and threads born after the run, keep the number that was set."""
    seen: list[int] = []
    real = Prefetch._load
    monkeypatch.setattr(Prefetch, "_load", lambda *it: (seen.append(torch.get_num_threads()), real(*it))[1])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert run("vaes=[pool/4x8x8]", "clips=2") == 0
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (seen, later, torch.get_num_threads()) == ([1, 1], [2], 2)
    finally:
        torch.set_num_threads(before)


def test_decoded_clips_are_kept_for_the_next_vae(monkeypatch: pytest.MonkeyPatch):
    from vaebench.data import bundle

    source = bundle.build(parse_run(SMALL))
    calls: list[str] = []
    real = type(source).__iter__

    def counted(self):
        from dataclasses import replace

        for clip in real(self):
            yield replace(clip, load=lambda clip=clip: (calls.append(clip.id), clip.load())[1])

    monkeypatch.setattr(type(source), "__iter__", counted)
    assert run("vaes=[pool/4x8x8,dct/4]") == 0
    assert len(calls) == 8
