"""A VAE's latents and its model: what names their folders, on which device they are made, and how often they are read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import accelerate
import pytest
import torch

import adapters
from tests.sources import build
from vaebench import fingerprint
from vaebench.generation import diffusion_run, latent_cache
from vaebench.generation.diffusion_run import DiffusionRun, Plan
from vaebench.generation.tiers import TIERS

PLAN = Plan(
    mode="whole", dtype="float32", frames=16, size=32, interval=1, resize="antialiased", windows=1, flips=False,
    classes=False, clips=2, scaling="measured", held_out=0.0, seed=0, shape=(2, 32, 2), train=TIERS["smoke"].train,
)  # fmt: skip


def subject(plan: Plan, runs: Path, device: str = "cpu") -> DiffusionRun:
    source = build("synthetic", num_frames=16)
    return DiffusionRun(
        adapters.load("pool/4x8x8"), "none", ["adapters.pool"], source, plan, runs, torch.device(device)
    )


@pytest.mark.parametrize(
    "other",
    [{"mode": "tiled"}, {"dtype": "bfloat16"}, {"frames": 12}, {"interval": 3}, {"resize": "latte"}, {"seed": 1}],
    ids=str,
)
def test_latents_made_in_another_way_lie_in_another_folder(other: dict[str, object], tmp_path: Path) -> None:
    assert subject(PLAN, tmp_path).latents_key == subject(replace(PLAN), tmp_path).latents_key
    assert subject(PLAN, tmp_path).latents_key != subject(replace(PLAN, **other), tmp_path).latents_key  # type: ignore[arg-type]


@pytest.fixture
def edit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Changes the code of a file, as far as fingerprints see."""
    real = fingerprint._parsed

    def changed(path: str) -> None:
        def parsed(file: Path, time: int) -> tuple[str, tuple[str, ...], frozenset[str]]:
            tree, *rest = real(file, time)
            return (tree + "edited" * file.as_posix().endswith(path), *rest)

        monkeypatch.setattr(fingerprint, "_parsed", parsed)

    return changed


@pytest.mark.parametrize(
    "edited", ["adapters/pool.py", "vaebench/generation/windows.py", "vaebench/video_io/decode.py"]
)
def test_latents_of_older_code_are_not_taken(edited: str, tmp_path: Path, edit: Callable[[str], None]) -> None:
    before = subject(PLAN, tmp_path).latents_key
    edit(edited)
    assert subject(PLAN, tmp_path).latents_key != before


def test_a_model_of_older_code_is_not_taken_but_the_latents_are(tmp_path: Path, edit: Callable[[str], None]) -> None:
    before = subject(PLAN, tmp_path)
    key, folder = before.latents_key, before.training_folder
    edit("vaebench/generation/latte/train.py")
    assert subject(PLAN, tmp_path).training_folder != folder
    assert subject(PLAN, tmp_path).latents_key == key
    edit("adapters/dct.py")
    assert subject(PLAN, tmp_path).training_folder == folder


def test_the_model_is_trained_on_the_gpu_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []

    class Stop(Exception):
        pass

    def accelerator(**_: object) -> None:
        assert current == [torch.device("cuda", 1)]  # accelerate takes the current device
        raise Stop

    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(accelerate, "Accelerator", accelerator)
    with pytest.raises(Stop):
        subject(PLAN, tmp_path, "cuda:1")._train(lambda ema, file: None)


def test_a_model_of_another_precision_lies_in_another_folder(tmp_path: Path) -> None:
    made = subject(PLAN, tmp_path)
    before = made.training_folder
    made.device = torch.device("cuda")  # where it is trained in bf16
    assert made.training_folder != before


def test_a_trained_model_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = subject(PLAN, tmp_path)
    made.training_folder.mkdir()
    model = diffusion_run.Latte(made.model_config)
    torch.save({"ema": model.state_dict()}, made.training_folder / f"{PLAN.train.steps:07d}.pt")
    read, real = [], diffusion_run.load
    monkeypatch.setattr(diffusion_run, "load", lambda *given: (read.append(given), real(*given))[1])
    first = made.trained(lambda ema, file: None)
    assert made.trained(lambda ema, file: None) is first
    assert len(read) == 1


def test_a_finished_model_whose_file_is_damaged_is_trained_again(tmp_path: Path) -> None:
    made = subject(PLAN, tmp_path)
    trained = made.trained(lambda ema, file: None)
    *_, file = sorted(made.training_folder.glob("*.pt"))
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.warns(UserWarning, match=rf"{file.name} cannot be read"):
        again = subject(PLAN, tmp_path).trained(lambda ema, file: None)
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))


def test_processes_of_two_machines_with_one_id_write_a_shard_to_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, real = [], latent_cache.save_file
    monkeypatch.setattr(
        latent_cache, "save_file", lambda tensors, part, **how: (parts.append(part), real(tensors, part, **how))
    )
    made = subject(PLAN, tmp_path)
    for _ in range(2):
        latent_cache._encode_shard(made.vae, made.windows, tmp_path / "00000.safetensors", made.device)
    assert len(set(parts)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["00000.safetensors"]


def test_latents_are_measured_where_accelerate_is_not_installed() -> None:
    words = "import sys; sys.modules['accelerate'] = None; import vaebench.suites.diffusability"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
