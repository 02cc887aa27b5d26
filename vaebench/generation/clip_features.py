"""Features of real, reconstructed and generated videos: what FVD, KVD and the inception scores are computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaebench.generation import sampling
from vaebench.generation.diffusion_run import DiffusionRun
from vaebench.generation.extractors import Extractor, features_of
from vaebench.generation.latte.model import Latte
from vaebench.generation.sampling import Sampling
from vaebench.generation.windows import Window, windows
from vaebench.options import DiffusabilityOptions
from vaebench.vae import reconstruct
from vaebench.video import to_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.suite import Statistics
    from vaebench.video import Video

SHOWN = 8  # samples in the record's picture and in the video beside the checkpoints


@dataclass(frozen=True)
class ClipFeatures:
    """Computes the features of chunks of videos; an array (n, d) per kind of video and network, such as "real i3d"."""

    options: DiffusabilityOptions
    sampling: Sampling
    seed: int
    extractors: Mapping[str, Extractor]

    @torch.inference_mode()
    def real(self, run: DiffusionRun, numbers: range) -> Statistics:
        """Of real clips and of their reconstructions, one window of each video."""
        rows: list[Statistics] = []
        some = self.real_windows(run)[numbers.start : numbers.stop]
        for window in run.meter.steps(some, len(some)):  # if the model was trained in another process
            real = to_model(window.load().to(run.device)).unsqueeze(0)
            reconstructed, _ = reconstruct(run.vae, real)
            rows.append(self._features("real", real) | self._features("reconstructed", reconstructed))
        return _stacked(rows)

    def real_windows(self, run: DiffusionRun) -> list[Window]:
        """The first window of every video whose latents could be encoded, in the order of `real_selection`."""
        plan, options = run.plan, self.options
        first = windows(
            run.source,
            frames=plan.frames,
            interval=options.real_stride or plan.interval,
            resize=plan.resize if options.real_resize == "learned" else options.real_resize,
            per_clip=1,
            flips=False,
            seed=plan.seed,
            clips=plan.clips,
        )
        encoded = {window.id for window in run.latents.windows}
        first = [window for window in first if window.id in encoded]
        if options.real_selection != "random":
            return first
        return [first[i] for i in np.random.default_rng(plan.seed).permutation(len(first))]

    def samples(self, run: DiffusionRun, numbers: range) -> Statistics:
        """Of generated videos; with the first chunk come the record's picture and a video beside the checkpoints."""
        videos = self._generated(run, self.model(run), numbers)
        statistics = _stacked([self._features("generated", video) for video in videos])
        if numbers.start != 0:
            return statistics
        how, folder = self.sampling, run.training_folder
        name = f"samples-{how.method}{how.steps}-guidance{how.guidance:g}-{self.options.guided_channels}.mp4"
        sampling.write_video(folder / name, videos[:SHOWN])
        picture = sampling.picture(videos[:SHOWN])
        return {**statistics, "frames": picture, "video": np.array(f"{folder.name}/{name}")}

    def model(self, run: DiffusionRun) -> Latte:
        """The trained model; samples are written at every checkpoint of the training."""
        return run.trained(partial(self._preview, run))

    def _preview(self, run: DiffusionRun, ema: Latte, file: Path) -> None:
        """Write four samples of a model in training, as PNG and as video beside its checkpoints."""
        from PIL import Image

        videos = self._generated(run, ema, range(4))
        sheet = sampling.picture(videos).transpose(0, 2, 1, 3, 4)  # (videos, H, frames, W, 3)
        Image.fromarray(sheet.reshape(4 * run.plan.size, -1, 3)).save(file.with_suffix(".png"))
        sampling.write_video(file.with_suffix(".mp4"), videos)

    def _generated(self, run: DiffusionRun, model: Latte, numbers: range) -> list[Video]:
        scaling, channels = run.latents.scaling, self.options.guided_channels
        assert scaling is not None
        return sampling.generate(model, run.vae, scaling, numbers, self.sampling, seed=self.seed, channels=channels)

    def _features(self, kind: str, video: Video) -> Statistics:
        features = features_of(video, self.extractors, self.options.frame_codec)
        return {f"{kind} {name}": values for name, values in features.items()}


def _stacked(rows: list[Statistics]) -> Statistics:
    """Features (d,) of each video -> (n, d) by name; {} for no video."""
    return {name: np.stack([row[name] for row in rows]) for name in (rows[0] if rows else {})}


def joined(statistics: Mapping[str, Statistics], name: str) -> NDArray:
    """(n, d) features of that name of all cases; (0, 1) if no case has them."""
    parts = [case[name] for case in statistics.values() if name in case]
    return np.concatenate(parts) if parts else np.empty((0, 1))
