"""Training a Latte: the official steps (golden), one clip learnt by heart, exact resume, two processes as one."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor

from tests.goldens_io import Golden, rebuild
from tests.latents import InMemory
from tests.processes import run_two
from tests.test_latte import close, golden_model, kind, random_input, random_latte, swap
from vaebench.generation.latte.diffusion import linear, noised, respaced
from vaebench.generation.latte.model import Latte, LatteConfig, load
from vaebench.generation.latte.sample import sample
from vaebench.generation.latte.train import (
    TrainConfig,
    begin,
    checkpoints,
    denoising_loss,
    grid_steps,
    rows_of,
    train,
    update,
)

SMALL = LatteConfig(channels=2, frames=2, height=4, width=4, patch=2, depth=2, hidden=32, heads=2, classes=3)
FAST = TrainConfig(steps=6, batch=4, learning_rate=1e-3, warmup=3, ema_decay=0.9, clip_from=2, checkpoint_every=3)


@pytest.fixture
def accelerator(reset_accelerate: None) -> Accelerator:
    return Accelerator(cpu=True)


def clips(count: int = 7, seed: int = 0) -> InMemory:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(count, SMALL.channels, SMALL.frames, SMALL.height, SMALL.width, generator=generator)
    return InMemory(mean, torch.full_like(mean, 0.1), torch.arange(count) % SMALL.classes)


def weights(model: Latte) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def same_function(a: Latte, b: Latte) -> None:
    """Weights are not compared: the keys' biases have no effect, and Adam turns their rounding noise into full steps."""
    with torch.no_grad():
        close(a(*random_input(SMALL)), b(*random_input(SMALL)), 1e-4)


