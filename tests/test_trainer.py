"""The training loop: it learns, it can be killed at any step, and it does not depend on how many processes share the batch."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.processes import run_two
from wfvae import WFVAE, WFVAEConfig, state
from wfvae.batches import Sample, batches
from wfvae.objective import LCRConfig, LMRConfig, LossConfig
from wfvae.schedule import TrainerConfig, learning_rate
from wfvae.start import carry_wavelets, start_from
from wfvae.trainer import Hooks, Trainer

SMALL = WFVAEConfig(4, 2, 4, 1, 1, 1, 4, 4)
QUIET = Hooks()
LOSS = LossConfig(reduction="mean", perceptual=0, adversarial=0.1)
QUICK = TrainerConfig(
    steps=6,
    batch_size=1,
    learning_rate=2e-3,
    max_grad_norm=1.0,
    ema=0.9,
    discriminator_start=2,
    discriminator_width=4,
    discriminator_layers=1,
    save_every=2,
    validate_every=100,
    workers=0,
)


@pytest.fixture(autouse=True)
def _a_process_of_its_own() -> None:
    """accelerate keeps the precision of the first run of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)


class Ramps:
    """Clips of slanted colour ramps that move; from index `poison` on they are not numbers."""

    def __init__(self, frames: int = 5, size: int = 8, poison: int | None = None) -> None:
        self.frames, self.size, self.poison = frames, size, poison

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        slope = torch.rand(3, 3, generator=generator)
        t = torch.linspace(0, 1, self.frames)[None, :, None, None]
        y = torch.linspace(0, 1, self.size)[None, None, :, None]
        x = torch.linspace(0, 1, self.size)[None, None, None, :]
        a, b, c = (slope[:, i].view(3, 1, 1, 1) for i in range(3))
        video = (a * t + b * y + c * x) / 1.5 - 1
        if self.poison is not None and index >= self.poison:
            video = video * float("nan")
        return Sample(video)


def model(seed: int = 0) -> WFVAE:
    torch.manual_seed(seed)
    return WFVAE(SMALL)


class Doubled(Ramps):
    """In float64, where Adam does not blow the rounding of a vanishing gradient up to a whole step."""

    def __getitem__(self, index: int) -> Sample:
        return Sample(super().__getitem__(index).video.double())


def trainer(run: Path, config: TrainerConfig = QUICK, loss: LossConfig = LOSS, hooks: Hooks = QUIET, **more) -> Trainer:
    clips = more.pop("clips", Ramps())
    net = model().double() if isinstance(clips, Doubled) else model()
    built = Trainer(net, clips, run, config=config, loss=loss, hooks=hooks, cpu=True, **more)
    built.resume()
    return built


def curve(log: dict[int, dict[str, float]]) -> Callable[[int, dict[str, float]], None]:
    def write(step: int, values: dict[str, float]) -> None:
        log[step] = {name: value for name, value in values.items() if name != "clips_per_s"}

    return write


class Killed(BaseException):
    pass


def test_the_loss_falls(tmp_path: Path) -> None:
    log: dict[int, dict[str, float]] = {}
    config = replace(QUICK, steps=24, save_every=24, learning_rate=8e-3)
    trainer(tmp_path, config, replace(LOSS, adversarial=0), Hooks(curve(log))).train()
    first, last = (sum(log[i]["total"] for i in steps) / 8 for steps in (range(1, 9), range(17, 25)))
    assert last < 0.75 * first


