"""Is this latent space easy to generate in?  Statistics of latents, and a Latte trained on them and sampled from.

    tier=0      latent statistics alone: minutes, no training
    tier=1      Latte-B, 20,000 steps: about one hour of a large GPU
    tier=2      the WF-VAE paper's Table 2 (arXiv 2411.17459): Latte-L, 100,000 steps, 2,048 videos
    tier=smoke  a toy Latte on 64 x 64 pixels, a minute on a CPU: proves that everything runs, and says nothing of a VAE

A case is the latents, the training, or some of the reals or samples, so that sampling is shared out over processes
(`shard=i/n`) and everything that is finished stays finished.  The published protocol's accidents are switches, each part of
the setting's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaebench import plugins, weights
from vaebench.config import RunConfig
from vaebench.generation import latent_statistics, sampling
from vaebench.generation.latte.diffusion import linear
from vaebench.generation.latte.model import SIZES, Latte
from vaebench.generation.latte.train import TrainConfig, denoising_loss, grid_steps
from vaebench.generation.latte_run import Plan, Subject
from vaebench.generation.sampling import FILES, INCEPTION, Sampling, to_frames
from vaebench.generation.windows import windows
from vaebench.machine import pick_device, rank_and_world
from vaebench.options import DiffusabilityOptions as Options
from vaebench.records import Score, by_key, interval
from vaebench.settings import build as build_settings
from vaebench.store import Store
from vaebench.suite import Case, Suite
from vaebench.vae import VAESpec, reconstruct
from vaebench.video import to_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.suite import Candidate, Statistics

CHUNK = 32  # reals or samples of one case
SHOWN = 8  # samples of the record's picture and of the video beside the checkpoints


@dataclass(frozen=True)
class Tier:
    label: str  # in the setting's name
    shape: tuple[int, int, int] | None  # depth, hidden, heads
    train: TrainConfig
    sampling: Sampling
    samples: int
    windows: int  # of every video, and as many flipped where the data is flipped
    held_out: float  # share of the scenes; the paper learns all of them
    size: int = 0  # pixels; 0: as asked for


TIERS = {
    "0": Tier("tier0", None, TrainConfig(), Sampling("250", "ddpm", 1.0), 0, 1, 0.0),
    "1": Tier(
        "tier1",
        SIZES["B"],
        TrainConfig(steps=20_000, batch=64, learning_rate=2e-4, warmup=500, ema_decay=0.999, checkpoint_every=1_000),
        Sampling("50", "ddim", 4.0),
        2048,
        4,
        1 / 16,
    ),
    "2": Tier("tier2", SIZES["L"], TrainConfig(), Sampling("250", "ddpm", 7.0), 2048, 4, 0.0),
    "smoke": Tier(
        "smoke-test",
        (4, 128, 4),
        TrainConfig(steps=150, batch=8, learning_rate=2e-3, warmup=20, ema_decay=0.97, checkpoint_every=75),
        Sampling("20", "ddim", 1.0),
        8,
        4,
        0.25,
        64,
    ),
}


class Diffusability(Suite[Subject]):
    name = "diffusability"

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        super().__init__(config)
        self.chosen = chosen
        self.tier = _adjusted(TIERS[chosen.tier], config, chosen)
        self.size = self.tier.size or config.size
        self.device = pick_device(config.device)
        self.extractors, self.absent = _extractors(config, chosen, self.tier, self.device)
        tails = [sampling.tail(name) for name in dict.fromkeys(chosen.features)]
        self.columns = ["denoising_loss", "gaussian_loss", *(f"{score}{tail}" for tail in tails for score in HEADLINES)]
        self.columns += [*INCEPTION, "effective_rank", "dead_channels", "slope_space", "slope_time"]
        self.identity = {
            **asdict(chosen),
            **{key: getattr(config, key) for key in ("clips", "mode", "dtype", "seed")},
            "tier": asdict(self.tier),
            "size": self.size,
            "files": {file: weights.digest(weights.path(file)) for name in self.extractors for file in FILES[name]},
        }

    def setting(self, source: VideoSource) -> str:
        chosen, config = self.chosen, self.config
        parts = [self.tier.label, source.identity["name"], f"{self.size}px"]
        parts += [f"first{config.clips}"] if config.clips else []
        default = Options()
        parts += [
            f"{key.replace('_', '-')}-{getattr(chosen, key)}"
            for key in (*INTEGERS, "guidance", "guided_channels", "scaling", *SWITCHES, "real_stride")
            if getattr(chosen, key) != getattr(default, key)
        ]
        parts += [f"features-{'+'.join(chosen.features) or 'none'}"] if chosen.features != default.features else []
        parts += [choice for choice in (config.dtype, config.mode) if choice]
        parts += [f"seed{config.seed}"] if config.seed else []
        return "-".join(dict.fromkeys(parts))

    def open(self, candidate: Candidate) -> Subject:
        config = self.config
        vae = candidate.load(config.mode, device=self.device, dtype=getattr(torch, config.dtype or "float32"))
        plan = self._plan(vae.spec)
        digest = f"{candidate.weights} {candidate.config_sha256}"
        code = [*candidate.code, plugins.find("data", config.data)]
        index = config.shard.partition("/")[0]
        may_train = config.shard == "auto" or index == "0"
        return Subject(vae, digest, code, self._source(plan), plan, Path(config.runs), self.device, may_train)

    def _plan(self, spec: VAESpec) -> Plan:
        chosen, tier = self.chosen, self.tier
        frames = chosen.clip_frames or spec.fit(sampling.SCORED)
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
            flips=self.config.data == "ucf101",  # as Latte: UCF-101 is flipped, SkyTimelapse is not
            classes=self.config.data == "ucf101",
            clips=self.config.clips,
            scaling=chosen.scaling,
            held_out=tier.held_out,
            seed=self.config.seed,
            shape=tier.shape,
            train=tier.train,
        )

    def _source(self, plan: Plan) -> VideoSource:
        """The run's source, at the length and the size of this suite's windows."""
        span = (plan.frames - 1) * max(plan.interval, self.chosen.real_stride) + 1
        config = replace(self.config, num_frames=span, size=plan.size)
        source: VideoSource = plugins.find("data", config.data).build(config)
        return source

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        if self.tier.shape is None:
            return [Case("latents", params={"kind": "latents"})]
        videos = sum(1 for _ in source)
        reals = min(self.tier.samples, self.config.clips or videos, videos) if self.extractors else 0
        # those that need the model come first: the processes train together, and none may keep the others waiting
        learned = [Case("denoising", params={"kind": "denoising"}), *_chunks("samples", self.tier.samples)]
        world = rank_and_world()[1] if self.config.shard == "auto" else 1
        if world > len(learned):  # a process without one of them would not take part
            raise ValueError(
                f"{len(learned)} cases need the trained model, so {world} processes cannot train it together; "
                f"start at most {len(learned)}, or raise samples"
            )
        return [Case("latents", params={"kind": "latents"}), *learned, *_chunks("reals", reals)]

    def measure(self, vae: Subject, case: Case) -> Statistics:
        kind = case.params["kind"]
        if kind == "latents":
            return self._latents(vae)
        if kind == "denoising":
            errors = denoising_loss(self._trained(vae), vae.grid, range(len(vae.grid)), seed=self.config.seed)
            scenes = np.unique([window.scene for window in vae.grid.windows], return_inverse=True)[1]
            return {"errors": errors.numpy(), "scenes": scenes, "held_out": np.array(len(vae.held_out))}
        return (self._reals if kind == "reals" else self._samples)(vae, case.params["numbers"])

    def _latents(self, subject: Subject) -> Statistics:
        cache = subject.cache
        assert cache.scaling is not None
        kept = latent_statistics.statistics(cache, _grid_snr())
        kept |= {"shift": cache.scaling.shift.flatten().numpy(), "scale": cache.scaling.scale.flatten().numpy()}
        left_out = [f"{window}: {reason}" for window, reason in cache.left_out.items()]
        return {
            **kept,
            "left_out": np.array(left_out, dtype=np.str_),
            "shape": np.array(cache.take([0]).mean.shape[1:]),
        }

    def _trained(self, subject: Subject) -> Latte:
        return subject.trained(partial(self._look, subject))

    def _look(self, subject: Subject, ema: Latte, file: Path) -> None:
        """Four samples of a model in training, as PNG and as video beside its checkpoints."""
        from PIL import Image

        rows = self._generated(subject, ema, range(4))
        sheet = sampling.picture(rows).transpose(0, 2, 1, 3, 4)  # (videos, H, frames, W, 3)
        Image.fromarray(sheet.reshape(4 * self.size, -1, 3)).save(file.with_suffix(".png"))
        sampling.write_video(file.with_suffix(".mp4"), rows)

    def _generated(self, subject: Subject, model: Latte, numbers: range) -> list[torch.Tensor]:
        assert subject.cache.scaling is not None
        return sampling.generate(
            model,
            subject.vae,
            subject.cache.scaling,
            numbers,
            self.tier.sampling,
            seed=self.config.seed,
            channels=self.chosen.guided_channels,
        )

    @torch.inference_mode()
    def _reals(self, subject: Subject, numbers: range) -> Statistics:
        """Features of real clips and of their reconstructions, one window of each video."""
        plan = subject.plan
        stride = self.chosen.real_stride or plan.interval
        found = windows(
            subject.source,
            frames=plan.frames,
            interval=stride,
            resize=plan.resize if self.chosen.real_resize == "learned" else self.chosen.real_resize,
            per_clip=1,
            flips=False,
            seed=plan.seed,
            clips=plan.clips,
        )
        readable = {window.id for window in subject.cache.windows}
        found = [window for window in found if window.id in readable]
        if self.chosen.real_selection == "random":
            order = np.random.default_rng(plan.seed).permutation(len(found))
            found = [found[i] for i in order]
        kept: dict[str, list[NDArray]] = {}
        for window in found[numbers.start : numbers.stop]:
            video = to_model(window.load().to(self.device)).unsqueeze(0)
            rebuilt, _ = reconstruct(subject.vae, video)
            for kind, frames in (("real", video), ("rebuilt", rebuilt)):
                scored = to_frames(frames, self.chosen.frame_codec)
                for name, features in self.extractors.items():
                    kept.setdefault(f"{kind} {name}", []).append(features(scored))
        return {name: np.stack(values) for name, values in kept.items()}

    def _samples(self, subject: Subject, numbers: range) -> Statistics:
        videos = self._generated(subject, self._trained(subject), numbers)
        kept: dict[str, list[NDArray]] = {f"fake {name}": [] for name in self.extractors}
        for video in videos:
            scored = to_frames(video, self.chosen.frame_codec)
            for name, features in self.extractors.items():
                kept[f"fake {name}"].append(features(scored))
        stacked = {name: np.stack(values) for name, values in kept.items()}
        if numbers.start != 0:
            return stacked
        how = self.tier.sampling
        name = f"samples-{how.method}{how.steps}-guidance{how.guidance:g}-{self.chosen.guided_channels}.mp4"
        sampling.write_video(subject.folder / name, videos[:SHOWN])
        kept_video = np.array(f"{subject.folder.name}/{name}")
        return {**stacked, "frames": sampling.picture(videos[:SHOWN]), "video": kept_video}

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        scores: dict[str, Score] = {}
        if "denoising" in statistics:
            scores["denoising_loss"] = self._denoising(**statistics["denoising"])
        ddof = 0 if self.chosen.covariance == "biased" else 1
        store = Store(Path(self.config.runs) / "standard_errors")
        for name in self.extractors:
            sets = {kind: _joined(statistics, f"{kind} {name}") for kind in ("real", "rebuilt", "fake")}
            if name == "c3d_ucf101":
                scores |= sampling.inception_scores(sets["fake"], sets["real"]) if len(sets["fake"]) else {}
            elif all(len(rows) for rows in sets.values()):
                scores |= sampling.distances(name, sets["real"], sets["rebuilt"], sets["fake"], ddof=ddof, store=store)
        return scores | (_of_latents(statistics["latents"]) if "latents" in statistics else {})

    def _denoising(self, errors: NDArray, scenes: NDArray, held_out: NDArray) -> Score:
        by_window = errors.mean(0)
        stderr, low, high = interval(_by_scene(by_window, scenes))
        unseen = (
            f"{held_out} videos that were not learned" if held_out else "videos that were learned, none was held out"
        )
        toy = "SMOKE TEST, a toy model that says nothing of the VAE; " if self.chosen.tier == "smoke" else ""
        note = (
            f"{toy}mean squared error of the noise at {len(errors)} log SNRs, of {unseen}; read it beside gaussian_loss, what "
            "a linear denoiser reaches: latent spaces differ in how much there is to know; the interval is over "
            f"{len(np.unique(scenes))} scenes, as windows of one scene are not independent"
        )
        mean, n = float(by_window.mean()), len(by_window)
        return Score(mean, "", "lower", n, stderr, low, high, note=note, metric="denoising_loss")

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        """The first samples, four frames each: a row a sample."""
        first = next((kept["frames"] for kept in statistics.values() if "frames" in kept), None)
        return {} if first is None else {"samples": first}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        latents = {name: value.tolist() for name, value in statistics.get("latents", {}).items()}
        errors = statistics["denoising"]["errors"] if "denoising" in statistics else np.empty((0, 0))
        about = {"log_snr": np.log(_grid_snr()).tolist(), "denoising_loss": [float(row.mean()) for row in errors]}
        video = next((str(kept["video"]) for kept in statistics.values() if "video" in kept), None)
        return {"smoke_test": self.chosen.tier == "smoke", "latents": latents, "samples_video": video, **about}


INTEGERS = ("steps", "batch", "samples", "windows", "clip_frames", "interval")
HEADLINES = ("fvd16", "fvd16_floor", "fvd16_vs_rebuilt", "kvd16")  # distances that a printed table shows
SWITCHES = ("real_selection", "covariance", "frame_codec", "frame_resize", "real_resize")  # of the published protocols
DISTANCES = ("fvd16", "fvd16_vs_rebuilt", "rfvd16", "kvd16", "kvd16_vs_rebuilt")
OF_LATENTS = ("tier", "windows", "clip_frames", "interval", "scaling", "frame_resize")  # what tier 0 reads


def _adjusted(tier: Tier, config: RunConfig, chosen: Options) -> Tier:
    """The tier with what was asked for in its place."""
    train = replace(
        tier.train,
        steps=chosen.steps or tier.train.steps,
        batch=chosen.batch or tier.train.batch,
        micro_batch=chosen.micro_batch,
        clip_from=20_000 if config.data == "skytimelapse" else tier.train.clip_from,
        seed=tier.train.seed + config.seed,
    )
    guidance = chosen.guidance or tier.sampling.guidance
    sampling = replace(tier.sampling, guidance=guidance if config.data == "ucf101" else 1.0)  # needs classes
    samples, count = chosen.samples or tier.samples, chosen.windows or tier.windows
    return replace(tier, train=train, sampling=sampling, samples=samples, windows=count)


def _extractors(
    config: RunConfig, chosen: Options, tier: Tier, device: torch.device
) -> tuple[dict[str, sampling.Extractor], dict[str, str]]:
    """Those that can be had here, and for each score that cannot, why."""
    found: dict[str, sampling.Extractor] = {}
    absent: dict[str, str] = {}
    if tier.shape is None:
        return found, absent
    for name in dict.fromkeys(chosen.features):
        tail = sampling.tail(name)
        try:
            found[name] = sampling.extractor(name, device)
        except weights.Unavailable as reason:
            absent |= {f"{score}{tail}": f"not available: {reason}" for score in DISTANCES}
    if config.data != "ucf101":
        return found, absent | dict.fromkeys(
            INCEPTION, "its classifier knows the classes of UCF-101 alone (data=ucf101)"
        )
    try:
        found["c3d_ucf101"] = sampling.extractor("c3d_ucf101", device)
    except weights.Unavailable as reason:
        absent |= dict.fromkeys(INCEPTION, f"not available: {reason}")
    return found, absent


def _chunks(kind: str, count: int) -> list[Case]:
    """`count` videos in cases of CHUNK."""
    numbers = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    return [Case(f"{kind} {n.start}-{n.stop - 1}", params={"kind": kind, "numbers": n}) for n in numbers]


def _grid_snr() -> NDArray:
    """Of the denoising loss's grid, from the noisiest to the cleanest."""
    schedule = linear()
    kept = schedule.alphas_cumprod[grid_steps(schedule)].numpy()
    return kept / (1 - kept)


