"""The weights that a run starts from: random, the wavelet coefficients, or those of an earlier training or release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import adapters
from adapters import wfvae
from vaebench import weights
from vaebench.training.clips import TrainingClips
from vaebench.training.config import TrainConfig
from wfvae import WFVAE, start, state
from wfvae.config import WFVAEConfig
from wfvae.trainer import Trainer

CLIPS = 64  # training clips whose wavelet coefficients are analysed for `initial=wavelets`


def initial_model(config: TrainConfig, index: Path) -> WFVAE:
    """A model with the weights of `initial`, before those of `start_from` or of a checkpoint of the run.

    Args:
        config: configuration of the run
        index: file that stores the list of training videos
    """
    model = WFVAE(config.model)
    replaced = config.start_from or state.checkpoints(Path(config.run))  # by weights that are read later
    if config.initial == "wavelets" and not replaced:
        only_synthetic = float(config.data.synthetic == 1)  # else the coefficients of the videos alone
        plain = replace(config.data, augment="none", zoom=1.0, synthetic=only_synthetic, cache="none")
        clips = TrainingClips(plain, index, config.trainer.seed + 1)
        start.carry_wavelets(model, [clips[i].video[None] for i in range(CLIPS)])
    start.close_flow(model, config.without_flow)
    return model


def check_start(config: TrainConfig) -> None:
    """Checks that the weights of `start_from` exist, before the clips are read.

    Raises:
        ValueError: unknown built-in model
        FileNotFoundError: there are no such weights
    """
    if config.start_from:
        _source(config.start_from)


def load_start_weights(trainer: Trainer, config: TrainConfig) -> None:
    """Gives a trainer the weights of `start_from`; a run that has steps already, or no `start_from`, stays as it is.

    Raises:
        ValueError: unknown built-in model, or weights of another network than the run trains
        FileNotFoundError: there are no such weights
    """
    if not config.start_from or trainer.step:
        return
    path, weights_config = _source(config.start_from)
    start.start_from(trainer, path, config.refresh_discriminator, weights_config)
    start.close_flow(trainer.model, config.without_flow)  # it may be open in these weights


def _source(name: str) -> tuple[Path, WFVAEConfig | None]:
    """The path of the weights of `start_from`, and their configuration if it is not in a config.json beside them.

    Raises:
        ValueError: unknown built-in model
        FileNotFoundError: the path does not exist, or the weights of a built-in model are not on this machine
    """
    path = Path(wfvae.checkpoint_of(name)).expanduser()
    if path.exists():
        return path, None
    if name.startswith("wfvae/"):
        spec = adapters.find(name)
        return weights.find(spec.source, name=spec.name), wfvae.config_of(spec)
    raise FileNotFoundError(
        f"start_from={name} does not exist; give the folder of a run or checkpoint, a folder with config.json and weights, "
        f"a .safetensors or .ckpt file, or a built-in model ({', '.join(f'wfvae/{variant}' for variant in wfvae.VARIANTS)})"
    )
