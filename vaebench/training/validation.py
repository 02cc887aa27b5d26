"""Validation during training: the reconstruction suite on the posterior's mode, by `vaebench.evaluation`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaebench import evaluation, plugins
from vaebench.config import complete
from vaebench.data import list_clips
from vaebench.training.config import Validation
from vaebench.vae import FrameRule, Posterior, VAESpec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.training.log import RunLog
    from vaebench.video import Latent, Video
    from wfvae import WFVAE


class InTraining:
    """The model of a training run as a VAE of the benchmark."""

    def __init__(self, model: WFVAE, name: str) -> None:
        self.model = model
        compression, channels = model.config.temporal_compression, model.config.latent_channels
        self.spec = VAESpec("wfvae", name, compression, 8, channels, causal=True, frames=FrameRule(compression, 1),
                            size_multiple=8)  # fmt: skip

    def encode(self, video: Video) -> Posterior:
        return Posterior(self.model.encode(video).mean.float())

    def decode(self, latent: Latent) -> Video:
        return self.model.decode(latent).float()


def validator(given: Validation, temporal_compression: int, log: RunLog) -> Callable[[int, WFVAE], dict[str, float]]:
    """A function `validate(step, model) -> scores` that also writes the scores and samples to the log.

    The score "score" is the first metric, negated if lower is better; it is -inf if that metric has no value.

    Args:
        given: settings of the validation
        temporal_compression: of the model, in frames per latent frame
        log: log of the run

    Raises:
        ValueError: no clips, no folder `validation.root`, no metrics, or invalid num_frames or size
        OSError: there is no file `validation.manifest`
    """
    r = temporal_compression
    if given.num_frames % r != 1 or given.size % 8:
        raise ValueError(
            f"validation needs 1 + {r}k frames and a size that is a multiple of 8, "
            f"got validation.num_frames={given.num_frames} and validation.size={given.size}"
        )
    if given.manifest and not Path(given.manifest).exists():
        raise OSError(f"{given.manifest}: no such file; validation.manifest= (empty) validates on all clips")
    options = {"metrics": given.metrics, "keep": given.samples}
    config = complete(
        {"data": given.data, "root": given.root, "manifest": given.manifest, "num_frames": given.num_frames,
         "size": given.size, "clips": given.clips or None, "options": options}
    )  # fmt: skip
    try:
        source = list_clips(plugins.find("data", given.data).build(config), given.data)
    except (ValueError, OSError) as error:  # a source names the settings of `vaebench run`
        raise ValueError(str(error).replace("root=DIR", "validation.root=DIR")) from None
    if not given.metrics:
        raise ValueError(
            "validation.metrics should name at least one metric; set validation.data= (empty) for no validation"
        )

    def validate(step: int, model: WFVAE) -> dict[str, float]:
        device = next(model.parameters()).device
        suite = plugins.find("suites", "reconstruction").build(replace(config, device=str(device)))
        result = evaluation.run(suite, evaluation.InMemory.of(InTraining(model, f"step-{step}")), source)
        if result.pictures:
            log.samples(step, sheet(result.pictures.values()))
        available = {name: score for name, score in result.record.scores.items() if score.value is not None}
        scores = {name: float(score.value or 0) for name, score in available.items()}
        log.scores(step, scores)
        first = plugins.label(given.metrics[0])
        value = scores.get(first, math.nan)
        if math.isnan(value):  # unavailable, or too few clips: this checkpoint is not the best one
            return {"score": -math.inf, **scores}
        return {"score": -value if available[first].better == "lower" else value, **scores}

    return validate


def sheet(clips: Iterable[NDArray]) -> Tensor:
    """Clips, each uint8 (2, n, H, W, 3) -> image (3, clips * 2H, n * W) in 0..1: n frames per row, references above."""
    rows = [np.concatenate(list(frames), axis=1) for clip in clips for frames in clip]
    return torch.from_numpy(np.concatenate(rows)).permute(2, 0, 1).float() / 255