@pytest.mark.parametrize(("order", "killed_at"), [("alternating", 5), ("simultaneous", 3)])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, order: str, killed_at: int) -> None:
    config = replace(QUICK, order=order, gradient_accumulation_steps=2)
    more = {"lmr": LMRConfig((0.0, 0.5), (0.5, 0.5))}
    whole: dict[int, dict[str, float]] = {}
    trainer(tmp_path / "whole", config, hooks=Hooks(curve(whole)), **more).train()
    parts: dict[int, dict[str, float]] = {}
    write = curve(parts)

    def until_killed(step: int, values: dict[str, float]) -> None:
        if step == killed_at:
            raise Killed
        write(step, values)

    with pytest.raises(Killed):
        trainer(tmp_path / "parts", config, hooks=Hooks(until_killed), **more).train()
    torch.manual_seed(12345)  # nothing may hang on what the process did before
    again = trainer(tmp_path / "parts", config, hooks=Hooks(write), **more)
    assert again.step == killed_at // 2 * 2
    again.train()
    assert parts == whole
    a, b = (state.read(state.checkpoint_folder(tmp_path / name, 6)) for name in ("whole", "parts"))
    for key in ("model", "ema", "discriminator"):
        assert a[key].keys() == b[key].keys()
        assert all(torch.equal(a[key][name], b[key][name]) for name in a[key]), key


def test_another_seed_gives_another_curve(tmp_path: Path) -> None:
    curves = []
    for seed in (0, 1):
        log: dict[int, dict[str, float]] = {}
        config = replace(QUICK, steps=2, seed=seed)
        trainer(tmp_path / str(seed), config, hooks=Hooks(curve(log))).train()
        curves.append(log)
    assert curves[0] != curves[1]


def test_alternating_steps_train_one_network_each_and_simultaneous_steps_both(tmp_path: Path) -> None:
    for order, expected in (
        ("alternating", ["G", "G", "G", "D", "G", "D"]),
        ("simultaneous", ["G", "G", *["GD"] * 4]),
    ):
        log: dict[int, dict[str, float]] = {}
        trainer(tmp_path / order, replace(QUICK, steps=6, order=order), hooks=Hooks(curve(log))).train()
        seen = ["G" * ("pixel" in log[i]) + "D" * ("discriminator" in log[i]) for i in range(1, 7)]
        assert seen == expected
        assert [("adversarial" in log[i]) for i in range(1, 7)] == [i > 2 and "G" in seen[i - 1] for i in range(1, 7)]


def test_accumulation_equals_the_larger_batch(tmp_path: Path) -> None:
    loss = replace(LOSS, adversarial=0)
    weights = []
    for name, batch, accumulate in (("large", 4, 1), ("small", 2, 2)):
        found = trainer(
            tmp_path / name,
            replace(QUICK, steps=3, batch_size=batch, gradient_accumulation_steps=accumulate),
            loss,
            clips=Doubled(),
        )
        found.train()
        weights.append(found.model.state_dict())
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-9), name


def _one_of_two(rank: int, port: int, run: str) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    torch.set_num_threads(1)
    log: dict[int, dict[str, float]] = {}
    config = replace(QUICK, steps=3, batch_size=2)
    trainer(Path(run), config, replace(LOSS, adversarial=0), Hooks(curve(log)), clips=Doubled()).train()
    if rank == 0:
        Path(run, "curve.json").write_text(json.dumps(log))
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_two(_one_of_two, port, str(tmp_path / "two"))
    log: dict[int, dict[str, float]] = {}
    config = replace(QUICK, steps=3, batch_size=4)
    one = trainer(tmp_path / "one", config, replace(LOSS, adversarial=0), Hooks(curve(log)), clips=Doubled())
    one.train()
    two = state.read(state.checkpoint_folder(tmp_path / "two", 3))
    for name, value in one.passes.state_dict().items():
        assert torch.allclose(value, two["model"][name], atol=1e-9), name
    found = json.loads((tmp_path / "two" / "curve.json").read_text())
    for step, values in log.items():
        assert found[str(step)]["total"] == pytest.approx(values["total"], rel=1e-5)


def test_clips_are_dealt_to_processes_like_cards() -> None:
    whole = batches(Ramps(), 4, start=2)
    parts = [batches(Ramps(), 2, start=2, rank=rank, world=2) for rank in (0, 1)]
    for _ in range(2):
        expected = next(whole)
        found = [next(part) for part in parts]
        assert found[0].indices + found[1].indices == expected.indices
        assert torch.equal(torch.cat([f.video for f in found]), expected.video)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nan at step 5; the last good checkpoint is .*step-00000004"):
        trainer(tmp_path, replace(QUICK, discriminator_start=100), clips=Ramps(poison=5)).train()
    weights = load_file(state.checkpoints(tmp_path)[-1] / state.WEIGHTS)
    assert all(value.isfinite().all() for value in weights.values())


