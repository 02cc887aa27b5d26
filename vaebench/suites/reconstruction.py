"""How much of a clip survives: encode, decode, and score the reconstruction against the reference, clip by clip."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import adapters
from vaebench import plugins
from vaebench.config import RunConfig, as_dict, options
from vaebench.machine import pick_device
from vaebench.results import Score, interval
from vaebench.suites import Case, video_setting
from vaebench.vae import VAESpec, VideoVAE, reconstruct
from vaebench.video import to_model, to_score
from vaebench.weights import Unavailable

if TYPE_CHECKING:
    from vaebench.data import VideoSource
    from vaebench.metrics import Metric
    from vaebench.suites import Statistics


@dataclass(frozen=True)
class Options:
    metrics: list[str] = field(default_factory=lambda: ["psnr", "ssim", "lpips", "fvd", "flicker"])  # by name
    keep: int = (
        0  # write the first so many reconstructions, beside their references, as lossless video for the eye
    )


def build_metrics(names: Iterable[str], device: torch.device) -> tuple[dict[str, Metric], dict[str, str]]:
    """(metrics that can run here, reason for each that cannot); ValueError for a name that does not exist."""
    found: dict[str, Metric] = {}
    absent: dict[str, str] = {}
    for name in dict.fromkeys(names):
        module = plugins.find("metrics", name)
        try:
            found[name] = module.build(device)
        except Unavailable as reason:
            absent[name] = str(reason)
    return found, absent


class Reconstruction:
    name = "reconstruction"
    version = 1
    needs_weights = True

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        self.config = config
        self.keep = chosen.keep
        self.device = pick_device(config.device)
        self.metrics, self.absent = build_metrics(chosen.metrics, self.device)
        self.identity = {
            "metrics": {name: metric.version for name, metric in self.metrics.items()},
            **{
                key: as_dict(config)[key]
                for key in ("num_frames", "size", "protocol", "posterior", "mode", "dtype")
            },
            "seed": config.seed if config.posterior == "sample" else None,
        }

    def setting(self, source: VideoSource) -> str:
        return video_setting(self.config, source)

    def open(self, name: str) -> VideoVAE:
        return adapters.load(
            name,
            weights=self.config.weights,
            device=self.device,
            dtype=getattr(torch, self.config.dtype),
            mode=self.config.mode,
        )

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        return [Case(clip.id, clip) for clip in source]

    @torch.inference_mode()
    def measure(self, vae: VideoVAE, case: Case) -> Statistics:
        assert case.clip is not None
        reference = to_model(case.clip.load().to(self.device)).unsqueeze(0)  # (1, 3, T, H, W) in -1..1
        # one generator a clip, so that a draw depends neither on the order of clips nor on the shard
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.config.seed} {case.id}".encode()))
        reconstruction, _ = reconstruct(vae, reference, posterior=self.config.posterior, generator=generator)
        seen, got = to_score(reference), to_score(reconstruction)
        return {name: metric.measure(seen, got)[0].cpu().numpy() for name, metric in self.metrics.items()}

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        return {name: self._score(metric, _stack(statistics, name)) for name, metric in self.metrics.items()}

    def _score(self, metric: Metric, stacked: np.ndarray) -> Score:
        caution = getattr(metric, "caution", None)
        try:
            value = metric.reduce(stacked)
        except ValueError as reason:  # too few clips for this metric to mean anything: said, not guessed
            return Score(None, metric.unit, metric.better, len(stacked), note=str(reason))
        stderr, low, high = interval(stacked) if metric.per_clip else (None, None, None)
        note = caution(len(stacked)) if caution else ""
        return Score(value, metric.unit, metric.better, len(stacked), stderr, low, high, note)

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        own = [name for name, metric in self.metrics.items() if metric.per_clip]
        return {case: {name: float(kept[name]) for name in own} for case, kept in statistics.items()}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        return {}


def _stack(statistics: Mapping[str, Statistics], name: str) -> np.ndarray:
    return np.stack([kept[name] for kept in statistics.values()])


def build(config: RunConfig) -> Reconstruction:
    return Reconstruction(config, options(Options, config.options))
