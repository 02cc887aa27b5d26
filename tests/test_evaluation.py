"""`vaebench.evaluate`: VAE objects, factories and data of the user's own, without names and without files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import adapters
import vaebench
from vaebench import cli, records
from vaebench.data import ListedSource
from vaebench.video import Clip

SMALL = {"data": "synthetic", "num_frames": 5, "size": 32, "clips": 2, "metrics": ["psnr"]}


class Halves(nn.Module):
    """A module in training that is a VAE: every second pixel, through a convolution that changes nothing."""

    spec = vaebench.VAESpec("halves", "step-10", 1, 2, 3, causal=True, size_multiple=2)

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv3d(3, 3, 1, bias=False)
        nn.init.dirac_(self.same.weight)

    def encode(self, video: torch.Tensor) -> vaebench.Posterior:
        return vaebench.Posterior(self.same(video[..., ::2, ::2]))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_an_object_has_the_scores_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    by_object = vaebench.evaluate(adapters.load("pool/4x8x8"), **SMALL)
    words = ["vaes=pool/4x8x8", "data=synthetic", "num_frames=5", "size=32", "clips=2", "metrics=psnr"]
    assert cli.main(["run", *words]) == 0
    (by_name,) = records.read_all(Path("runs/results"))
    assert by_object.scores == by_name.scores
    assert by_object.setting == by_name.setting
    assert by_object.vae["weights"].startswith("in memory")
    assert set(tmp_path.iterdir()) == {tmp_path / "runs"}  # the object's evaluation wrote nothing


def test_a_module_is_evaluated_in_every_suite_but_that_of_generation() -> None:
    module = Halves()
    assert vaebench.evaluate(module, **SMALL).scores["psnr"].value > 10
    blockwise = vaebench.evaluate(module, "blockwise", **SMALL, independent=[2]).scores
    assert blockwise["pixels_max@independent-2"].value == 0
    cost = vaebench.evaluate(module, "efficiency", frames=[2], sizes=[16], max_seconds=0.1)
    assert cost.extra["float32 2x16"]["parameters"] == 9
    assert cost.scores["encode_flop@float32 2x16"].value == 2 * 9 * 2 * 8 * 8


def test_the_weights_of_an_object_are_the_hash_of_its_parameters() -> None:
    module = Halves()
    before = vaebench.evaluate(module, **SMALL).vae["weights"]
    assert vaebench.evaluate(Halves(), **SMALL).vae["weights"] == before
    with torch.no_grad():
        module.same.weight.mul_(0.5)
    assert vaebench.evaluate(module, **SMALL).vae["weights"] != before


def test_channels_last_reaches_a_vae_that_is_a_module_and_is_refused_for_one_without() -> None:
    vaebench.evaluate(module := Halves(), "efficiency", frames=[2], sizes=[16], max_seconds=0.1, channels_last=True)
    assert module.same.weight.is_contiguous(memory_format=torch.channels_last_3d)
    with pytest.raises(ValueError, match="has no torch module, so channels_last=true would change nothing"):
        vaebench.evaluate(adapters.load("pool/4x8x8"), "efficiency", frames=[4], sizes=[16], channels_last=True)


def test_a_factory_gives_every_mode() -> None:
    make = lambda mode: adapters.load("wfvae/tiny-random", mode=mode)  # noqa: E731
    scores = vaebench.evaluate(make, "blockwise", **SMALL, independent=[]).scores
    assert scores["pixels_max@streamed"].value <= 2e-5


class Noise:
    """A source of the user's own."""

    identity = {"name": "noise", "sha256": "0", "clips": "2"}  # noqa: RUF012

    def __iter__(self):
        for seed in range(2):
            generator = torch.Generator().manual_seed(seed)
            frames = torch.randint(0, 256, (3, 4, 16, 16), generator=generator, dtype=torch.uint8)
            yield Clip(f"noise/{seed}", 0.0, lambda frames=frames: frames)
        yield Clip("noise/broken", 0.0, _broken, file="broken.mp4")


def _broken() -> torch.Tensor:
    raise ValueError("broken.mp4 ends after 3 frames")


def test_a_source_is_an_object_too_and_a_clip_that_cannot_be_read_is_listed() -> None:
    record = vaebench.evaluate(adapters.load("pool/4x8x8"), data=Noise(), metrics=["psnr"])
    assert record.scores["psnr"].n == 2
    assert [(failure.case, failure.reason) for failure in record.failed] == [
        ("noise/broken", "broken.mp4 ends after 3 frames")
    ]


