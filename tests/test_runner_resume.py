"""Finished cases are stored: a run resumes after a kill, shares its clips with other processes, and measures only what is new."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import ROOT, kept, record, run, stores
from vaebench import cli, jobs, machine, records, runner

pytestmark = pytest.mark.usefixtures("elsewhere")


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


def test_another_config_beside_the_weights_starts_a_new_store():
    release, folder = ROOT / "wfvae" / "weights", Path("mine")
    folder.mkdir()
    shutil.copy(release / "tiny.safetensors", folder)
    config = json.loads((release / "tiny.json").read_text())
    for remark in ("first", "another"):
        (folder / "config.json").write_text(json.dumps({**config, "_remark": remark}))
        assert run("vaes=[wfvae/tiny]", f"weights={folder}", "clips=1") == 0
    assert len(stores()) == 2


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
