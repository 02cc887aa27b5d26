"""A run folder holds one configuration (`config.yaml`); a resumed run may only change the settings of CHANGEABLE."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from vaebench.distributed import rank_and_world
from vaebench.files import write_atomically
from vaebench.training.config import TrainConfig
from wfvae import state

# Settings that do not change the steps that are done: the folder of the run, its length and speed, and what it saves and shows.
# With trainer.decay=cosine, another trainer.steps changes the learning rate of the remaining steps.
CHANGEABLE = (
    "run",
    "description",
    "wandb",
    "device",
    *(f"trainer.{name}" for name in ("steps", "workers", "save_every", "validate_every", "keep")),
)

# Settings that were renamed: name in an old config.yaml -> name today.  Runs that began with the old names can be resumed.
RENAMED = {
    "trainer.batch": "trainer.batch_size",
    "trainer.accumulate": "trainer.gradient_accumulation_steps",
    "trainer.clip": "trainer.max_grad_norm",
}


def claim(folder: Path, config: TrainConfig) -> None:
    """Writes config.yaml, unless the folder holds a checkpoint of another configuration.

    Every process of a run checks; the main process writes.  A run that stopped before its first checkpoint claims nothing.

    Raises:
        ValueError: the folder holds a run with another configuration
    """
    text = yaml.safe_dump(json.loads(json.dumps(asdict(config))), sort_keys=False)
    file = folder / "config.yaml"
    text_before = file.read_text() if file.is_file() else ""
    if text_before == text:
        return
    if text_before and state.checkpoints(folder):
        changed = _changes(yaml.safe_load(text_before), yaml.safe_load(text))
        if changed:
            raise ValueError(
                f"{folder} holds a run with another configuration ({'; '.join(changed)}); choose another run=DIR"
            )
    if rank_and_world()[0] == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The settings that differ, with both values, except those of CHANGEABLE."""
    old = {RENAMED.get(name, name): value for name, value in _flat(before).items()}
    new = _flat(now)
    return [
        f"{name}={old.get(name)} there, {new.get(name)} here"
        for name in sorted(old.keys() | new.keys())
        if name not in CHANGEABLE and old.get(name) != new.get(name)
    ]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"trainer": {"steps": 4}} -> {"trainer.steps": 4}."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