def test_a_fault_of_the_vae_is_raised_with_its_cause() -> None:
    class Faulty(Halves):
        def decode(self, latent: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such kernel")

    with pytest.raises(ValueError, match="no case could be measured: RuntimeError: no such kernel") as error:
        vaebench.evaluate(Faulty(), **SMALL)
    assert isinstance(error.value.__cause__, RuntimeError)
    with pytest.raises(RuntimeError, match="no such kernel"):
        vaebench.evaluate(Faulty(), **SMALL, fail_fast=True)


# a source that is called as one of ours is: the suite must not evaluate on that one instead
OBJECT_IN_DIFFUSABILITY = {
    "suite": "diffusability",
    "data": ListedSource(
        {"name": "bundle", "sha256": "", "clips": "1"}, [Clip("a", 24.0, lambda: torch.zeros(3, 5, 32, 32))]
    ),
    "tier": "0",
}


@pytest.mark.parametrize(
    ("vae", "given", "error", "message"),
    [
        (object(), {}, TypeError, r"object is not a VAE: expected spec \(a vaebench.VAESpec\), encode"),
        (nn.Conv2d(3, 3, 1), {}, TypeError, "Conv2d is not a VAE: expected spec"),
        (Halves(), {"sizee": 3}, ValueError, "no setting 'sizee'; did you mean 'size'?"),
        (Halves(), {"results": "here"}, ValueError, "results: only `vaebench run` has these settings"),
        (Halves(), {"dtype": "bfloat16"}, ValueError, "a VAE object keeps its own dtype"),
        (Halves(), {"mode": "tiled"}, ValueError, r"halves/step-10 has no mode 'tiled' \(available: whole\)"),
        (Halves(), {"suite": "speed"}, ValueError, "no 'speed' in suites"),
        (
            Halves(),
            OBJECT_IN_DIFFUSABILITY,
            ValueError,
            "the diffusability suite builds its own source of longer clips",
        ),
    ],
    ids=["no VAE", "a module", "misspelt", "output", "dtype", "mode", "suite", "source"],
)
def test_what_cannot_be_evaluated_is_refused(vae: object, given: dict, error: type[Exception], message: str) -> None:
    small = {} if given.get("suite") == "diffusability" else SMALL
    with pytest.raises(error, match=message):
        vaebench.evaluate(vae, **{**small, **given})


def test_importing_the_package_imports_neither_torch_nor_pandas() -> None:
    code = "import sys, vaebench; dir(vaebench); assert not {'torch', 'pandas', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert vaebench.load is adapters.load
    with pytest.raises(AttributeError, match="no attribute 'score'"):
        vaebench.score  # noqa: B018


class Unsteady(Halves):
    """A module with dropout and batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.norm = nn.Dropout(0.5), nn.BatchNorm3d(3)

    def encode(self, video: torch.Tensor) -> vaebench.Posterior:
        return vaebench.Posterior(self.norm(self.drop(self.same(video[..., ::2, ::2]))))

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, int]) -> None: ...


def test_a_module_in_training_is_scored_in_evaluation_mode_and_left_as_it_was() -> None:
    module = Unsteady()
    module.norm.eval()
    first, second = (vaebench.evaluate(module, **SMALL).scores for _ in range(2))
    assert first == second
    assert (module.training, module.drop.training, module.norm.training) == (True, True, False)
    assert module.norm.num_batches_tracked == 0


def test_tf32_stays_as_the_caller_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    vaebench.evaluate(Halves(), **SMALL)
    assert torch.backends.cudnn.allow_tf32


def test_an_object_is_labelled_with_its_own_dtype() -> None:
    class Half(Halves):
        def encode(self, video: torch.Tensor) -> vaebench.Posterior:
            return vaebench.Posterior(super().encode(video.bfloat16()).mean.float())

    record = vaebench.evaluate(Half().bfloat16(), **SMALL)
    assert record.config["dtype"] == "bfloat16"
    assert record.setting.endswith("bfloat16-psnr")
    with pytest.raises(ValueError, match="dtypes: a VAE object keeps its own dtype"):
        vaebench.evaluate(Halves(), "efficiency", dtypes=["float32", "bfloat16"])


def test_modules_of_a_factory_share_no_weights() -> None:
    made: dict[str, Halves] = {}

    class Modal(Halves):
        spec = vaebench.VAESpec("halves", "a", 1, 2, 3, causal=True, size_multiple=2, modes=("whole", "tiled"))

    def make(mode: str) -> Halves:
        return made.setdefault(mode or "whole", Modal())

    vaebench.evaluate(make, "blockwise", **SMALL, independent=[])
    assert made["whole"].same.weight.data_ptr() != made["tiled"].same.weight.data_ptr()
