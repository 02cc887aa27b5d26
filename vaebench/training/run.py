"""`vaebench train RECIPE key=value ...`: a recipe, the training clips and the benchmark's metrics, handed to `wfvae.trainer`.

A recipe is a YAML file of `TrainConfig`; with `base: NAME` it only says what it changes of another one.  A run lives in one folder:

    config.yaml    the whole configuration; started again with another one, the run refuses (except for the settings of FREE)
    lock           the process that trains here: a second training in this folder is refused
    log.csv        one line per step, the columns named in the first
    scores.csv     one line per validation
    failed.txt     training files that the main process could not read, each once, with the reason; log.csv counts those of all
    checkpoints/   see `wfvae.state`
    tensorboard/   if tensorboard is installed; Weights & Biases likewise, with `wandb=PROJECT` (its run's id: wandb.txt)
    samples/       strips of references above their reconstructions, at each validation
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

import adapters
from adapters import wfvae
from vaebench import weights
from vaebench.distributed import rank_and_world
from vaebench.features import lpips
from vaebench.files import write_atomically
from vaebench.training.clips import TrainingClips
from vaebench.training.config import TrainConfig, parse
from vaebench.training.log import RunLog
from vaebench.training.validation import validator
from wfvae import WFVAE, state
from wfvae import trainer as wf
from wfvae.config import WFVAEConfig
from wfvae.processes import locked
from wfvae.start import carry_wavelets, close_flow, start_from

# Settings that a run may change when it goes on: where it lies, how long it trains, and what is kept and shown of it.  With
# trainer.decay=cosine, another trainer.steps changes the learning rate of the steps that are left, but not of those done.
FREE = (
    "run",
    "wandb",
    "device",
    *(f"trainer.{name}" for name in ("steps", "workers", "save_every", "validate_every", "keep")),
)


def train(recipe: str, overrides: list[str]) -> int:
    """Starts the run of a recipe, or goes on with it where it stopped; 0 when it reached its last step."""
    return run(parse(recipe, overrides))


def run(config: TrainConfig) -> int:
    if config.refresh_discriminator and not config.start_from:
        raise ValueError(
            "this recipe continues the checkpoint of an earlier stage: set start_from=CHECKPOINT, "
            "or refresh_discriminator=false to train its settings from random weights"
        )
    with locked(Path(config.run)):
        return _run(config)


def _run(config: TrainConfig) -> int:
    folder = Path(config.run)
    _claim(folder, config)
    perceptual = _perceptual(config)
    torch.manual_seed(config.trainer.seed)
    model = WFVAE(config.model)
    index = Path(config.data.index or folder / "files.csv")
    group = config.trainer.batch_size * int(os.environ.get("WORLD_SIZE", "1"))  # of all processes
    clips = TrainingClips(config.data, index, config.trainer.seed, group)
    log = RunLog(folder, config.trainer.steps, asdict(config), config.wandb)
    if config.initial == "wavelets" and not config.start_from:
        only_synthetic = float(config.data.synthetic == 1)  # otherwise the components are those of the videos alone
        plain = replace(config.data, augment="none", zoom=1.0, synthetic=only_synthetic, cache="none")
        start = TrainingClips(plain, index, config.trainer.seed + 1)
        carry_wavelets(model, [start[i].video[None] for i in range(64)])
    close_flow(model, config.without_flow)
    r = config.model.temporal_compression
    validate = validator(config.validation, r, log) if config.validation.data else None
    hooks = wf.Hooks(log.step, log.failed, validate)
    trainer = wf.Trainer(
        model,
        clips,
        folder,
        config=config.trainer,
        loss=config.loss,
        lcr=config.lcr,
        lmr=config.lmr,
        perceptual=perceptual,
        hooks=hooks,
        cpu=config.device == "cpu",
    )
    trainer.resume()
    if config.start_from and not trainer.step:
        source, described = _source(config.start_from)
        start_from(trainer, source, config.refresh_discriminator, described)
        close_flow(model, config.without_flow)  # it may have been open in that checkpoint
    if trainer.accelerator.is_main_process:
        log.begin(trainer.step)
        log.failed(clips.unreadable)
    try:
        trainer.train()
    finally:
        log.close()
    if trainer.accelerator.is_main_process:
        print(_outcome(folder))
    return 0


def _outcome(folder: Path) -> str:
    """The checkpoint of a finished run that scored best, else its last one, and the command that evaluates it."""
    name = f"wfvae:{folder}"
    if set(name) & set(",'[]") or name != name.strip():
        name = f'"{name}"'  # in quotes, because vaes is a list
    samples = sorted(folder.glob("samples/step-*.png"))
    lines = [
        *([f"samples:    {samples[-1]}"] if samples else []),
        f"checkpoint: {wfvae.checkpoint_of(str(folder))}",
        f"evaluate:   vaebench run {shlex.quote(f'vaes={name}')}",
    ]
    return "\n".join(lines)


def _source(name: str) -> tuple[Path, WFVAEConfig | None]:
    """Where the weights of `start_from` are, and their configuration if it is not in a config.json beside them.

    Raises:
        ValueError: unknown built-in model
        FileNotFoundError: the path does not exist, or the weights of a built-in model are not on this machine
    """
    place = Path(wfvae.checkpoint_of(name)).expanduser()
    if place.exists():
        return place, None
    if name.startswith("wfvae/"):
        spec = adapters.find(name)
        return weights.find(spec.source), wfvae.config_of(spec)
    raise FileNotFoundError(
        f"start_from={name} does not exist; give the folder of a run or checkpoint, a folder with config.json and weights, "
        f"a .safetensors or .ckpt file, or a built-in model ({', '.join(f'wfvae/{variant}' for variant in wfvae.VARIANTS)})"
    )


def _claim(folder: Path, config: TrainConfig) -> None:
    """One folder, one configuration, up to the settings of FREE: a resumed run that silently changed would be neither of the two.

    A run that stopped before its first checkpoint has no claim.  All processes of a run come here, and the main process writes.

    Raises:
        ValueError: the folder holds a run with another configuration
    """
    text = yaml.safe_dump(json.loads(json.dumps(asdict(config))), sort_keys=False)
    file = folder / "config.yaml"
    before = file.read_text() if file.is_file() else ""
    if before == text:
        return
    if before and state.checkpoints(folder):
        old, new = _renamed(_flat(yaml.safe_load(before))), _flat(yaml.safe_load(text))
        changed = [
            f"{name}={old.get(name)} there, {new.get(name)} here"
            for name in sorted(old.keys() | new.keys())
            if name not in FREE and old.get(name) != new.get(name)
        ]
        if changed:
            raise ValueError(
                f"{folder} holds a run with another configuration ({'; '.join(changed)}); choose another run=DIR"
            )
    if rank_and_world()[0] == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)


# trainer settings of config.yaml before they were renamed; runs that began with them can be resumed
_OLD_NAMES = {
    "trainer.batch": "trainer.batch_size",
    "trainer.accumulate": "trainer.gradient_accumulation_steps",
    "trainer.clip": "trainer.max_grad_norm",
}


def _renamed(settings: dict[str, Any]) -> dict[str, Any]:
    return {_OLD_NAMES.get(name, name): value for name, value in settings.items()}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"trainer": {"steps": 4}} -> {"trainer.steps": 4}."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _perceptual(config: TrainConfig) -> Callable[[Tensor, Tensor], Tensor] | None:
    """LPIPS with VGG16, as the paper trains with; ValueError with the ways out where its weights are not here."""
    if not config.loss.perceptual:
        return None
    network = lpips.package("vgg")
    try:
        lpips.fill(network, weights.verified("vgg16"))
    except OSError as reason:
        raise ValueError(f"{reason}; or say `loss.perceptual=0` to train without LPIPS") from None

    def distance(reference: Tensor, reconstruction: Tensor) -> Tensor:
        there = network.to(reference.device)  # each process has its own GPU
        found: Tensor = there(reference, reconstruction).flatten()
        return found

    return distance