def _joined(statistics: Mapping[str, Statistics], name: str) -> NDArray:
    found = [kept[name] for kept in statistics.values() if name in kept]
    return np.concatenate(found) if found else np.empty((0, 1))


def _by_scene(values: NDArray, scenes: NDArray) -> NDArray:
    """(windows,) values and scene numbers -> (scenes,) one value each, independent ones, with the mean of `values` as their mean.

    Where all scenes have equally many windows, these are the means of the scenes.
    """
    mean = values.mean()
    deviations = np.bincount(scenes, weights=values - mean)
    return mean + deviations * len(deviations) / len(values)


def _of_latents(kept: Statistics) -> dict[str, Score]:
    n, std = int(kept["windows"]), kept["channel_std"]
    space = latent_statistics.slope(*kept["space"])
    frames = np.arange(1, len(kept["time"]))
    time = latent_statistics.slope(frames, kept["time"][1:])
    said = [] if n >= 256 else [f"of {n} windows; 256 or more say it well"]
    if lost := len(kept.get("left_out", ())):
        said.append(
            f"{lost} windows that could not be read are left out; `extra.latents.left_out` of the record says why"
        )
    noise = float(kept["linear_loss"].mean())
    dead = float((std < latent_statistics.DEAD * std.max()).sum())
    spread = _spread(std)
    return by_key(
        [
            Score(noise, "", "neither", n, note="; ".join(said), metric="gaussian_loss"),
            Score(float(kept["effective_rank"]), "", "neither", n, metric="effective_rank"),
            Score(spread, "", "neither", n, note="largest over smallest deviation of a channel", metric="std_spread",
                  status="undefined" if spread is None else "ok"),
            Score(dead, "", "lower", n, metric="dead_channels"),
            Score(None, "nats", "neither", n, note="the VAE gives no posterior variance", metric="kl", status="unavailable")
            if "kl" not in kept else Score(float(kept["kl"]), "nats", "neither", n, metric="kl"),
            *(
                Score(slope, "", "neither", n, metric=name) if slope is not None
                else Score(None, "", "neither", n, note="needs 3 frequencies", metric=name, status="undefined")
                for name, slope in (("slope_space", space), ("slope_time", time))
            ),
        ]
    )  # fmt: skip


