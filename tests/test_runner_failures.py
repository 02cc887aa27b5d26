"""A VAE, clip or metric that fails is listed and stops nothing else; a run that cannot start is refused in one line."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import adapters
import vaebench
from tests.runs import BUNDLE, kept, record, run
from vaebench import cli, evaluation, records
from vaebench.config import RunConfig
from vaebench.data import bundle
from vaebench.suite import Case, Suite
from vaebench.suites.reconstruction import Reconstruction
from vaebench.vae import VideoVAE
from vaebench.video import Clip

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("broken", ["{broken", "[" * 100_000], ids=["cut", "nested"])
def test_a_checkpoint_that_cannot_be_read_stops_no_other_vae(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str
):
    index = tmp_path / "mine" / "diffusion_pytorch_model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text(broken)
    assert run(f"vaes=wan:{index.parent},wan:{tmp_path}/nowhere,pool/4x8x8", "clips=1") == 1
    said = capsys.readouterr()
    assert "pool/4x8x8" in said.out
    assert f"failed: wan:{index.parent}: {index} should list the files of the weights" in said.err
    assert f"not ready: wan:{tmp_path}/nowhere: {tmp_path}/nowhere does not exist" in said.err


@pytest.mark.parametrize("family", ["wfvae", "odvae"])
def test_a_config_that_cannot_be_read_stops_no_other_vae(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str
):
    save_file({"encoder.conv_in.bias": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    for broken in ("{", "[" * 100_000):  # Python's parser gives up on the second with another error
        (tmp_path / "config.json").write_text(broken)
        assert run(f"vaes={family}:{tmp_path},pool/4x8x8", "clips=1") == 1
        said = capsys.readouterr()
        assert "pool/4x8x8" in said.out
        assert f"failed: {family}:{tmp_path}: {tmp_path}/config.json is not JSON" in said.err


def test_weights_with_a_missing_shard_are_a_failure_of_their_vae(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shard = tmp_path / "model-00001-of-00002.safetensors"
    shard.touch()
    assert run("vaes=wan/2.1", f"weights={shard}", "clips=1") == 1
    assert f"failed: wan/2.1: {shard} belongs to weights in 2 files, of which 1 are missing" in capsys.readouterr().err


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


def test_fail_fast_stops_at_the_first_failure():
    root = folder_with_bad_clips()
    with pytest.raises((ValueError, OSError), match=r"cut\.mp4"):
        run("vaes=[pool/4x8x8]", "data=folder", f"root={root}", "fail_fast=true")


def test_a_vae_that_breaks_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    real = adapters.ResolvedVAE.load

    def load(self, *words: str, **settings: object):
        if self.name == "dct/4":
            raise RuntimeError("no such network")
        return real(self, *words, **settings)

    monkeypatch.setattr(adapters.ResolvedVAE, "load", load)
    assert run("vaes=[dct/4,pool/4x8x8]") == 1
    said = capsys.readouterr().err
    assert "failed: dct/4: RuntimeError: no such network" in said
    assert "(dct/4 failed)" in said
    assert "(pool/4x8x8 finished)" in said
    assert record().scores["psnr"].n == 8


def test_a_vae_of_which_every_clip_fails_has_failed_and_one_of_which_some_fail_has_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    kind = type(adapters.load("pool/4x8x8"))
    real, calls = kind.encode, []

    def only_second(self, video: torch.Tensor):
        calls.append(1)
        if len(calls) != 2:
            raise ValueError("planted")
        return real(self, video)

    monkeypatch.setattr(kind, "encode", only_second)
    assert run("vaes=pool/4x8x8", "clips=2") == 1
    assert "(pool/4x8x8 finished)" in capsys.readouterr().err
    assert run("vaes=pool/4x8x8", "clips=2", "runs=again") == 1
    assert "(pool/4x8x8 failed)" in capsys.readouterr().err


def test_a_latent_in_place_of_its_posterior_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    kind = type(adapters.load("pool/4x8x8"))
    real = kind.encode
    monkeypatch.setattr(kind, "encode", lambda self, video: real(self, video).mean)
    said = "pool/4x8x8: encode should return a vaebench.Posterior, got Tensor: return Posterior(latent)"
    for words in (["batch_size=2"], ["--suite", "blockwise"], ["--suite", "latent"], ["--suite", "relay"]):
        suite = [] if words[-1] in ("latent", "relay") else ["metrics=psnr"]
        assert cli.main(["run", "vaes=pool/4x8x8", "num_frames=4", "size=32", "clips=2", *suite, *words]) == 1
        assert said in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"encode should return a vaebench\.Posterior"):
        vaebench.evaluate(adapters.load("pool/4x8x8"), num_frames=4, size=32, clips=1, metrics=["psnr"])


def test_a_result_that_cannot_be_stored_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    real = Reconstruction.measure

    def measure(self, vae: VideoVAE, case: Case):
        objects = {"planted": np.array([2**64])} if vae.spec.name == "dct/4" else {}
        return {**real(self, vae, case), **objects}

    monkeypatch.setattr(Reconstruction, "measure", measure)
    monkeypatch.setattr(Reconstruction, "start", Suite.start)  # which calls `measure`
    assert run("vaes=[dct/4,pool/4x8x8]", "clips=1") == 1
    captured = capsys.readouterr().err
    assert "failed: " in captured
    assert "Object arrays cannot be saved when allow_pickle=False [dct/4]" in captured
    assert not list(Path("runs").rglob("*.part"))
    assert record("bundle-5x32-first1").scores["psnr"].n == 1


@pytest.mark.parametrize("broken", ["summarize", "per_case"])
def test_scores_that_cannot_be_summed_up_do_not_stop_the_others(
    broken: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
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


FIRST = """
import torch
from vaebench.metric import Metric


class First(Metric):
    per_clip = {per_clip}
    calls = 0

    def measure(self, reference, reconstruction):
        self.calls += 1
        return torch.full((len(reference),), float("{value}") if self.calls == 1 else 1.0)

    def reduce(self, statistics):
        return float(statistics[statistics == 1].mean())


def build(device):
    return First()
"""


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_score_that_is_not_finite_fails_its_clip_by_name_and_the_others_have_a_record(
    value: str, capsys: pytest.CaptureFixture[str]
):
    Path("first.py").write_text(FIRST.format(per_clip=True, value=value))
    assert run("vaes=pool/4x8x8", "clips=2", "metrics=psnr,./first.py") == 1
    (file,) = Path("runs/results").rglob("pool-4x8x8.json")
    found = records.read(file)
    (failure,) = found.failed
    assert failure.reason.startswith(f"first is {value}, expected a finite number")
    assert f"failed: {failure.case}" in capsys.readouterr().err
    assert {name: score.n for name, score in found.scores.items()} == {"psnr": 1, "first": 1}
    assert failure.case not in records.clips_beside(file)


def test_a_metric_of_sets_may_leave_out_clips_without_a_value(capsys: pytest.CaptureFixture[str]):
    Path("first.py").write_text(FIRST.format(per_clip=False, value="nan"))
    assert run("vaes=pool/4x8x8", "clips=2", "metrics=psnr,./first.py") == 0
    (file,) = Path("runs/results").rglob("pool-4x8x8.json")
    assert records.read(file).scores["first"].value == 1