def test_checkpoints_load_as_official_files_and_carry_the_ema(tmp_path: Path) -> None:
    found = trainer(tmp_path)
    found.train()
    folder = state.checkpoints(tmp_path)[-1]
    config = WFVAEConfig.from_official(json.loads((folder / "config.json").read_text()))
    assert config == SMALL
    loaded = WFVAE(config)
    loaded.load_state_dict(load_file(folder / state.WEIGHTS))
    raw, ema = found.model.state_dict(), found.ema.averages
    name = "decoder.conv_out.weight"
    assert torch.equal(loaded.state_dict()[name], ema["model." + name])
    assert not torch.equal(raw[name], ema["model." + name])


def test_ema_is_the_average_of_its_definition() -> None:
    layer = nn.Linear(1, 1, bias=False)
    ema = state.Ema.of(layer, 0.75)
    start = layer.weight.item()
    with torch.no_grad():
        layer.weight.fill_(3.0)
    ema.update(layer)
    ema.update(layer)
    assert ema.weights(layer)["weight"].item() == pytest.approx(0.75**2 * start + (1 - 0.75**2) * 3, rel=1e-6)


def test_the_newest_checkpoints_and_the_best_one_stay(tmp_path: Path) -> None:
    scores = iter([1.0, 9.0, 2.0, 3.0])
    hooks = Hooks(validate=lambda step, model: {"psnr": next(scores)})
    trainer(tmp_path, replace(QUICK, keep=1, validate_every=2), hooks=hooks).train()
    assert [path.name for path in state.checkpoints(tmp_path)] == ["step-00000004", "step-00000006"]
    assert state.best(tmp_path).name == "step-00000004"


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = state.checkpoint_folder(tmp_path, 1)

    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        state.write(folder, {}, {"w": torch.zeros(1)}, {})
    assert state.checkpoints(tmp_path) == []


def test_a_frozen_encoder_stays_and_the_decoder_moves(tmp_path: Path) -> None:
    before = model().state_dict()
    found = trainer(tmp_path, replace(QUICK, steps=3, freeze_encoder=True))
    found.train()
    for name, value in found.model.state_dict().items():
        if name.startswith("encoder"):
            assert torch.equal(value, before[name]), name
    assert not torch.equal(found.model.last_layer, before["decoder.conv_out.weight"])


def test_clipped_gradients_are_no_longer_than_the_limit(tmp_path: Path) -> None:
    lengths = []
    found = trainer(tmp_path, replace(QUICK, steps=3, max_grad_norm=0.01, discriminator_start=100))
    step = found.optimizer.step

    def spy() -> None:
        gradients = [p.grad.flatten() for p in found.passes.parameters() if p.grad is not None]
        lengths.append(torch.cat(gradients).norm().item())
        step()

    found.optimizer.step = spy
    found.train()
    assert len(lengths) == 3
    assert all(length == pytest.approx(0.01, rel=1e-3) for length in lengths)


def test_recomputed_activations_give_the_same_weights(tmp_path: Path) -> None:
    weights = []
    for recompute in (False, True):
        config = replace(QUICK, steps=2, checkpoint_activations=recompute)
        found = trainer(tmp_path / str(recompute), config, clips=Doubled())
        found.train()
        weights.append(found.model.state_dict())
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-6), name


def test_a_later_stage_takes_weights_over_and_refreshes_the_discriminator(tmp_path: Path) -> None:
    first = trainer(tmp_path / "1")
    first.train()
    folder = state.checkpoints(tmp_path / "1")[-1]
    for refresh in (False, True):
        later = trainer(tmp_path / f"2-{refresh}", replace(QUICK, seed=7))
        start_from(later, folder, refresh)
        assert later.step == 0
        assert torch.equal(later.model.last_layer, first.model.last_layer)
        name = "model.decoder.conv_out.weight"
        assert torch.equal(later.ema.averages[name], first.ema.averages[name])
        same = torch.equal(later.discriminator.main[0].weight, first.discriminator.main[0].weight)
        assert same is not refresh


