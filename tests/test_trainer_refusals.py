"""Training that cannot go well stops by name before it spoils anything, and compiled training is the same training."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from tests.test_trainer import LOSS, QUICK, SMALL, Doubled, Ramps, curve, trainer
from wfvae import WFVAE, load, state
from wfvae.batches import Sample
from wfvae.checkpoint import save
from wfvae.objective import LCRConfig, LMRConfig
from wfvae.start import start_from
from wfvae.trainer import Hooks, Trainer

ALONE = replace(LOSS, adversarial=0)
ONE = replace(QUICK, steps=1)


@pytest.fixture(autouse=True)
def _a_process_of_its_own() -> None:
    """accelerate keeps the precision of the first run of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)


def spoil_gradient_of_step(step: int, found: Trainer, parameter: nn.Parameter) -> None:
    """The loss stays what it was; `parameter` gets a gradient that is no number in that step."""
    parameter.register_hook(lambda gradient: gradient * float("nan") if found.step == step else gradient)


@pytest.mark.parametrize(("step", "network"), [(4, "passes"), (5, "discriminator")])
def test_a_gradient_that_is_not_finite_stops_the_run_before_it_reaches_the_weights(
    tmp_path: Path, step: int, network: str
) -> None:
    found = trainer(tmp_path, replace(QUICK, save_every=1))
    spoil_gradient_of_step(step, found, next(getattr(found, network).parameters()))
    good = f"gradient norm is nan at step {step}; the last good checkpoint is .*step-{step:08d}"
    with pytest.raises(ValueError, match=good):
        found.train()
    for module in (found.passes, found.discriminator):
        assert all(value.isfinite().all() for value in module.state_dict().values())
    weights = load_file(state.checkpoints(tmp_path)[-1] / state.WEIGHTS)
    assert all(value.isfinite().all() for value in weights.values())


def test_the_scaler_of_fp16_is_left_to_skip_such_a_step(tmp_path: Path) -> None:
    found = trainer(tmp_path, ONE, ALONE)
    found.config = replace(found.config, precision="fp16")  # there is no scaler on a CPU, so its answer is known: none
    layer = nn.Linear(1, 1)
    layer(torch.full((1, 1), float("inf"))).sum().backward()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    assert not found._update(optimizer, layer).isfinite()


