"""Reconstruction quality: encode and decode each clip and score the reconstruction against the original."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from vaebench import plugins, protocol, weights
from vaebench.config import RunConfig
from vaebench.machine import pick_device
from vaebench.options import ReconstructionOptions as Options
from vaebench.scoring import build_metrics, change, metric_digests, score, stack
from vaebench.settings import build as build_settings
from vaebench.suite import Case, Suite, clip_cases, clip_generator, video_setting
from vaebench.vae import VAESpec, VideoVAE, decode_as, reconstruct
from vaebench.video import to_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.records import Score
    from vaebench.suite import Candidate, Statistics
    from vaebench.video import Latent, Video


class Reconstruction(Suite[VideoVAE]):
    name = "reconstruction"

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        super().__init__(config)
        if chosen.sizes:
            raise ValueError(f"sizes={chosen.sizes} gives a record per size: use `vaebench run`, or one size= per call")
        if chosen.keep < 0:
            raise ValueError(f"keep={chosen.keep} should be a number of clips, 0 or more")
        self.keep, self.pictured = chosen.keep, set[str]()
        self.keep_latents = chosen.keep_latents
        self.device = pick_device(config.device)
        self.protocol = protocol.load(config.protocol)
        self.posterior = config.posterior or self.protocol.posterior
        self.dtype = config.dtype or self.protocol.dtype
        self.chosen = list(dict.fromkeys(chosen.metrics)) or list(self.protocol.metrics)
        self.metrics, self.absent = build_metrics(self.chosen, self.device, config.num_frames, config.size)
        if not self.metrics:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.absent.items())
            raise ValueError(f"none of the metrics can be computed here: {reasons}")
        # the key of a stored statistic includes the code and the weights of its metric; those of other versions are ignored
        digests = metric_digests(self.chosen, self.metrics)
        self.keys = {name: f"{name}.{digest}" for name, digest in digests.items()}
        self.identity = {
            "protocol": [self.protocol.name, self.protocol.rounding, self.protocol.codec],
            **{key: getattr(config, key) for key in ("num_frames", "size", "mode")},
            **{"posterior": self.posterior, "dtype": self.dtype},
            "seed": config.seed if self.posterior == "sample" else None,
        }

    def setting(self, source: VideoSource) -> str:
        # another choice of metrics is part of the name, so that a trial run never replaces a full record
        own = [] if self.chosen == list(self.protocol.metrics) else ["+".join(map(self._label, self.chosen))]
        return "-".join([video_setting(self.config, source), *own])

    def _label(self, metric: str) -> str:
        """The name of a metric in a setting; that of a file ends in digits of its code, for another version is another metric."""
        name = plugins.label(metric)
        return name if name == metric else f"{name}-{self.keys.get(name, name).rpartition('.')[2][:6]}"

    def open(self, candidate: Candidate) -> VideoVAE:
        return candidate.load(self.config.mode, device=self.device, dtype=getattr(torch, self.dtype))

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        cases = clip_cases(source, self.config)
        self.pictured = {case.id for case in cases[: self.keep]}
        return [replace(case, params={"keep": case.id in self.pictured}) for case in cases]

    def is_complete(self, case: Case, names: Collection[str]) -> bool:
        needed = {*self.keys.values(), *(["frames"] if case.params["keep"] else [])}
        needed |= {"latent"} if self.keep_latents else set()
        return needed <= set(names)

    @torch.inference_mode()
    def measure(self, vae: VideoVAE, case: Case) -> Statistics:
        assert case.clip is not None
        reference = to_model(case.clip.load().to(self.device)).unsqueeze(0)  # (1, 3, T, H, W) in -1..1
        reconstruction, latent = self._reconstruct(vae, reference, case)
        real, reconstructed = self.protocol.to_score(reference), self.protocol.to_score(reconstruction)
        statistics = {
            self.keys[name]: metric.measure(real, reconstructed)[0].cpu().numpy()
            for name, metric in self.metrics.items()
            if self.keys[name] not in case.stored
        }
        if own := getattr(vae, "own", None):  # a cross of two VAEs is compared with the decoder of the one that encodes
            got_by_own = self.protocol.to_score(decode_as(own, reference, latent))
            statistics |= {
                f"own {self.keys[name]}": metric.measure(real, got_by_own)[0].cpu().numpy()
                for name, metric in self.metrics.items()
                if self.keys[name] not in case.stored
            }
        if case.params["keep"]:
            statistics["frames"] = _some_frames(real, reconstructed)
        if self.keep_latents:
            statistics["latent"] = latent.cpu().numpy()
        return statistics

    def _reconstruct(self, vae: VideoVAE, reference: Video, case: Case) -> tuple[Video, Latent]:
        """The reconstruction and its latent.  If the latent is stored, only the decoder runs."""
        if "latent" in case.stored:
            latent = torch.from_numpy(case.stored["latent"]).to(self.device)
            return decode_as(vae, reference, latent), latent
        generator = clip_generator(self.config.seed, case.id)
        return reconstruct(vae, reference, posterior=self.posterior, generator=generator)

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        scores = {
            name: score(name, metric, stack(statistics, self.keys[name])) for name, metric in self.metrics.items()
        }
        for name, metric in self.metrics.items():
            key = self.keys[name]
            if all(f"own {key}" in values for values in statistics.values()):
                before, after = stack(statistics, f"own {key}"), stack(statistics, key)
                versus = f"{name}_vs_own_decoder"
                scores[versus] = change(versus, metric, before, after)
        return scores

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        own = [name for name, metric in self.metrics.items() if metric.per_clip]
        return {case: {name: float(values[self.keys[name]]) for name in own} for case, values in statistics.items()}

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        return {case: statistics[case]["frames"] for case in statistics if case in self.pictured}


def _some_frames(real: Video, reconstructed: Video) -> NDArray:
    """(1, 3, T, H, W) in 0..1, twice -> uint8 (2, n, H, W, 3): the first, middle and last frame of both."""
    frames = real.shape[2]
    some = sorted({0, frames // 2, frames - 1})
    both = torch.cat([real, reconstructed])[:, :, some].mul(255).round().byte()
    return both.permute(0, 2, 3, 4, 1).cpu().numpy()


def runs(config: RunConfig) -> list[RunConfig]:
    """The runs of a run with `sizes=`: one per size, each with its own record; of any other run, the run itself.

    Raises:
        ValueError: a size is invalid or given twice, or both `size` and `sizes` are set
    """
    chosen = build_settings(Options, config.options)
    if not chosen.sizes:
        return [config]
    listed = ",".join(map(str, chosen.sizes))
    if config.size != RunConfig().size:
        raise ValueError(f"size={config.size} and sizes={listed}: set one of them")
    if twice := [size for size in chosen.sizes if chosen.sizes.count(size) > 1]:
        raise ValueError(f"sizes={listed}: {twice[0]} is given twice")
    options = {name: value for name, value in config.options.items() if name != "sizes"}
    return [replace(config, size=size, options=options) for size in chosen.sizes]


def weight_files(config: RunConfig) -> list[str]:
    """Names of the weight files that the metrics of a run read."""
    chosen = build_settings(Options, config.options)
    return weights.used_by(chosen.metrics or protocol.load(config.protocol).metrics)


def build(config: RunConfig) -> Reconstruction:
    return Reconstruction(config, build_settings(Options, config.options))
