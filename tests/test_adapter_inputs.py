"""An adapter that writes into its input changes neither the reference it is scored against nor what comes after it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

import adapters
from tests.test_diffusability import small  # noqa: F401  # the suite's smallest tier
from vaebench import cli, plugins, records
from vaebench.evaluation import InMemory, evaluate
from vaebench.profiling import worker
from vaebench.vae import Posterior, reconstruct


class Overwriting:
    """`pool/4x8x8`, which writes wherever it can: into the video, the latent and what it returned before."""

    def __init__(self) -> None:
        self.inner = adapters.load("pool/4x8x8")
        self.spec = self.inner.spec
        self.seen: list[torch.Tensor] = []  # what it was given, to write into later
        self.returned: list[torch.Tensor] = []

    def encode(self, video: torch.Tensor) -> Posterior:
        mean = self.inner.encode(video).mean
        video.copy_(self.inner.decode(mean))  # an adapter scored against this has no error at all
        self.seen.append(video)
        for old in self.returned:
            old.zero_()
        return Posterior(mean)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        video = self.inner.decode(latent)
        latent.zero_()
        for old in self.seen:
            old.zero_()
        self.returned = [video]
        return video


@pytest.fixture
def overwriting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`overwriting/4x8x8` by name."""
    monkeypatch.chdir(tmp_path)
    module = ModuleType("overwriting")
    module.__file__ = __file__
    module.VARIANTS = {"4x8x8": adapters.find("pool/4x8x8")}
    module.load = lambda spec, **_: Overwriting()
    real = plugins.find
    monkeypatch.setattr(plugins, "find", lambda kind, name: module if name == "overwriting" else real(kind, name))


def _scores(suite: str, *words: str) -> dict[str, dict[str, float | None]]:
    """VAE -> its scores; cost left out."""
    found = {}
    for name in ("pool/4x8x8", "overwriting/4x8x8"):
        folder = name.partition("/")[0]
        said = [f"vaes={name}", f"results={folder}", f"runs={folder}-runs", "device=cpu", *words]
        assert cli.main(["run", "--suite", suite, *said]) == 0
        (record,) = records.read_all(Path(folder))
        found[folder] = {k: s.value for k, s in record.scores.items() if not k.startswith(("time@", "memory@"))}
    return found


@pytest.mark.parametrize(
    ("suite", "words"),
    [
        ("reconstruction", ["num_frames=8", "size=32", "clips=2", "metrics=[psnr]", "data=synthetic"]),
        ("blockwise", ["num_frames=8", "size=32", "clips=2", "metrics=[psnr]", "data=synthetic", "independent=[4]"]),
        ("diffusability", ["tier=smoke", "features=[videomae_ssv2]"]),
    ],
)
@pytest.mark.usefixtures("overwriting")
def test_an_adapter_that_writes_into_its_arguments_has_the_scores_of_one_that_does_not(
    suite: str, words: list[str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    if suite == "diffusability":
        from vaebench.generation import extractors

        request.getfixturevalue("small")
        # features of every pixel; the networks of the published ones are not here
        fake = {"videomae_ssv2": lambda video: video.double().mean(dim=(2, 3, 4)).numpy()[0]}
        monkeypatch.setattr(extractors, "available", lambda *_, **__: (fake, {}))
        monkeypatch.setitem(extractors.FILES, "videomae_ssv2", ())
    found = _scores(suite, *words)
    assert found["overwriting"] == found["pool"]
    assert found["pool"]


def test_the_video_and_the_latent_are_what_they_were():
    video = torch.rand(1, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before, expected = video.clone(), adapters.load("pool/4x8x8").encode(video).mode()
    _, latent = reconstruct(Overwriting(), video)
    assert torch.equal(video, before)
    assert torch.equal(latent, expected)


@pytest.mark.parametrize("half", ["encode", "decode"])
def test_cost_is_not_measured_where_an_adapter_changes_its_input_from_call_to_call(
    half: str, monkeypatch: pytest.MonkeyPatch
):
    vae = Overwriting()
    if half == "decode":
        vae.encode = vae.inner.encode
    job = worker.Job("pool/4x8x8", "cpu", "float32", "whole", 4, 16, 0.5, 1.0, 0.0, 1, False, False, False, False)
    with torch.inference_mode(), pytest.raises(ValueError, match=f"pool/4x8x8: {half} writes into its input"):
        worker.measure_time(job, InMemory.of(vae))


def test_an_object_that_writes_into_its_arguments_is_scored_like_one_that_does_not():
    given = {"data": "synthetic", "clips": 1, "num_frames": 8, "size": 32, "metrics": ["psnr"]}
    expected = evaluate(adapters.load("pool/4x8x8"), **given).scores["psnr"]
    assert evaluate(Overwriting(), **given).scores["psnr"] == expected