def test_local_correlation_with_a_frozen_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lcr\.weight=0\.5 acts on the encoder only.*trainer\.freeze_encoder=false"):
        trainer(tmp_path, replace(ONE, freeze_encoder=True), lcr=LCRConfig(weight=0.5))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a discriminator, with a mask token."""
    AcceleratorState._reset_state(reset_partial_state=True)
    run = tmp_path_factory.mktemp("stage")
    trainer(run, ONE, ALONE, lmr=LMRConfig((0.0, 0.5), (0.5, 0.5))).train()
    return state.checkpoint_folder(run, 1)


def test_a_stage_without_a_discriminator_has_none_to_go_on_with(stage: Path, tmp_path: Path) -> None:
    later = trainer(tmp_path)
    with pytest.raises(ValueError, match=r"step-00000001 holds no discriminator: set refresh_discriminator=true"):
        start_from(later, stage, refresh_discriminator=False)
    start_from(later, stage, refresh_discriminator=True)
    name = "model.decoder.conv_out.weight"
    assert torch.equal(later.passes.state_dict()[name], state.read(stage)["model"][name])


def test_a_discriminator_of_another_size_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path / "1", ONE).train()
    later = trainer(tmp_path / "2", replace(ONE, discriminator_width=8))
    with pytest.raises(ValueError, match=r"step-00000001 holds a discriminator of another size.*refresh_discriminator"):
        start_from(later, state.checkpoint_folder(tmp_path / "1", 1), refresh_discriminator=False)


@pytest.mark.parametrize("other", [{"latent_channels": 8}, {"interpolation": "nearest"}])
def test_a_stage_of_another_model_is_refused_by_its_settings(stage: Path, tmp_path: Path, other: dict) -> None:
    later = Trainer(WFVAE(replace(SMALL, **other)), Ramps(), tmp_path, config=ONE, loss=ALONE, cpu=True)
    ((name, value),) = other.items()
    held = getattr(SMALL, name)
    with pytest.raises(ValueError, match=rf"step-00000001 holds another model.*model\.{name}={held}.*{name}={value}"):
        start_from(later, stage, refresh_discriminator=True)


def test_a_stage_without_masking_leaves_the_mask_token_behind(stage: Path, tmp_path: Path) -> None:
    later = trainer(tmp_path, ONE, ALONE)
    start_from(later, stage, refresh_discriminator=False)
    assert torch.equal(later.model.last_layer, state.read(stage)["model"]["model.decoder.conv_out.weight"])


def test_a_checkpoint_without_ema_starts_the_ema_from_its_weights(tmp_path: Path) -> None:
    trainer(tmp_path / "1", replace(ONE, ema=0.0), ALONE).train()
    later = trainer(tmp_path / "2", replace(ONE, ema=0.9, seed=7), ALONE)
    start_from(later, state.checkpoint_folder(tmp_path / "1", 1), refresh_discriminator=False)
    for name, average in later.ema.averages.items():
        assert torch.equal(average, later.passes.state_dict()[name]), name


def test_weights_alone_start_both_the_weights_and_their_ema(tmp_path: Path) -> None:
    torch.manual_seed(3)
    released = WFVAE(SMALL)
    save(released, tmp_path / "released")
    trained = {"state_dict": {"gen_model": released.state_dict()}}
    (tmp_path / "trainer").mkdir()
    torch.save(trained, tmp_path / "trainer" / "checkpoint-7.ckpt")
    (tmp_path / "trainer" / "config.json").write_text((tmp_path / "released" / "config.json").read_text())
    places = ("released", "released/diffusion_pytorch_model.safetensors", "trainer", "trainer/checkpoint-7.ckpt")
    for i, place in enumerate(places):
        later = trainer(tmp_path / str(i), ONE, ALONE)
        start_from(later, tmp_path / place, refresh_discriminator=False)
        for name, value in released.state_dict().items():
            assert torch.equal(later.model.state_dict()[name], value), (place, name)
        for name, average in later.ema.averages.items():
            assert torch.equal(average, released.state_dict()[name.removeprefix("model.")]), (place, name)


def test_weights_alone_of_another_model_name_the_fields_to_set(tmp_path: Path) -> None:
    save(WFVAE(replace(SMALL, latent_channels=8, encoder_res_blocks=2)), tmp_path / "released")
    with pytest.raises(ValueError, match=r"set model\.latent_channels=8 model\.encoder_res_blocks=2, or start from"):
        start_from(trainer(tmp_path / "run", ONE, ALONE), tmp_path / "released", refresh_discriminator=False)


class Damaged(Ramps):
    """Every clip had one file that could not be read."""

    def __getitem__(self, index: int) -> Sample:
        return Sample(super().__getitem__(index).video, (f"{index}.mp4: damaged",))


def test_the_count_of_files_that_failed_goes_on_with_the_run(tmp_path: Path) -> None:
    log: dict[int, dict[str, float]] = {}
    config = replace(QUICK, steps=2, gradient_accumulation_steps=2)
    found = trainer(tmp_path, config, ALONE, Hooks(curve(log)), clips=Damaged())
    found.train()
    assert [log[step]["files_failed"] for step in (1, 2)] == [2, 4]
    again = trainer(tmp_path, replace(config, steps=3), ALONE, Hooks(curve(log)), clips=Damaged())
    again.train()
    assert log[3]["files_failed"] == 6


def test_a_checkpoint_that_is_the_best_one_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = state.write

    def counted(folder: Path, *rest: object) -> None:
        written.append(folder.name)
        write(folder, *rest)

    monkeypatch.setattr(state, "write", counted)
    scores = iter([2.0, 1.0, 3.0, 4.0])
    hooks = Hooks(validate=lambda step, model: {"psnr": next(scores)})
    trainer(tmp_path, replace(QUICK, steps=4, keep=1, validate_every=1), ALONE, hooks).train()
    assert written == [f"step-{step:08d}" for step in (1, 2, 3, 4)]
    assert [path.name for path in state.checkpoints(tmp_path)] == ["step-00000004"]
    assert state.best(tmp_path) == state.checkpoint_folder(tmp_path, 4)


@pytest.mark.parametrize("size", [0, 3000])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_goes_on_to_the_same_bits(
    tmp_path: Path, size: int
) -> None:
    whole: dict[int, dict[str, float]] = {}
    trainer(tmp_path, hooks=Hooks(curve(whole))).train()
    newest = state.checkpoint_folder(tmp_path, 6) / state.TRAINING
    content = newest.read_bytes()
    newest.write_bytes(content[:size])
    again: dict[int, dict[str, float]] = {}
    with pytest.warns(
        UserWarning, match=r"step-00000006/training\.pt cannot be read.*training continues from step-00000004"
    ):
        resumed = trainer(tmp_path, replace(QUICK, keep=1, save_every=1, steps=5), hooks=Hooks(curve(again)))
    resumed.train()
    assert again == {5: whole[5]}
    # the damaged one has not taken the place of a sound one
    assert [folder.name[-1] for folder in state.checkpoints(tmp_path)] == ["5", "6"]
    (state.checkpoint_folder(tmp_path, 5) / state.TRAINING).write_bytes(b"")
    with pytest.raises(ValueError, match=r"step-00000006.*cannot be read.*has no other checkpoint to continue from"):
        trainer(tmp_path)


def test_processes_that_accelerate_does_not_see_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(ValueError, match=r"2 processes were started, but accelerate trains with 1.*device=cpu"):
        trainer(tmp_path)


def test_steps_of_another_number_of_clips_are_refused(tmp_path: Path) -> None:
    trainer(tmp_path, ONE).train()
    assert state.read(state.checkpoint_folder(tmp_path, 1))["clips_per_step"] == 1
    with pytest.raises(ValueError, match=r"1 clips per step, got 6 \(1 processes x trainer\.batch_size=2"):
        trainer(tmp_path, replace(ONE, batch_size=2, gradient_accumulation_steps=3))


def test_an_average_that_is_not_finite_is_neither_validated_nor_exported(tmp_path: Path) -> None:
    trainer(tmp_path, replace(QUICK, steps=4)).train()
    file = state.checkpoint_folder(tmp_path, 4) / state.TRAINING
    training = torch.load(file, weights_only=True)
    training["ema"]["model.decoder.conv_out.bias"].fill_(float("nan"))
    torch.save(training, file)
    (state.checkpoint_folder(tmp_path, 4) / state.WEIGHTS).write_bytes(b"")
    validated: list[int] = []
    hooks = Hooks(validate=lambda step, model: {"psnr": float(validated.append(step) or 0)})
    with pytest.raises(
        ValueError, match=r"the EMA of decoder\.conv_out\.bias is not finite at step 6; .*step-00000002\. "
    ):
        trainer(tmp_path, replace(QUICK, validate_every=6), hooks=hooks).train()
    assert validated == []
    assert [folder.name[-1] for folder in state.checkpoints(tmp_path)] == ["2", "4"]


@pytest.mark.parametrize("failure", [RuntimeError("unexpected pos 64 vs 0\nframe"), OSError(28, "No space left")])
def test_a_checkpoint_that_cannot_be_written_is_one_line_and_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def full(*_: object) -> None:
        raise failure

    folder = state.checkpoint_folder(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(OSError, match=r"step-00000001 cannot be written: .* MB were free on the disk") as caught:
            state.write(folder, {}, {"w": torch.zeros(1)}, {"step": 1})
    assert "\n" not in str(caught.value)
    assert list(folder.parent.iterdir()) == []


def test_drafts_of_dead_processes_are_removed_and_a_checkpoint_under_replacement_comes_back(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = state.checkpoint_folder(tmp_path, 1)
    dead, living, older = (folder.with_name(f".{folder.name}.{end}") for end in (ended.pid, os.getppid(), "older"))
    state.write(folder, {}, {"w": torch.zeros(1)}, {"step": 1})
    folder.rename(older)
    dead.mkdir()
    living.mkdir()
    state.sweep(tmp_path)
    assert sorted(folder.parent.iterdir()) == sorted([folder, living])
    assert state.read(folder) == {"step": 1}


def test_a_run_killed_before_it_marks_its_best_checkpoint_marks_it_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([1.0, 2.0])
    hooks = Hooks(validate=lambda step, model: {"psnr": next(scores)})
    config = replace(QUICK, steps=4, validate_every=2, keep=1)
    mark = state.mark_best

    def killed(run: Path, name: str) -> None:
        if name.endswith("4"):
            raise KeyboardInterrupt
        mark(run, name)

    with monkeypatch.context() as patched:
        patched.setattr(state, "mark_best", killed)
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path, config, ALONE, hooks).train()
    assert state.best(tmp_path) == state.checkpoint_folder(tmp_path, 2)
    again = trainer(tmp_path, replace(config, steps=5), ALONE)
    assert state.best(tmp_path) == state.checkpoint_folder(tmp_path, 4)
    again.train()
    assert [folder.name[-1] for folder in state.checkpoints(tmp_path)] == ["4", "5"]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """torch.compile that traces forward and backward and generates no code, which needs no C++ compiler."""
    from torch._dynamo.backends.debugging import aot_eager

    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph.code)
        return aot_eager(graph, inputs)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch.set_default_dtype(torch.float64)
    yield graphs
    torch.set_default_dtype(torch.float32)
    torch._dynamo.reset()


def test_a_compiled_run_equals_a_plain_one_and_either_goes_on_with_its_files(tmp_path: Path, eager: list[str]) -> None:
    config = replace(QUICK, steps=2, discriminator_start=1, save_every=1)
    trainer(tmp_path / "plain", config, clips=Doubled()).train()
    assert not eager
    one = replace(config, steps=1, compile=True)
    trainer(tmp_path / "compiled", one, clips=Doubled()).train()
    assert eager
    assert trainer(tmp_path / "compiled", one, clips=Doubled()).step == 1
    trainer(tmp_path / "compiled", config, clips=Doubled()).train()
    for step in (1, 2):
        plain, compiled = (state.checkpoint_folder(tmp_path / name, step) for name in ("plain", "compiled"))
        a, b = state.read(plain), state.read(compiled)
        for kind in ("model", "ema", "discriminator"):
            assert a[kind].keys() == b[kind].keys()
            for name, value in a[kind].items():
                assert torch.allclose(value, b[kind][name], rtol=0, atol=1e-9), f"{kind} {name}"
    assert torch.equal(load(compiled).last_layer, b["ema"]["model.decoder.conv_out.weight"])


def test_a_frozen_encoder_starts_from_the_average_that_was_exported(tmp_path: Path) -> None:
    config = replace(QUICK, steps=4, ema=0.9, learning_rate=1e-2)
    trainer(tmp_path / "first", config, ALONE).train()
    source = state.checkpoint_folder(tmp_path / "first", 4)
    found = trainer(tmp_path / "second", replace(config, freeze_encoder=True), ALONE)
    start_from(found, source, refresh_discriminator=False)
    exported, raw = load(source).state_dict(), state.read(source)["model"]
    for name, value in found.model.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(value, exported[name]), name
    kernel = "encoder.conv_out.conv.weight"
    assert not torch.equal(exported[kernel], raw[f"model.{kernel}"])


def test_a_validation_without_a_value_of_its_metric_does_not_choose_the_best_checkpoint(tmp_path: Path) -> None:
    scores = iter([{"score": -1.0}, {"score": float("-inf"), "lpips": 0.9}])
    found = trainer(tmp_path, replace(QUICK, steps=4, validate_every=2), ALONE, Hooks(validate=lambda *_: next(scores)))
    found.train()
    assert (found.best_score, found.best[-1]) == (-1.0, "2")


@pytest.mark.usefixtures("eager")
def test_a_compiled_run_may_start_its_discriminator_after_its_first_step(tmp_path: Path) -> None:
    config = replace(QUICK, steps=2, discriminator_start=1, order="simultaneous", compile=True)
    values = trainer(tmp_path, config, clips=Doubled()).train()
    assert values["adversarial_weight"] > 0
