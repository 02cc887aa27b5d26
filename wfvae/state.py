"""The checkpoints of a run.  They are written atomically, and the released code of WF-VAE can load them.

RUN/checkpoints/step-00001200/config.json                          the official layout, with the EMA weights if there is an
                              diffusion_pytorch_model.safetensors  EMA
                              training.pt                          for resuming: raw weights, EMA, optimizer states
RUN/checkpoints/best                                               a text file with the name of the best checkpoint
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wfvae.checkpoint import read_pickle
from wfvae.processes import alive
from wfvae.sharding import local

WEIGHTS = "diffusion_pytorch_model.safetensors"
TRAINING = "training.pt"


@dataclass(frozen=True)
class Ema:
    """Exponential moving averages of the trained parameters, by name: average = decay * average + (1 - decay) * parameter."""

    decay: float
    averages: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, decay: float) -> Ema:
        return cls(
            decay,
            {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad},
        )

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        current = dict(model.named_parameters())
        names = list(self.averages)
        torch._foreach_lerp_(
            [local(self.averages[name]) for name in names],
            [local(current[name]) for name in names],
            1 - self.decay,
        )

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """A full state dict: the averages, and the values of the model for entries without one."""
        return {
            name: self.averages[name].to(value.dtype) if name in self.averages else value
            for name, value in model.state_dict().items()
        }


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or will be."""
    return run / "checkpoints" / f"step-{step:08d}"


def checkpoints(run: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    return sorted(run.glob("checkpoints/step-????????"))


def write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], training: dict[str, Any]) -> None:
    """Writes a checkpoint to a temporary folder and renames it when all files are on disk.

    An existing checkpoint of that name is renamed first and deleted last, because it may be the only one of the run.

    Args:
        folder: the checkpoint
        config: content of config.json
        weights: state dict of the model
        training: content of training.pt

    Raises:
        OSError: the checkpoint cannot be written, for example because the disk is full; the temporary folder is removed
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft, older = (folder.with_name(f".{folder.name}.{end}") for end in (os.getpid(), "older"))
    for rest in (draft, older):
        shutil.rmtree(rest, ignore_errors=True)
    tensors = {name: value.detach().contiguous().cpu() for name, value in weights.items()}
    try:
        draft.mkdir()
        (draft / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_file(tensors, draft / WEIGHTS)
        torch.save(training, draft / TRAINING)
        for file in (*draft.iterdir(), draft):
            _sync(file)
    except BaseException as reason:
        free = shutil.disk_usage(folder.parent).free
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(
            reason, (OSError, SafetensorError, RuntimeError)
        ):  # the writers of safetensors and PyTorch raise other types
            message = " ".join(str(reason).split())
            raise OSError(
                f"{folder} cannot be written: {message} ({free / 1e6:.0f} MB were free on the disk); "
                "free some space and run the same command again"
            ) from None
        raise
    if folder.exists():
        folder.replace(older)
    draft.replace(folder)
    _sync(folder.parent)
    shutil.rmtree(older, ignore_errors=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the list of files of a folder, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(run: Path) -> None:
    """Removes unfinished checkpoints of killed processes, and restores the name of a checkpoint that one was replacing."""
    for draft in run.glob("checkpoints/.step-????????.*"):
        name, _, end = draft.name[1:].partition(".")
        if end == "older" and not draft.with_name(name).exists():
            draft.replace(draft.with_name(name))
        elif end == "older" or (end.isdigit() and (int(end) == os.getpid() or not alive(int(end)))):
            shutil.rmtree(draft, ignore_errors=True)


def newest(run: Path, *, warn: bool = True) -> dict[str, Any] | None:
    """Reads `training.pt` of the newest readable checkpoint; None if the run has no checkpoint.

    Args:
        run: folder of the run
        warn: warn of newer checkpoints that are damaged

    Raises:
        ValueError: the run has checkpoints, and all of them are damaged
    """
    damaged = []
    for folder in reversed(checkpoints(run)):
        try:
            training = read(folder)
        except ValueError as reason:
            damaged.append(str(reason))
            continue
        if warn:
            for fault in damaged:
                warnings.warn(f"{fault}; training continues from {folder.name}", stacklevel=2)
        return training
    if damaged:
        raise ValueError(f"{damaged[0]}; {run} has no other checkpoint to continue from: delete it to start again")
    return None


def last_good(run: Path) -> Path | None:
    """The newest checkpoint whose weights can be read and are finite."""
    return next((folder for folder in reversed(checkpoints(run)) if _finite(folder / WEIGHTS)), None)


def _finite(file: Path) -> bool:
    try:
        with safe_open(file, "pt") as weights:
            return all(bool(weights.get_tensor(name).isfinite().all()) for name in weights.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return False


def read(folder: Path) -> dict[str, Any]:
    """Reads `training.pt` of a checkpoint to the CPU.

    Raises:
        ValueError: the folder is not a checkpoint of a training, or its file is damaged
    """
    file = folder / TRAINING
    if not file.is_file():
        raise ValueError(f"{folder} is not a checkpoint of a training: it has no {TRAINING}")
    training = read_pickle(file)
    if not isinstance(training, dict) or "step" not in training:
        raise ValueError(f"{file} is not a checkpoint of a training: it has no entry `step`")
    return _renamed(training)


def _renamed(training: dict[str, Any]) -> dict[str, Any]:
    """Renames the entries of old checkpoints, which call the discriminator `critic`; such runs can be resumed."""
    return {name.replace("critic", "discriminator"): value for name, value in training.items()}


def mark_best(run: Path, name: str) -> None:
    """Writes the name of the best checkpoint; "" or a name without a checkpoint removes the file."""
    note = run / "checkpoints" / "best"
    if not name or not (note.parent / name).is_dir():
        note.unlink(missing_ok=True)
    elif not note.is_file() or note.read_text().strip() != name:
        draft = note.with_name(".best")
        draft.write_text(name + "\n")
        draft.replace(note)


def best(run: Path) -> Path | None:
    """The checkpoint with the best validation score; None before the first validation."""
    note = run / "checkpoints" / "best"
    return note.parent / note.read_text().strip() if note.is_file() else None


def prune(run: Path, keep: int, step: int) -> None:
    """Removes all checkpoints up to `step` except the newest `keep` and the best one.

    Later ones are damaged, because the run did not continue from them; they do not count as one of the newest.
    """
    best_folder = best(run)
    written = [folder for folder in checkpoints(run) if folder <= checkpoint_folder(run, step)]
    for folder in written[:-keep]:
        if folder != best_folder:
            shutil.rmtree(folder)
