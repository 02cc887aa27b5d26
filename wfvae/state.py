"""What a run keeps on disk: checkpoints that appear whole or not at all, and that any WF-VAE code can load.

RUN/checkpoints/step-00001200/config.json                          the official layout: these two files load in the
                              diffusion_pytorch_model.safetensors  released code (the EMA weights, if there are any)
                              training.pt                          all that resuming needs: raw weights, EMA, moments
RUN/checkpoints/best                                               the name of the best one, in a text file
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wfvae.checkpoint import read_pickle
from wfvae.sharding import local

WEIGHTS = "diffusion_pytorch_model.safetensors"
TRAINING = "training.pt"


@dataclass(frozen=True)
class Ema:
    """Running averages of the trained parameters, by name: `average = decay * average + (1 - decay) * parameter`."""

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
        """A whole state dict: the averages, and the model's own entries where there is none."""
        return {
            name: self.averages[name].to(value.dtype) if name in self.averages else value
            for name, value in model.state_dict().items()
        }


def checkpoint_folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def checkpoints(run: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    return sorted(run.glob("checkpoints/step-????????"))


def write(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], training: dict[str, Any]) -> None:
    """One checkpoint; the folder appears under its name only when everything in it is on disk.

    An older one of that name makes room by a change of name and is removed last: it may be the only one of the run.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft, older = (folder.with_name(f".{folder.name}.{end}") for end in (os.getpid(), "older"))
    for rest in (draft, older):
        shutil.rmtree(rest, ignore_errors=True)
    draft.mkdir()
    (draft / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: value.detach().contiguous().cpu() for name, value in weights.items()}, draft / WEIGHTS)
    torch.save(training, draft / TRAINING)
    for file in draft.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if folder.exists():
        folder.replace(older)
    draft.replace(folder)
    shutil.rmtree(older, ignore_errors=True)


def read(folder: Path) -> dict[str, Any]:
    """The `training` of a checkpoint, on the CPU.

    Raises:
        ValueError: the folder is no checkpoint of a training, or its file is damaged
    """
    file = folder / TRAINING
    if not file.is_file():
        raise ValueError(f"{folder} is no checkpoint to train on from: it has no {TRAINING}")
    found: dict[str, Any] = read_pickle(file)
    return found


def mark_best(folder: Path) -> None:
    draft = folder.parent / ".best"
    draft.write_text(folder.name + "\n")
    draft.replace(folder.parent / "best")


def best(run: Path) -> Path | None:
    """The checkpoint with the best validation score, if there was one."""
    note = run / "checkpoints" / "best"
    return note.parent / note.read_text().strip() if note.is_file() else None


def prune(run: Path, keep: int) -> None:
    """Keeps the newest `keep` checkpoints and the best one."""
    spared = best(run)
    for folder in checkpoints(run)[:-keep]:
        if folder != spared:
            shutil.rmtree(folder)
