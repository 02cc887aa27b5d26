"""How much of a clip survives: encode, decode, and score the reconstruction against the reference, clip by clip."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

import adapters
from vaebench import protocol
from vaebench.config import RunConfig
from vaebench.machine import pick_device
from vaebench.options import ReconstructionOptions as Options
from vaebench.scoring import build_metrics, score, stack
from vaebench.settings import build as build_settings
from vaebench.suite import Case, Demand, clip_cases, video_setting
from vaebench.vae import VAESpec, VideoVAE, reconstruct
from vaebench.video import to_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.results import Score
    from vaebench.suite import Statistics
    from vaebench.video import Video


class Reconstruction:
    name = "reconstruction"
    version = 1
    needs_weights = True

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        if chosen.keep < 0:
            raise ValueError(f"keep={chosen.keep} should be a number of clips, 0 or more")
        self.config = config
        self.keep, self.kept = chosen.keep, set[str]()
        self.device = pick_device(config.device)
        self.protocol = protocol.load(config.protocol)
        self.posterior = config.posterior or self.protocol.posterior
        self.dtype = config.dtype or self.protocol.dtype
        self.chosen = chosen.metrics or list(self.protocol.metrics)
        self.metrics, self.absent = build_metrics(self.chosen, self.device, config.num_frames)
        if not self.metrics:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.absent.items())
            raise ValueError(f"none of the metrics can be taken here: {reasons}")
        self.identity = {
            "metrics": {name: metric.version for name, metric in self.metrics.items()},
            "protocol": [self.protocol.name, self.protocol.rounding, self.protocol.codec],
            **{key: getattr(config, key) for key in ("num_frames", "size", "mode")},
            **{"posterior": self.posterior, "dtype": self.dtype, "keep": chosen.keep},
            "seed": config.seed if self.posterior == "sample" else None,
        }

    def default_vaes(self, names: Sequence[str]) -> list[str]:
        return list(names)

    def setting(self, source: VideoSource) -> str:
        # a choice of metrics of one's own stands apart, so that a try never takes the place of a full record
        own = [] if self.chosen == list(self.protocol.metrics) else ["+".join(self.chosen)]
        return "-".join([video_setting(self.config, source), *own])

    def open(self, name: str) -> VideoVAE:
        return adapters.load(
            name,
            weights=self.config.weights,
            device=self.device,
            dtype=getattr(torch, self.dtype),
            mode=self.config.mode,
        )

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        cases = clip_cases(source, self.config)
        self.kept = {case.id for case in cases[: self.keep]}
        return cases

    @torch.inference_mode()
    def measure(self, vae: VideoVAE, case: Case) -> Statistics:
        assert case.clip is not None
        reference = to_model(case.clip.load().to(self.device)).unsqueeze(0)  # (1, 3, T, H, W) in -1..1
        # one generator a clip, so that a draw depends neither on the order of clips nor on the shard
        generator = torch.Generator().manual_seed(zlib.crc32(f"{self.config.seed} {case.id}".encode()))
        reconstruction, _ = reconstruct(vae, reference, posterior=self.posterior, generator=generator)
        seen, got = self.protocol.to_score(reference), self.protocol.to_score(reconstruction)
        kept = {name: metric.measure(seen, got)[0].cpu().numpy() for name, metric in self.metrics.items()}
        if case.id in self.kept:
            kept["frames"] = _some_frames(seen, got)
        return kept

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        return {name: score(metric, stack(statistics, name)) for name, metric in self.metrics.items()}

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        own = [name for name, metric in self.metrics.items() if metric.per_clip]
        return {case: {name: float(kept[name]) for name in own} for case, kept in statistics.items()}

    def demands(self, spec: VAESpec, statistics: Mapping[str, Statistics]) -> list[Demand]:
        return []

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        return {case: kept["frames"] for case, kept in statistics.items() if "frames" in kept}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        return {}


def _some_frames(seen: Video, got: Video) -> NDArray:
    """(1, 3, T, H, W) in 0..1, twice -> uint8 (2, n, H, W, 3): the first, middle and last frame of both."""
    frames = seen.shape[2]
    some = sorted({0, frames // 2, frames - 1})
    both = torch.cat([seen, got])[:, :, some].mul(255).round().byte()
    return both.permute(0, 2, 3, 4, 1).cpu().numpy()


def build(config: RunConfig) -> Reconstruction:
    return Reconstruction(config, build_settings(Options, config.options))
