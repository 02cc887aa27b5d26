"""How well can a diffusion model generate in this latent space?  Latent statistics, and a Latte trained on the latents.

    tier=0      latent statistics only: minutes, no training
    tier=1      Latte-B, 20,000 steps: about one hour of a large GPU
    tier=2      the WF-VAE paper's Table 2 (arXiv 2411.17459): Latte-L, 100,000 steps, 2,048 videos
    tier=smoke  a toy Latte on 64 x 64 pixels, a minute on a CPU: tests that everything runs, no evidence about a VAE

A case is the latents, the denoising loss, or a chunk of the generated or the real videos.  Processes share out the cases
(`shard=i/n`), and a finished case is not repeated.  What the published protocols do by accident is an option each, and part of
the setting's name.  `vaebench.generation.diffusion_run` lists the steps from video to trained model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from vaebench import device_idle, frame_size, plugins, weights
from vaebench.config import RunConfig
from vaebench.device_idle import StepMeter
from vaebench.distributed import rank_and_world
from vaebench.generation import extractors, latent_scores, scores, tiers
from vaebench.generation.clip_features import ClipFeatures, joined
from vaebench.generation.diffusion_run import DiffusionRun, Plan
from vaebench.generation.latte.train import denoising_loss
from vaebench.machine import pick_device
from vaebench.options import DiffusabilityOptions as Options
from vaebench.settings import build as build_settings
from vaebench.store import Store
from vaebench.suite import Case, Suite
from vaebench.vae import VAESpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.records import Score
    from vaebench.suite import Candidate, Statistics

CHUNK = 32  # real or generated videos per case


class Diffusability(Suite[DiffusionRun]):
    name = "diffusability"
    builds_source = True
    unused: ClassVar[dict[str, str]] = {
        "num_frames": "the diffusability suite chooses the frames of a window for each VAE; set clip_frames",
        "posterior": "the diffusability suite samples the posterior in training and scores its mean",
        "protocol": "the diffusability suite has options for the published protocols (`vaebench run --suite diffusability -h`)",
    }

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        super().__init__(config)
        tiers.check(config, chosen)
        self.chosen = chosen
        self.tier = tiers.adjusted(config, chosen)
        self.size = self.tier.size or frame_size.side(config.size, "the diffusability suite generates square videos")
        self.device = pick_device(config.device)
        self.extractors: dict[str, extractors.Extractor] = {}
        if self.tier.shape is not None:
            ucf = config.data == "ucf101"
            self.extractors, self.absent = extractors.available(chosen.features, classes=ucf, device=self.device)
        self.idle = StepMeter(None)
        self.clip_features = ClipFeatures(chosen, self.tier.sampling, config.seed, self.extractors)
        suffixes = [scores.suffix(name) for name in dict.fromkeys(chosen.features)]
        self.columns = ["denoising_loss", "gaussian_loss"]
        self.columns += [f"{score}{suffix}" for suffix in suffixes for score in scores.HEADLINES]
        self.columns += [*scores.INCEPTION, "effective_rank", "dead_channels", "slope_space", "slope_time"]
        files = [file for name in self.extractors for file in extractors.FILES[name]]
        self.identity = {
            **asdict(chosen),
            **{key: getattr(config, key) for key in ("clips", "mode", "dtype", "seed")},
            "tier": asdict(self.tier),
            "size": self.size,
            "files": {file: weights.digest(weights.path(file)) for file in files},
        }

    def setting(self, source: VideoSource) -> str:
        config = self.config
        parts = [self.tier.label, source.identity["name"], f"{self.size}px"]
        parts += [f"first{config.clips}"] if config.clips else []
        parts += tiers.changed(self.chosen)
        parts += [choice for choice in (config.dtype, config.mode) if choice]
        parts += [name for name, on in self.flags.items() if on]
        parts += [f"seed{config.seed}"] if config.seed else []
        return "-".join(dict.fromkeys(parts))

    def meter(self, total: int) -> StepMeter:
        return self.idle

    def open(self, candidate: Candidate) -> DiffusionRun:
        config = self.config
        self.idle = StepMeter(device_idle.profiler_of(self.device))
        vae = candidate.load(config.mode, device=self.device, dtype=getattr(torch, config.dtype or "float32"))
        plan = self._plan(vae.spec)
        digest = f"{candidate.weights} {candidate.config_sha256}"
        code = [*candidate.code, plugins.find("data", config.data)]
        index = config.shard.partition("/")[0]
        may_train = config.shard == "auto" or index == "0"
        runs = Path(config.runs)
        if not candidate.name:  # the code of an object in memory has no hash, so its latents are not kept
            self.scratch = tempfile.TemporaryDirectory(prefix="vaebench-")
            runs = Path(self.scratch.name)
        return DiffusionRun(vae, digest, code, self._source(plan), plan, runs, self.device, may_train, self.idle)

    def _plan(self, spec: VAESpec) -> Plan:
        chosen, tier = self.chosen, self.tier
        frames = chosen.clip_frames or spec.fit(extractors.SCORED)
        if spec.fit(frames) != frames or self.size % spec.size_multiple:
            raise ValueError(
                f"{spec.name} takes {spec.frames} frames and sizes that are multiples of {spec.size_multiple}, "
                f"got {frames} frames of {self.size} pixels; set clip_frames and size"
            )
        return Plan(
            mode=self.config.mode or spec.reference_mode,
            dtype=self.config.dtype or "float32",
            frames=frames,
            size=self.size,
            interval=chosen.interval,
            resize=chosen.frame_resize,
            windows=tier.windows,
            flips=self.config.data == "ucf101",  # as in Latte: UCF-101 is flipped, SkyTimelapse is not
            classes=self.config.data == "ucf101",
            clips=self.config.clips,
            scaling=chosen.scaling,
            held_out=tier.held_out,
            seed=self.config.seed,
            shape=tier.shape,
            train=tier.train,
        )

    def _source(self, plan: Plan) -> VideoSource:
        """The data source of one VAE.

        The runner's source has `num_frames` frames of `size` pixels.  A window spans more frames, whose number depends on the
        lengths that the VAE takes, and its size can depend on the tier.  The runner's source only counts the videos.
        """
        span = (plan.frames - 1) * max(plan.interval, self.chosen.real_stride) + 1
        config = replace(self.config, num_frames=span, size=plan.size)
        source: VideoSource = plugins.find("data", config.data).build(config)
        return source

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        if self.tier.shape is None:
            return [Case("latents", params={"kind": "latents"})]
        videos = sum(1 for _ in source)
        real = min(self.tier.samples, self.config.clips or videos, videos) if self.extractors else 0
        # cases that need the model come first: all processes train together, so none may keep the others waiting
        of_model = [Case("denoising", params={"kind": "denoising"}), *_chunks("samples", self.tier.samples)]
        world = rank_and_world()[1] if self.config.shard == "auto" else 1
        if world > len(of_model):  # a process without such a case would not take part in the training
            raise ValueError(
                f"{len(of_model)} cases need the trained model, so {world} processes cannot train it together; "
                f"start at most {len(of_model)}, or raise samples"
            )
        return [Case("latents", params={"kind": "latents"}), *of_model, *_chunks("real", real)]

    def measure(self, vae: DiffusionRun, case: Case) -> Statistics:
        kind = case.params["kind"]
        if kind == "latents":
            return latent_scores.measured(vae.latents, vae.plan.frames * vae.plan.size**2)
        if kind == "denoising":
            evaluated = vae.evaluation_set
            errors = denoising_loss(
                self.clip_features.model(vae), evaluated, range(len(evaluated)), seed=self.config.seed
            )
            scenes = np.unique([window.scene for window in evaluated.windows], return_inverse=True)[1]
            return {"errors": errors.numpy(), "scenes": scenes, "held_out": np.array(len(vae.held_out))}
        features = self.clip_features.real if kind == "real" else self.clip_features.samples
        return features(vae, case.params["numbers"])

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        store = Store(Path(self.config.runs) / "standard_errors")
        found: dict[str, Score] = {}
        if losses := statistics.get("denoising"):
            errors, scenes, held_out = losses["errors"], losses["scenes"], int(losses["held_out"])
            found["denoising_loss"] = scores.denoising(errors, scenes, held_out, smoke_test=self.chosen.tier == "smoke")
        for name in self.extractors:
            real, reconstructed, generated = (
                joined(statistics, f"{kind} {name}") for kind in ("real", "reconstructed", "generated")
            )
            if name == "c3d_ucf101":
                found |= scores.inception_scores(generated, real) if len(generated) else {}
            elif len(real) and len(reconstructed) and len(generated):
                ddof = 0 if self.chosen.covariance == "biased" else 1
                found |= scores.distances(name, real, reconstructed, generated, ddof=ddof, store=store)
        return found | (latent_scores.latent_scores(statistics["latents"]) if "latents" in statistics else {})

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        """The first samples, four frames of each: a row is a sample."""
        first = next((case["frames"] for case in statistics.values() if "frames" in case), None)
        return {} if first is None else {"samples": first}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        errors = statistics["denoising"]["errors"] if "denoising" in statistics else np.empty((0, 0))
        return {
            "smoke_test": self.chosen.tier == "smoke",
            "latents": latent_scores.extra(statistics["latents"]) if "latents" in statistics else {},
            "samples_video": next((str(case["video"]) for case in statistics.values() if "video" in case), None),
            "log_snr": np.log(latent_scores.grid_snr()).tolist(),
            "denoising_loss": [float(row.mean()) for row in errors],
        }


def _chunks(kind: str, count: int) -> list[Case]:
    """Cases of CHUNK videos each, `count` videos in all."""
    numbers = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    return [Case(f"{kind} {n.start}-{n.stop - 1}", params={"kind": kind, "numbers": n}) for n in numbers]


def weight_files(config: RunConfig) -> list[str]:
    """Names of the weight files that the networks of a run read."""
    chosen = build_settings(Options, config.options)
    networks = [*chosen.features, *(["c3d_ucf101"] if config.data == "ucf101" else [])]
    return [] if chosen.tier == "0" else [file for name in networks for file in extractors.FILES.get(name, ())]


def build(config: RunConfig) -> Diffusability:
    """The suite.

    Raises:
        ValueError: an invalid or unused setting
        ImportError: the tier trains a model and accelerate is not installed
    """
    suite = Diffusability(config, build_settings(Options, config.options))
    if suite.tier.shape is not None:
        import accelerate  # noqa: F401 (if it is missing, the run stops now and not after hours of encoding)
    return suite