def _spread(std: NDArray) -> float | None:
    return float(std.max() / std.min()) if std.min() > 0 else None


def weight_files(config: RunConfig) -> list[str]:
    """Names of the weight files that the networks of a run read."""
    chosen = build_settings(Options, config.options)
    networks = [*chosen.features, *(["c3d_ucf101"] if config.data == "ucf101" else [])]
    return [] if chosen.tier == "0" else [file for name in networks for file in FILES.get(name, ())]


def build(config: RunConfig) -> Diffusability:
    """ValueError for a choice that does not exist, or a setting that this suite decides by itself."""
    chosen = build_settings(Options, config.options)
    networks = [name for name in FILES if name != "c3d_ucf101"]
    if unknown := set(chosen.features) - set(networks):
        raise ValueError(f"no features {', '.join(sorted(unknown))} (there are: {', '.join(networks)})")
    if any(getattr(chosen, key) < 0 for key in (*INTEGERS, "micro_batch", "guidance", "real_stride")):
        raise ValueError("counts and guidance are not negative")
    if chosen.interval < 1:
        raise ValueError("the interval is at least 1")
    if chosen.tier != "0" and 0 < chosen.clip_frames < sampling.SCORED:
        raise ValueError(
            f"clip_frames={chosen.clip_frames}: FVD16 and IS look at {sampling.SCORED} frames; set as many"
        )
    _refuse_idle(config, chosen)
    resizes = {key: getattr(chosen, key) for key in ("frame_resize", "real_resize")}
    changed = [f"{key}={value}" for key, value in resizes.items() if value != getattr(Options(), key)]
    if changed and config.data not in ("ucf101", "skytimelapse"):
        raise ValueError(f"{' '.join(changed)} is how ucf101 and skytimelapse are resized, not data={config.data}")
    default, size = RunConfig(), TIERS[chosen.tier].size
    if size and config.size not in (default.size, size):
        raise ValueError(f"tier={chosen.tier} is of {size} pixels and does not use size={config.size}")
    for key, instead in {"num_frames": "clip_frames", "posterior": "nothing", "protocol": "its switches"}.items():
        if getattr(config, key) != getattr(default, key):
            raise ValueError(
                f"suite diffusability takes no {key}: set {instead} (`vaebench run --suite diffusability -h`)"
            )
    if chosen.tier != "0":
        import accelerate  # noqa: F401 (where it is missing that is said now, not after hours of encoding)
    return Diffusability(config, chosen)


def _refuse_idle(config: RunConfig, chosen: Options) -> None:
    """ValueError for an option that would change nothing but the setting's name."""
    idle: dict[str, str] = {}
    if config.data != "ucf101":
        why = f"guidance is of a model with classes, and data={config.data} has none"
        idle |= {"guidance": why, "guided_channels": why}
    if chosen.tier == "0":
        why = "tier=0 trains and samples nothing"
        idle |= {option.name: why for option in fields(Options) if option.name not in OF_LATENTS}
    for key, why in idle.items():
        if getattr(chosen, key) != getattr(Options(), key):
            raise ValueError(f"{key}={getattr(chosen, key)} would change nothing: {why}")