class FirstUpdateSkipped:
    """The optimizer of the official loop: its first step updates nothing, and its second sums the gradients of two batches."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.param_groups, self.updates = optimizer, optimizer.param_groups, 0

    def step(self) -> None:
        if self.updates:
            self.optimizer.step()

    def zero_grad(self) -> None:
        if self.updates:
            self.optimizer.zero_grad()
        self.updates += 1


@pytest.mark.parametrize("golden", kind("train_steps"), ids=str)
def test_the_steps_are_those_of_the_official_loop(golden: Golden, accelerator: Accelerator) -> None:
    spec, tensors = golden.json("spec"), golden.tensors()
    model = golden_model(golden).requires_grad_(True)
    for table in (model.pos_embed, model.temp_embed):
        table.requires_grad_(False)
    config = TrainConfig(
        steps=spec["steps"], batch=spec["batch"], clip_norm=spec["clip_max_norm"],
        clip_from=spec["start_clip_iter"], label_dropout=0.0,
    )  # fmt: skip
    state = begin(model, config, accelerator)
    state.optimizer = FirstUpdateSkipped(state.optimizer)
    for i in range(spec["steps"]):
        labels = tensors["y"][i] if "y" in tensors else None
        inputs = (swap(tensors["x"][i]), swap(tensors["noise"][i]), tensors["t"][i], labels)
        report = update(state, linear(), config, accelerator, inputs)
        for name in ("loss", "mse", "vb", "grad_norm"):
            assert getattr(report, name).item() == pytest.approx(tensors[name][i].item(), rel=1e-4), (name, i)
    for key in spec["track"]:
        close(model.state_dict()[key], tensors[f"model.{key}"], 1e-4)
        close(state.ema.state_dict()[key], tensors[f"ema.{key}"], 1e-4)


def test_one_clip_is_learnt_by_heart_and_sampled_again(accelerator: Accelerator) -> None:
    torch.manual_seed(0)
    model = Latte(replace(SMALL, classes=0, hidden=64))
    clip = clips(1).mean
    config = TrainConfig(steps=250, batch=32, learning_rate=3e-3, warmup=20)
    reports = [report._replace(ema=None) for report in train(model, InMemory(clip), config, accelerator)]
    first, last = (torch.stack([r.mse for r in part]).mean().item() for part in (reports[:5], reports[-20:]))
    assert first > 0.9  # zero is predicted at first, and the noise has variance 1
    assert last < 0.1
    model.eval()
    again = sample(model, respaced(linear(), "50"), [1, 2])
    assert (again - clip).abs().mean() < 0.25 * clip.abs().mean()


@pytest.mark.parametrize("micro_batch", [0, 3])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_last_bit(
    micro_batch: int, accelerator: Accelerator, tmp_path: Path
) -> None:
    config = replace(FAST, micro_batch=micro_batch)
    whole, broken, resumed = random_latte(SMALL), random_latte(SMALL), random_latte(SMALL)
    *_, last = train(whole, clips(), config, accelerator)
    for report in train(broken, clips(), config, accelerator, tmp_path):
        if report.step == 5:
            break
    assert [path.stem for path in checkpoints(tmp_path)] == ["0000003"]
    reports = list(train(resumed, clips(), config, accelerator, tmp_path))
    assert [report.step for report in reports] == [4, 5, 6]
    assert weights(resumed).equal(weights(whole))
    assert weights(reports[-1].ema).equal(weights(last.ema))
    assert list(train(random_latte(SMALL), clips(), config, accelerator, tmp_path)) == []
    close(weights(load(tmp_path / "0000006.pt", SMALL)), weights(last.ema), 0.0)


@pytest.mark.parametrize("size", [0, 5000])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_goes_on_to_the_same_bits(
    size: int, accelerator: Accelerator, tmp_path: Path
) -> None:
    *_, last = train(random_latte(SMALL), clips(), FAST, accelerator, tmp_path)
    newest = tmp_path / "0000006.pt"
    newest.write_bytes(newest.read_bytes()[:size])
    with pytest.warns(UserWarning, match=r"0000006\.pt cannot be read.*older checkpoint"):
        reports = list(train(random_latte(SMALL), clips(), replace(FAST, checkpoint_every=1), accelerator, tmp_path))
    assert [report.step for report in reports] == [4, 5, 6]
    assert weights(load(newest, SMALL)).equal(weights(last.ema))
    assert [path.stem for path in checkpoints(tmp_path)] == ["0000005", "0000006"]


def test_a_checkpoint_that_would_run_code_is_refused_in_one_line_of_ours(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    torch.save({"model": Path("x")}, tmp_path / "0000003.pt")
    with pytest.warns(UserWarning, match="contains Python objects other than tensors") as caught:
        list(train(random_latte(SMALL), clips(), replace(FAST, steps=1), accelerator, tmp_path))
    assert "weights_only" not in str(caught[0].message)


def test_pieces_of_a_batch_add_up_to_the_batch(accelerator: Accelerator) -> None:
    whole, pieces = random_latte(SMALL), random_latte(SMALL)
    *_, a = train(whole, clips(), FAST, accelerator)
    *_, b = train(pieces, clips(), replace(FAST, micro_batch=1), accelerator)
    torch.testing.assert_close(a.loss, b.loss, rtol=1e-5, atol=1e-6)
    same_function(whole, pieces)
    same_function(a.ema, b.ema)


def test_bfloat16_trains_near_float32(accelerator: Accelerator) -> None:
    plain = [r.loss.item() for r in train(random_latte(SMALL), clips(), FAST, accelerator)]
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    mixed = [
        r.loss.item() for r in train(random_latte(SMALL), clips(), FAST, Accelerator(cpu=True, mixed_precision="bf16"))
    ]
    assert mixed == pytest.approx(plain, rel=0.05)
    assert mixed != plain


def _worker(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
    }
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": Path(folder, "port").read_text()}
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == world
    for _ in train(random_latte(SMALL), clips(), replace(FAST, micro_batch=1), accelerator, Path(folder)):
        pass
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(accelerator: Accelerator, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    run_two(_worker, 2, str(tmp_path))
    alone = random_latte(SMALL)
    *_, last = train(alone, clips(), FAST, accelerator)
    shared = Latte(SMALL)
    shared.load_state_dict(torch.load(tmp_path / "0000006.pt", weights_only=True)["model"])
    same_function(shared, alone)
    same_function(load(tmp_path / "0000006.pt", SMALL), last.ema)


def test_every_clip_comes_once_an_epoch_in_a_new_order() -> None:
    config = TrainConfig(batch=4)
    stream = [row for step in range(9) for row in rows_of(step, config, 12)]
    epochs = [stream[i : i + 12] for i in (0, 12, 24)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert rows_of(3, config, 2) in ([0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0])


def test_the_moving_average_lags_as_its_decay_says(accelerator: Accelerator) -> None:
    model = random_latte(SMALL)
    before = weights(model).clone()
    expected = before.clone()
    for report in train(model, clips(), replace(FAST, steps=3), accelerator):
        expected = 0.9 * expected + 0.1 * weights(model)
        torch.testing.assert_close(weights(report.ema), expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(expected, before)


def test_denoising_loss_of_a_silent_model_is_the_variance_of_noise_and_depends_on_no_batch() -> None:
    model, data = Latte(SMALL), clips(6)
    silent = denoising_loss(model, data, range(6), points=5)
    assert silent.shape == (5, 6)
    assert silent.mean().item() == pytest.approx(1.0, abs=0.1)
    model.load_state_dict(rebuild(model.state_dict(), keep=("pos_embed", "temp_embed")))
    whole = denoising_loss(model, data, range(6), points=5)
    parts = [denoising_loss(model, data, rows, points=5, batch=2) for rows in (range(3), range(3, 6))]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-7)


def test_the_grid_runs_evenly_from_noise_to_data() -> None:
    steps = grid_steps(linear(), 16)
    assert steps[0] == 999
    assert steps[-1] == 0
    assert steps == sorted(steps, reverse=True)
    kept = linear().alphas_cumprod
    gaps = (kept / (1 - kept)).log()[steps].diff()
    assert gaps.min() > 0.5 * gaps.mean()
    x = torch.ones(1, 1, 1, 1, 1)
    assert noised(linear(), x, 0 * x, steps[0]).item() < 0.01


def test_what_cannot_be_trained_is_refused(accelerator: Accelerator, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no latents"):
        next(train(random_latte(SMALL), InMemory(torch.zeros(0, 2, 2, 4, 4)), FAST, accelerator))
    for _ in train(random_latte(SMALL), clips(), FAST, accelerator, tmp_path):
        pass
    with pytest.raises(ValueError, match=r"learning_rate: 0\.001 there, 0\.1 here"):
        next(train(random_latte(SMALL), clips(), replace(FAST, learning_rate=0.1), accelerator, tmp_path))
    with pytest.raises(ValueError, match="is not a checkpoint of this model"):
        next(train(random_latte(replace(SMALL, depth=4)), clips(), FAST, accelerator, tmp_path))
