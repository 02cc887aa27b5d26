"""Runs whose cases are finished in a thread, as on a GPU: the same scores, failures and stored cases as without it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaebench
from vaebench import cli, evaluation, records, runner
from vaebench.config import parse_run
from vaebench.overlap import Overlap
from vaebench.suites.reconstruction import Reconstruction

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "vaebench" / "data" / "bundle"
SMALL = ["num_frames=5", "size=32", "metrics=[psnr,ssim,flicker]"]


class Thread:
    """A lane without a device."""

    def mark(self) -> None: ...

    def run(self, work: Callable[[], None], mark: object) -> None:
        work()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def overlapped(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (runner, evaluation):
        monkeypatch.setattr(module, "overlap_of", lambda device: Overlap(Thread()))


def clips() -> Path:
    """Two good clips, and two that cannot be read between them."""
    root = Path("clips")
    root.mkdir()
    first, second = sorted(BUNDLE.glob("*.mp4"))[:2]
    shutil.copy(first, root / "a.mp4")
    (root / "b.mp4").write_bytes(first.read_bytes()[:3000])
    (root / "c.mp4").write_text("this is no video")
    shutil.copy(second, root / "d.mp4")
    return root


def test_scores_and_failures_are_those_of_a_run_without_overlap(request: pytest.FixtureRequest) -> None:
    words = [*SMALL, "data=folder", f"root={clips()}", "protocol=default,default-mp4v,vidtok"]
    words += ["vaes=[pool/4x8x8,wfvae/tiny]"]
    outcomes = []
    for name in ("alone", "overlapped"):
        if name == "overlapped":
            request.getfixturevalue("overlapped")
        outcomes.append(runner.run(parse_run([*words, f"runs={name}", f"results={name}/results"])))
    alone, overlapped = outcomes
    assert alone.failed
    assert overlapped.failed == alone.failed
    assert [record.scores for record in overlapped.records] == [record.scores for record in alone.records]
    assert len(alone.records) == 6
    names = [{file.name for file in Path(name).rglob("*.npz")} for name in ("alone", "overlapped")]
    assert names[0] == names[1]
    for file in Path("alone").rglob("*.npz"):
        (other,) = Path("overlapped").rglob(f"{file.parent.name}/{file.name}")
        with np.load(file) as a, np.load(other) as b:
            assert dict(a).keys() == dict(b).keys()
            assert all(np.array_equal(a[key], b[key]) for key in a)


def test_an_object_has_the_scores_of_a_run_without_overlap(request: pytest.FixtureRequest) -> None:
    def scored() -> tuple[dict[str, Any], list[records.Failure]]:
        vae = vaebench.load("wfvae/tiny")
        record = vaebench.evaluate(vae, data="folder", root="clips", num_frames=5, size=32, metrics=["psnr", "ssim"])
        return record.scores, record.failed

    clips()
    alone = scored()
    request.getfixturevalue("overlapped")
    assert scored() == alone
    assert [failure.case for failure in alone[1]] == ["b", "c"]


@pytest.mark.usefixtures("overlapped")
def test_ctrl_c_keeps_what_was_computed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real, calls = Reconstruction.start, list[str]()

    def start(self: Reconstruction, vae: Any, case: Any) -> Any:
        calls.append(case.id)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, vae, case)

    monkeypatch.setattr(Reconstruction, "start", start)
    words = ["run", *SMALL, "vaes=[pool/4x8x8]"]
    assert cli.main(words) == 130
    assert "run the same command again to resume" in capsys.readouterr().err
    assert len(list(Path("runs").rglob("*.npz"))) == 2
    assert cli.main(words) == 0
    assert len(calls) == 3 + 6


@pytest.mark.usefixtures("overlapped")
def test_fail_fast_stops_at_the_first_failure() -> None:
    words = [*SMALL, "data=folder", f"root={clips()}", "vaes=[pool/4x8x8]", "fail_fast=true"]
    with pytest.raises((ValueError, OSError), match=r"b\.mp4"):
        runner.run(parse_run(words))
    assert len(list(Path("runs").rglob("*.npz"))) == 1


@pytest.mark.usefixtures("overlapped")
def test_a_full_disk_ends_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import os

    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert cli.main(["run", *SMALL, "vaes=[pool/4x8x8]"]) == 2
    assert "No space left on device" in capsys.readouterr().err


class Reusing:
    """A VAE that returns the same memory from every call, as a compiled network with CUDA graphs does."""

    spec = vaebench.VAESpec("reusing", "a", 1, 1, 3, causal=True)

    def __init__(self) -> None:
        self.pixels = torch.empty(1, 3, 5, 32, 32)

    def encode(self, video: torch.Tensor) -> vaebench.Posterior:
        return vaebench.Posterior(video.clone())

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.pixels.copy_(latent)


def test_a_vae_may_reuse_its_memory_in_the_next_call(request: pytest.FixtureRequest) -> None:
    def scores() -> dict[str, Any]:
        return vaebench.evaluate(Reusing(), num_frames=5, size=32, metrics=["psnr"], clips=4).scores

    alone = scores()
    assert alone["psnr"].value == pytest.approx(58.92, abs=0.01)  # every pixel is returned
    request.getfixturevalue("overlapped")
    assert scores() == alone


@pytest.mark.gpu
@pytest.mark.parametrize("protocol", ["default", "wfvae-paper"])
def test_on_a_gpu_overlap_changes_no_score(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["num_frames=17", "size=64", "metrics=[psnr,ssim,flicker]", "vaes=[wfvae/tiny,pool/4x8x8]", "device=cuda"]
    words += [f"protocol={protocol}", "posterior=mode"]
    overlapped = runner.run(parse_run([*words, "runs=overlapped", "results=overlapped/results"]))
    monkeypatch.setattr(runner, "overlap_of", lambda device: Overlap(None))
    alone = runner.run(parse_run([*words, "runs=alone", "results=alone/results"]))
    assert not overlapped.failed
    for a, b in zip(alone.records, overlapped.records, strict=True):
        assert {name: score.value for name, score in a.scores.items()} == pytest.approx(
            {name: score.value for name, score in b.scores.items()}, rel=1e-6
        )
        assert 0 <= b.machine["device_idle"]["share"] <= 1
