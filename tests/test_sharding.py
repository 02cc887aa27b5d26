"""Sharded training: every process holds a part, and nothing else is different from training with whole weights.

Two processes are started once and go through all the runs; the tests then read what these left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from tests.processes import run_two
from tests.test_trainer import LOSS, QUICK, SMALL, Doubled, Killed, curve, trainer
from wfvae import WFVAE, WFVAEConfig, sharding, state
from wfvae.batches import Sample
from wfvae.objective import LCRConfig, LMRConfig
from wfvae.schedule import TrainerConfig
from wfvae.start import start_from
from wfvae.trainer import Hooks, Trainer

Log = dict[int, dict[str, float]]

# all that a sharded model meets: a perceptual loss, both adaptive weights, accumulation, clipping, a mask token, validation
BUSY = replace(
    QUICK,
    steps=2,
    order="simultaneous",
    discriminator_start=0,
    gradient_accumulation_steps=2,
    max_grad_norm=0.05,
    validate_every=1,
    save_every=1,
)
REGULARISED = {
    "lcr": LCRConfig(weight=0.5, window=(1, 2, 2), threshold=1.0),
    "lmr": LMRConfig((0.0, 0.5), (0.5, 0.5)),
}
# the discriminator sees each clip by itself, where it is in evaluation mode: then a batch can be cut anywhere
CUT = replace(QUICK, steps=3, batch_size=2, discriminator_start=0)
EXACT = replace(QUICK, steps=3, discriminator_start=1, shard=True)


class Mortal(Doubled):
    """Whoever asks for clip 4 is killed: all processes of a run, in the same step."""

    def __getitem__(self, index: int) -> Sample:
        if index >= 4:
            raise Killed
        return super().__getitem__(index)


class Damaged(Doubled):
    """The second of two processes, with two clips each, meets a file that cannot be read in every clip."""

    def __getitem__(self, index: int) -> Sample:
        return Sample(super().__getitem__(index).video, ("0.mp4: damaged",) if index % 4 >= 2 else ())


def scores(log: Log) -> Hooks:
    video = Doubled(size=16)[99].video[None]

    def validate(step: int, model: WFVAE) -> dict[str, float]:
        error = (model(video, sample_posterior=False).video - video).square().mean()
        log.setdefault(-step, {})["error"] = error.item()
        return {"better": -error.item()}

    return Hooks(curve(log), validate=validate)


def squared_error(reference: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """In place of LPIPS."""
    return (reference - reconstruction).square().mean(dim=(1, 2, 3))


def busy(run: Path, config: TrainerConfig) -> tuple[Trainer, Log]:
    log: Log = {}
    more = {"loss": replace(LOSS, perceptual=0.1), "perceptual": squared_error, **REGULARISED}
    found = trainer(run, config, hooks=scores(log), clips=Doubled(size=16), **more)
    found.train()
    return found, log


def goes_on(old: Path, new: Path, config: TrainerConfig) -> None:
    """A copy of a run that was killed after its first step."""
    shutil.copytree(state.checkpoint_folder(old, 1), state.checkpoint_folder(new, 1))
    busy(new, config)


def local(tensors: list[torch.Tensor]) -> int:
    return sum(t.to_local().numel() if sharding.is_sharded(t) else t.numel() for t in tensors)


def _one_of_two(rank: int, port: int, folder: str) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    torch.set_num_threads(1)
    warnings.filterwarnings("error", ".*broadcast_buffers.*")
    runs, logs, held = Path(folder), {}, {}
    torch.set_default_dtype(torch.float64)
    for name in ("whole", "sharded"):
        sharded = name == "sharded"
        found, logs[name] = busy(runs / name, replace(BUSY, shard=sharded, checkpoint_activations=sharded))
        parameters = list(found.passes.parameters())
        held[name] = {
            "weights": local(parameters),
            "averages": local(list(found.ema.averages.values())),
            "moments": local([found.optimizer.state[p]["exp_avg"] for p in parameters]),
            "all": sum(p.numel() for p in parameters),
        }
    torch.distributed.barrier()
    goes_on(runs / "whole", runs / f"whole-sharded-{rank}", replace(BUSY, shard=True))
    goes_on(runs / "sharded", runs / f"sharded-whole-{rank}", BUSY)
    found = trainer(
        runs / "cut", replace(CUT, shard=True), hooks=Hooks(curve(logs.setdefault("cut", {}))), clips=Damaged()
    )
    found.discriminator.eval()
    found.train()
    for name in ("undisturbed", "killed"):
        clips, hooks = Mortal() if name == "killed" else Doubled(), Hooks(curve(logs.setdefault(name, {})))
        try:
            trainer(runs / name, EXACT, hooks=hooks, clips=clips).train()
        except Killed:
            torch.manual_seed(12345)  # nothing may hang on what the process did before
            again = trainer(runs / name, EXACT, hooks=hooks, clips=Doubled())
            held["killed"] = {"step": again.step}
            again.train()
    torch.set_default_dtype(torch.float32)
    AcceleratorState._reset_state(reset_partial_state=False)  # accelerate keeps the precision of the first run
    torch.distributed.barrier()
    later = trainer(
        runs / "later",
        replace(EXACT, steps=1, precision="bf16", freeze_encoder=True),
        hooks=Hooks(curve(logs.setdefault("later", {}))),
    )
    start_from(later, state.checkpoint_folder(runs / "undisturbed", 3), refresh_discriminator=False)
    later.train()
    (runs / f"{rank}.json").write_text(json.dumps({"logs": logs, "held": held}))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_two(_one_of_two, port, str(folder))
    return folder


@pytest.fixture
def double() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def log_of(runs: Path, name: str) -> Log:
    return {int(step): values for step, values in json.loads((runs / "0.json").read_text())["logs"][name].items()}


def held_by(runs: Path, name: str) -> list[dict[str, int]]:
    return [json.loads((runs / f"{rank}.json").read_text())["held"][name] for rank in (0, 1)]


def end(run: Path, step: int = 2) -> dict:
    return state.read(state.checkpoint_folder(run, step))


def assert_alike(a: dict, b: dict, atol: float) -> None:
    for kind in ("model", "ema", "discriminator"):
        assert a[kind].keys() == b[kind].keys()
        for name, value in a[kind].items():
            assert type(b[kind][name]) is torch.Tensor
            assert torch.allclose(value, b[kind][name], rtol=0, atol=atol), f"{kind} {name}"
    for i, entries in a["optimizer"]["state"].items():
        for name, value in entries.items():
            assert torch.allclose(value, b["optimizer"]["state"][i][name], rtol=0, atol=atol), f"{name} of {i}"


def test_sharded_weights_averages_and_moments_are_those_of_whole_ones(runs: Path) -> None:
    assert_alike(end(runs / "whole"), end(runs / "sharded"), 1e-9)


def test_sharded_losses_adaptive_weights_norms_and_scores_are_those_of_whole_ones(runs: Path) -> None:
    whole, sharded = log_of(runs, "whole"), log_of(runs, "sharded")
    assert {"adversarial_weight", "lcr_weight", "gradient_norm", "discriminator"} <= whole[2].keys()
    assert whole[2]["gradient_norm"] > BUSY.max_grad_norm
    assert whole[-1] != whole[-2]
    assert whole.keys() == sharded.keys()
    for step, values in whole.items():
        assert sharded[step] == pytest.approx(values, rel=1e-5), step
    assert state.best(runs / "whole").name == state.best(runs / "sharded").name


@pytest.mark.usefixtures("double")
def test_two_sharded_processes_equal_one_with_the_doubled_batch(runs: Path, tmp_path: Path) -> None:
    log: Log = {}
    one = trainer(tmp_path, replace(CUT, batch_size=4), hooks=Hooks(curve(log)), clips=Doubled())
    one.discriminator.eval()
    one.train()
    assert_alike(end(tmp_path, 3), end(runs / "cut", 3), 1e-9)
    found = log_of(runs, "cut")
    assert [found[step]["adversarial_weight"] for step in (1, 3)] == pytest.approx(
        [log[step]["adversarial_weight"] for step in (1, 3)], rel=1e-5
    )


def test_files_that_failed_are_counted_over_all_processes(runs: Path) -> None:
    assert [log_of(runs, "cut")[step]["files_failed"] for step in (1, 2, 3)] == [2, 4, 6]


def test_each_process_holds_about_half(runs: Path) -> None:
    for kind in ("weights", "averages", "moments"):
        shares = [held[kind] for held in held_by(runs, "sharded")]
        total = held_by(runs, "sharded")[0]["all"]
        assert sum(shares) == total
        assert max(shares) < 0.6 * total
        assert held_by(runs, "whole")[0][kind] == total


def test_a_killed_sharded_run_goes_on_bit_for_bit(runs: Path) -> None:
    assert [held["step"] for held in held_by(runs, "killed")] == [2, 2]
    assert log_of(runs, "killed") == log_of(runs, "undisturbed")
    assert_alike(end(runs / "undisturbed", 3), end(runs / "killed", 3), 0)


@pytest.mark.parametrize("name", ["whole-sharded", "sharded-whole"])
def test_a_run_may_go_on_sharded_or_no_longer_sharded(runs: Path, name: str) -> None:
    assert_alike(end(runs / "whole"), end(runs / f"{name}-0"), 1e-9)


@pytest.mark.usefixtures("double")
def test_a_sharded_checkpoint_is_an_official_file_and_trains_on_in_one_process(runs: Path, tmp_path: Path) -> None:
    folder = state.checkpoint_folder(runs / "sharded", 2)
    config = WFVAEConfig.from_official(json.loads((folder / "config.json").read_text()))
    assert config == SMALL
    loaded = WFVAE(config)
    loaded.load_state_dict(load_file(folder / state.WEIGHTS))
    name = "decoder.mid.0.conv1.conv.weight"
    assert torch.equal(loaded.state_dict()[name], end(runs / "sharded")["ema"]["model." + name])
    shutil.copytree(folder, state.checkpoint_folder(tmp_path, 2))
    alone, log = busy(
        tmp_path, replace(BUSY, steps=3, gradient_accumulation_steps=4)
    )  # as many clips per step as two processes
    assert alone.step == 3
    assert list(log) == [3, -3]


def test_a_later_sharded_stage_takes_weights_over_and_leaves_a_frozen_encoder(runs: Path) -> None:
    before, after = end(runs / "undisturbed", 3), end(runs / "later", 1)
    assert {value.dtype for value in after["model"].values()} == {torch.float32}
    exported = before["model"] | before["ema"]
    for name, value in after["model"].items():
        if name.startswith("model.encoder"):
            assert torch.equal(value, exported[name].float()), name
    moved = (after["model"]["model.decoder.conv_out.weight"] - before["model"]["model.decoder.conv_out.weight"]).abs()
    assert 0 < moved.max() < 2 * EXACT.learning_rate  # it started there: Adam's first step is no longer
    assert log_of(runs, "later")[1]["gradient_norm"] > 0


def test_one_process_alone_has_nobody_to_share_with(tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match=r"accelerate launch.*trainer\.shard=false"):
        trainer(tmp_path, EXACT)


@pytest.mark.parametrize("bad", [{"compile": True}, {"precision": "fp16"}])
def test_what_cannot_be_sharded_is_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=r"trainer\.shard=true needs trainer\.compile=false"):
        TrainerConfig(shard=True, **bad)
