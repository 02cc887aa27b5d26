"""Training a Latte on cached latents, on `accelerate`; and its denoising loss on a fixed grid.

Everything random in step k (which clips, timesteps, noise, dropped labels) is a function of the seed and k, drawn for the
global batch. A resumed run is therefore the uninterrupted one, and the same run spread over processes is the same run;
a checkpoint holds weights, EMA, optimizer and the number of steps, and no state of a random generator.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vaebench.allocator import freed_memory_kept
from vaebench.files import draft, sweep
from vaebench.generation.latte.batch import Batch
from vaebench.generation.latte.diffusion import Schedule, linear, noised, split, training_loss
from vaebench.generation.latte.model import Latte
from vaebench.pickled import load_tensors

if TYPE_CHECKING:  # it is handed in; what trains nothing needs no accelerate
    from accelerate import Accelerator


class Latents(Protocol):
    """Cached latents, read by row."""

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int]) -> Batch: ...


@dataclass(frozen=True)
class TrainConfig:
    """How a Latte is trained; the defaults are the paper's, for UCF-101."""

    steps: int = 100_000
    batch: int = 40  # clips per step over all processes
    learning_rate: float = 1e-4
    warmup: int = 0  # steps in which the learning rate rises to its value
    ema_decay: float = 0.9999
    label_dropout: float = 0.1  # fraction of labels replaced by the null label
    clip_norm: float = 0.1  # largest gradient norm, from step `clip_from` on
    clip_from: int = 100_000  # 20,000 for SkyTimelapse
    micro_batch: int = 0  # clips of one forward pass on one process; 0: all of them
    checkpoint_every: int = 5_000
    seed: int = 3407


class Report(NamedTuple):
    """What one step did; tensors stay on the device until they are read."""

    step: int  # how many are done, this one included
    loss: Tensor  # mean over the clips of this process
    mse: Tensor
    vb: Tensor
    grad_norm: Tensor  # before clipping
    ema: Latte


@dataclass
class State:
    """A training in progress."""

    model: nn.Module  # as `accelerate` prepared it
    ema: Latte
    optimizer: torch.optim.Optimizer
    trained: list[Tensor]  # the parameters with a gradient: all but the tables of positions
    averaged: list[Tensor]  # their likes in the EMA
    step: int = 0


def begin(model: Latte, config: TrainConfig, accelerator: Accelerator) -> State:
    """AdamW without weight decay, and an EMA that starts as a copy; the model moves to the accelerator's device."""
    ema = copy.deepcopy(model).to(accelerator.device).eval()
    averaged: list[Tensor] = [value for value in ema.parameters() if value.requires_grad]
    ema.requires_grad_(False)
    model.train().to(accelerator.device)
    trained: list[Tensor] = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.0, fused=True)
    prepared_model, prepared_optimizer = accelerator.prepare(model, optimizer)
    return State(prepared_model, ema, prepared_optimizer, trained, averaged)


def update(
    state: State,
    schedule: Schedule,
    config: TrainConfig,
    accelerator: Accelerator,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None],
) -> Report:
    """One step on this process's rows: x0 and noise (b, C, F, H, W), t (b,), labels (b,) or None. Changes `state`."""
    x0, noise, t, labels = inputs
    starts = range(0, len(x0), config.micro_batch or len(x0))
    sums = x0.new_zeros(3)
    for start in starts:
        rows = slice(start, start + starts.step)
        some = None if labels is None else labels[rows]
        last = start == starts[-1]  # processes exchange gradients once per step
        with nullcontext() if last else accelerator.no_sync(state.model):
            output = state.model(noised(schedule, x0[rows], noise[rows], t[rows]), t[rows], some)
            loss = training_loss(schedule, output, x0[rows], noise[rows], t[rows])
            accelerator.backward(loss.total.sum() / len(x0))
        sums += torch.stack([part.detach().sum() for part in loss])
    gradients = [value.grad for value in state.trained if value.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if state.step >= config.clip_from:
        torch._foreach_mul_(gradients, (config.clip_norm / (norm + 1e-6)).clamp(max=1.0))
    for group in state.optimizer.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (state.step + 1) / max(config.warmup, 1))
    state.optimizer.step()
    state.optimizer.zero_grad()
    with torch.no_grad():
        torch._foreach_lerp_(state.averaged, state.trained, 1 - config.ema_decay)
    state.step += 1
    total, mse, vb = sums / len(x0)
    return Report(state.step, total, mse, vb, norm, state.ema)


