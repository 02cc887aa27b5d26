"""`vaebench train RECIPE key=value ...`: trains WF-VAE by `wfvae.trainer` on the clips and with the metrics of the benchmark.

A recipe is a YAML file of `TrainConfig`; with `base: NAME` it only holds what differs from another recipe.  The folder of a run:

    config.yaml    the whole configuration; a resumed run may only change the settings of `claim.CHANGEABLE`
    lock           the process that trains here; a second training in this folder is refused
    log.csv        one row per step
    scores.csv     one row per validation
    failed.txt     training files that the main process could not read, each once, with the reason; log.csv counts those of all
    checkpoints/   see `wfvae.state`
    tensorboard/   if tensorboard is installed
    wandb/         with `wandb=PROJECT`; wandb.txt is the id of the W&B run
    samples/       images of references above their reconstructions, one per validation
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from adapters import wfvae
from vaebench.distributed import cores, rank_and_world
from vaebench.training.claim import claim
from vaebench.training.clips import TrainingClips
from vaebench.training.config import TrainConfig, parse
from vaebench.training.log import LOG, RunLog
from vaebench.training.perceptual import lpips_loss
from vaebench.training.start import check_start, initial_model, load_start_weights
from vaebench.training.validation import validator
from wfvae import state
from wfvae.processes import locked
from wfvae.trainer import Hooks, Trainer


def train(recipe: str, overrides: list[str]) -> int:
    """Starts or resumes the run of a recipe.

    Args:
        recipe: name of a recipe, or a YAML file
        overrides: `key=value` settings over those of the recipe

    Returns:
        0, when the run has reached its last step

    Raises:
        ValueError: invalid settings, the folder is in use or holds another run, or the loss is NaN or infinite
        OSError: a file that the run needs is missing, or a checkpoint cannot be written
    """
    return run(parse(recipe, overrides))


def run(config: TrainConfig) -> int:
    """Starts or resumes a run; see `train`."""
    if config.refresh_discriminator and not config.start_from:
        raise ValueError(
            "this recipe trains the weights of an earlier stage further, with a new discriminator: name these weights by "
            "start_from=CHECKPOINT, such as start_from=runs/train/stage1; to train from random weights instead, without an "
            "earlier stage, set refresh_discriminator=false"
        )
    folder = Path(config.run)
    if not state.checkpoints(folder):
        check_start(config)
    with locked(folder):
        try:
            return _run(config)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_how_to_resume(folder)) from None


def _run(config: TrainConfig) -> int:
    folder = Path(config.run)
    claim(folder, config)
    done = state.checkpoints(folder)
    goes_on = not done or done[-1] < state.checkpoint_folder(folder, config.trainer.steps)
    if goes_on and rank_and_world()[0] == 0:  # reading the clips and the first steps can take minutes
        print(f"training to step {config.trainer.steps}; log: {folder / LOG}", file=sys.stderr, flush=True)
    perceptual = lpips_loss() if config.loss.perceptual else None
    index = Path(config.data.index or folder / "files.csv")
    clips_per_batch = config.trainer.batch_size * rank_and_world()[1]  # of all processes
    torch.manual_seed(config.trainer.seed)
    model = initial_model(config, index)
    clips = TrainingClips(config.data, index, config.trainer.seed, clips_per_batch)
    log = RunLog(folder, config.trainer.steps, asdict(config), config.wandb)
    temporal_compression = config.model.temporal_compression
    trainer = Trainer(
        model,
        clips,
        folder,
        # more workers than cores are slower; the clips do not depend on their number
        config=replace(config.trainer, workers=min(config.trainer.workers, cores())),
        loss=config.loss,
        lcr=config.lcr,
        lmr=config.lmr,
        perceptual=perceptual,
        hooks=Hooks(
            log=log.step,
            failed=log.failed,
            validate=validator(config.validation, temporal_compression, log) if config.validation.data else None,
        ),
        cpu=config.device == "cpu",
    )
    trainer.resume()
    load_start_weights(trainer, config)
    if trainer.accelerator.is_main_process:
        log.begin(trainer.step)
        log.failed(clips.unreadable)
    reached = trainer.step
    try:
        trainer.train()
    finally:
        log.close()
    if trainer.accelerator.is_main_process:
        if reached >= config.trainer.steps:
            print(f"already at step {reached}; nothing to do (a larger trainer.steps continues the run)")
        print(_outcome(folder))
    return 0


def _how_to_resume(folder: Path) -> str:
    """What the same command does after a run was stopped."""
    done = state.checkpoints(folder)
    if not done:
        return "there is no checkpoint yet: the same command starts again from the beginning"
    return f"the same command resumes from {done[-1]}"


def _outcome(folder: Path) -> str:
    """The last samples of a finished run, its best checkpoint (without validation the last one), and how to evaluate it."""
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
