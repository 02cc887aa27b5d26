"""`vaebench run`: the table, the record, the settings that it names, and what is printed beside them."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runs import ROOT, SMALL, record, run
from vaebench import __version__, cli, records

pytestmark = pytest.mark.usefixtures("elsewhere")


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


def test_a_default_spelled_out_is_the_default():
    assert run("vaes=[pool/4x8x8]", "clips=1", "dtype=float32", "posterior=mode") == 0
    assert record("bundle-5x32-first1").scores["psnr"].n == 1


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


def test_a_record_without_clips_tells_of_no_padding(monkeypatch: pytest.MonkeyPatch):
    from vaebench.suites.efficiency import Efficiency

    monkeypatch.setattr(Efficiency, "_spawn", lambda *_: {"out_of_memory": "planted"})
    assert cli.main(["run", "--suite", "efficiency", "vaes=[pool/4x8x8]", "device=cpu"]) == 0
    (file,) = Path("runs/results/efficiency").rglob("pool-4x8x8.json")
    assert "padded_to" not in records.read(file).data
    assert run("vaes=[pool/4x8x8]", "clips=1") == 0
    assert record("bundle-5x32-first1").data["padded_to"] == "8 frames, size a multiple of 8"


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