def train(
    model: Latte, latents: Latents, config: TrainConfig, accelerator: Accelerator, folder: Path | None = None
) -> Iterator[Report]:
    """Train `model` in place.

    Args:
        accelerator: sets precision and processes
        folder: if given, training resumes from its newest checkpoint, and a checkpoint is written every `checkpoint_every`
            steps and at the end

    Yields:
        a report after every step

    Raises:
        ValueError: the processes cannot share the batch evenly, fp16, no latents, or a checkpoint of another model or
            configuration
    """
    world, rank, device = accelerator.num_processes, accelerator.process_index, accelerator.device
    if config.batch % world:
        raise ValueError(f"a batch of {config.batch} does not divide over {world} processes; choose a multiple")
    if accelerator.mixed_precision == "fp16":
        raise ValueError("fp16 would need scaled gradients; train in bf16 or float32")
    if not len(latents):
        raise ValueError("there are no latents to train on")
    schedule = linear().to(device)
    state = begin(model, config, accelerator)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        _resume(state, folder, config, accelerator)
    own = slice(rank * config.batch // world, (rank + 1) * config.batch // world)
    with freed_memory_kept(), ThreadPoolExecutor(1) as reader:
        coming = reader.submit(latents.take, rows_of(state.step, config, len(latents))[own])
        while state.step < config.steps:
            batch = coming.result()
            coming = reader.submit(latents.take, rows_of(state.step + 1, config, len(latents))[own])
            inputs = _inputs(batch, state.step, config, own, device, model.config.classes)
            report = update(state, schedule, config, accelerator, inputs)
            if folder is not None and (state.step % config.checkpoint_every == 0 or state.step == config.steps):
                _save(state, folder, config, accelerator)
            yield report


def rows_of(step: int, config: TrainConfig, count: int) -> list[int]:
    """The clips of the global batch of one step: all clips in a new order each epoch, without a gap between epochs."""
    places = range(step * config.batch, (step + 1) * config.batch)
    return [_order(config.seed, place // count, count)[place % count] for place in places]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    return torch.randperm(count, generator=_generator(torch.device("cpu"), seed, "order", epoch)).tolist()


def _generator(device: torch.device, *key: object) -> torch.Generator:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=7).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big"))


def _inputs(
    batch: Batch, step: int, config: TrainConfig, own: slice, device: torch.device, classes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """x0, noise, t and labels of this process's rows, cut from what is drawn for the whole batch of the step."""
    shape = (config.batch, *batch.mean.shape[1:])
    few, many = (
        _generator(torch.device("cpu"), config.seed, "few", step),
        _generator(device, config.seed, "many", step),
    )
    t = torch.randint(1000, (config.batch,), generator=few)[own].to(device)
    dropped = (torch.rand(config.batch, generator=few) < config.label_dropout)[own].to(device)
    noise = torch.randn(shape, generator=many, device=device)[own]
    x0 = batch.mean.to(device, torch.float32)
    if batch.std is not None:
        x0 = x0 + batch.std.to(device, torch.float32) * torch.randn(shape, generator=many, device=device)[own]
    if not classes or batch.labels is None:
        return x0, noise, t, None
    return x0, noise, t, torch.where(dropped, classes, batch.labels.to(device))


def _save(state: State, folder: Path, config: TrainConfig, accelerator: Accelerator) -> None:
    """Write {"model", "ema", ...} as in the official files, atomically, and delete all but the two newest."""
    if accelerator.is_main_process:
        content = {
            "model": accelerator.unwrap_model(state.model).state_dict(),
            "ema": state.ema.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "step": state.step,
            "train_config": asdict(config),
        }
        path = folder / f"{state.step:07d}.pt"
        with draft(path) as part:
            torch.save(content, part)
        for old in [file for file in checkpoints(folder) if file <= path][:-2]:  # later ones are damaged
            old.unlink()
    accelerator.wait_for_everyone()


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(folder.glob("[0-9]*.pt"))


def newest(folder: Path, *, warn: bool = True) -> Path | None:
    """The newest checkpoint that can be read, with a warning for each newer one; its tensors are not read yet."""
    for path in reversed(checkpoints(folder)):
        try:
            load_tensors(path, mmap=True)
        except ValueError as reason:  # noqa: PERF203 (a damaged file is rare)
            if warn:
                warnings.warn(f"{reason}; an older checkpoint is used, or training starts again", stacklevel=2)
        else:
            return path
    return None


def _resume(state: State, folder: Path, config: TrainConfig, accelerator: Accelerator) -> None:
    path = newest(folder, warn=accelerator.is_main_process)
    if path is None:
        return
    content: dict[str, Any] = load_tensors(path)
    try:
        accelerator.unwrap_model(state.model).load_state_dict(content["model"])
        state.ema.load_state_dict(content["ema"])
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a checkpoint of this model: {reason}; train into another folder") from error
    free = ("steps", "checkpoint_every", "micro_batch")  # these change numbers by rounding at most
    wanted = asdict(config)
    other = [
        f"{key}: {value} there, {wanted[key]} here"
        for key, value in content["train_config"].items()
        if key not in free and wanted[key] != value
    ]
    if other:
        raise ValueError(f"{path} was trained differently ({'; '.join(other)}); train into another folder")
    state.optimizer.load_state_dict(content["optimizer"])
    state.step = content["step"]


def grid_steps(schedule: Schedule, points: int = 16) -> list[int]:
    """The steps nearest to `points` values of log SNR in equal distances, from the noisiest to the cleanest."""
    kept = schedule.alphas_cumprod
    log_snr = (kept / (1 - kept)).log()
    wanted = torch.linspace(float(log_snr[-1]), float(log_snr[0]), points, dtype=torch.float64)
    return [int((log_snr - value).abs().argmin()) for value in wanted]


@torch.no_grad()
def denoising_loss(
    model: Latte, latents: Latents, rows: Sequence[int], *, points: int = 16, seed: int = 0, batch: int = 32
) -> Tensor:
    """float64 (points, len(rows)): the mean squared error of the predicted noise, clip by clip, down a grid of log SNR.

    The posterior's mean is noised; noise depends on seed, row and point alone, so that models, batches and processes
    (each with its share of `rows`) are measured on the same grid. Not comparable between latent spaces as it stands.
    """
    schedule = linear()
    device = model.pos_embed.device
    steps = grid_steps(schedule, points)
    columns = []
    for start in range(0, len(rows), batch):
        some = list(rows[start : start + batch])
        clips = latents.take(some)
        x0 = clips.mean.to(device, torch.float32)
        labels = clips.labels.to(device) if model.config.classes and clips.labels is not None else None
        streams = [_generator(torch.device("cpu"), seed, "grid", row) for row in some]
        errors = []
        for step in steps:
            noise = torch.stack([torch.randn(x0.shape[1:], generator=stream) for stream in streams]).to(device)
            t = torch.full((len(some),), step, device=device)
            output, _ = split(model(noised(schedule, x0, noise, step), t, labels), x0.shape[1])
            errors.append((output.float() - noise).square().flatten(1).mean(1).double().cpu())
        columns.append(torch.stack(errors))
    return torch.cat(columns, dim=1)