def test_local_correlation_is_logged_and_moves_the_encoder(tmp_path: Path) -> None:
    weights = []
    for weight in (0.0, 50.0):
        log: dict[int, dict[str, float]] = {}
        config = replace(QUICK, steps=2, discriminator_start=100)
        lcr = LCRConfig(weight=weight, window=(1, 2, 2), threshold=1.0)
        more = {"lcr": lcr, "clips": Ramps(size=16)}
        found = trainer(tmp_path / str(weight), config, hooks=Hooks(curve(log)), **more)
        found.train()
        assert ("local_correlation" in log[1]) is (weight > 0)
        weights.append(found.model.encoder.conv_out.conv.weight.detach().clone())
    assert not torch.equal(weights[0], weights[1])


def test_learning_rate_rises_then_falls_as_a_function_of_the_step_alone() -> None:
    config = replace(QUICK, steps=100, warmup=10, decay="cosine", learning_rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 50) == pytest.approx(0.5)
    assert learning_rate(config, 99) < 0.001
    assert learning_rate(replace(QUICK, learning_rate=1.0), 77) == 1.0


def test_learning_rate_decays_over_the_last_steps_only() -> None:
    config = replace(QUICK, steps=100, decay="cosine", decay_steps=20, learning_rate=1.0)
    assert [learning_rate(config, step) for step in (0, 79, 80)] == [1.0, 1.0, 1.0]
    assert learning_rate(config, 90) == pytest.approx(0.5)
    # a run shorter than its decay decays from the first step
    assert learning_rate(replace(config, steps=10), 5) == pytest.approx(0.5)


def test_missing_lpips_weights_stop_a_recipe_that_asks_for_the_term(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"loss\.perceptual: 0"):
        trainer(tmp_path, loss=LossConfig())


def test_bfloat16_is_of_the_computation_and_weights_stay_float32(tmp_path: Path) -> None:
    log: dict[int, dict[str, float]] = {}
    found = trainer(tmp_path, replace(QUICK, steps=4, precision="bf16"), hooks=Hooks(curve(log)))
    found.train()
    full: dict[int, dict[str, float]] = {}
    AcceleratorState._reset_state(reset_partial_state=True)
    trainer(tmp_path / "full", replace(QUICK, steps=4), hooks=Hooks(curve(full))).train()
    assert {p.dtype for p in found.passes.parameters()} == {torch.float32}
    assert log[1]["pixel"] != full[1]["pixel"]
    assert log[1]["pixel"] == pytest.approx(full[1]["pixel"], rel=0.02)


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"precision": "fp16", "order": "simultaneous"},
        {"ema": 1.0},
        {"learning_rate": 0.0},
        {"gradient_accumulation_steps": 0},
    ],
)
def test_impossible_trainer_settings_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=r"trainer\."):
        TrainerConfig(**bad)


def test_a_start_from_wavelets_passes_the_strongest_components_through() -> None:
    config = WFVAEConfig(16, 8, 4, 1, 1, 1, 16, 16)
    torch.manual_seed(0)
    net = WFVAE(config)
    videos = [Ramps(9, 32)[i].video[None] for i in range(6)]
    carry_wavelets(net, videos)
    video: Tensor = Ramps(9, 32)[99].video[None]
    with torch.no_grad():
        found = net(video, sample_posterior=False)
    # the energy of W3 on ramps lies in a few components, and these come back
    assert (found.decoder_w3 - found.encoder_w3).norm() < 0.1 * found.encoder_w3.norm()
    assert (found.video - video).abs().mean() < 0.2 * (video - video.mean()).abs().mean()
    with pytest.raises(ValueError, match="initial: wavelets"):
        carry_wavelets(WFVAE(replace(SMALL, latent_channels=8)), videos)
