"""Diffusability of one VAE, from windows of videos to a trained Latte.

Latents and checkpoints are stored in folders below `runs`, named by hashes of everything that changes them.  A run that was
stopped therefore loses at most what followed its last checkpoint, and a finished training is never repeated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from vaebench.device_idle import StepMeter
from vaebench.distributed import rank_and_world
from vaebench.fingerprint import code, fingerprint
from vaebench.generation import latent_cache
from vaebench.generation import windows as windows_module
from vaebench.generation.latent_cache import Cache
from vaebench.generation.latte import model as model_module
from vaebench.generation.latte import train as train_module
from vaebench.generation.latte.model import Latte, LatteConfig, load
from vaebench.generation.latte.train import TrainConfig, newest, train
from vaebench.generation.windows import Window, windows
from vaebench.progress import Progress
from wfvae.processes import check_processes

if TYPE_CHECKING:
    from vaebench.data import VideoSource
    from vaebench.vae import VAESpec, VideoVAE

MOST_EVALUATED = 512  # windows for the denoising loss


@dataclass(frozen=True)
class Plan:
    """What the diffusion model is trained on, and how."""

    mode: str  # of the VAE
    dtype: str  # of the VAE
    frames: int  # per window
    size: int  # pixels
    interval: int
    resize: str  # one of `vaebench.generation.resizes.NAMES`
    windows: int  # per clip
    flips: bool
    classes: bool  # whether the model is conditional on the labels of the clips
    clips: int | None  # use only the first N clips
    scaling: str  # "measured" or "published"
    held_out: float  # fraction of the scenes that the model is evaluated on and not trained on; 0: evaluate on all
    seed: int
    shape: tuple[int, int, int] | None  # depth, hidden size and heads of the Latte; None: no training
    train: TrainConfig


@dataclass
class DiffusionRun:
    """The latents of one VAE and the diffusion model trained on them.

    The members are listed in the order of the computation.  Each is computed from those above it, when it is first read:

    1. `windows`         the clips that the model learns: functions that load pixels, nothing is decoded yet
    2. `latents`         every window encoded once, cached on disk under `latents_key`, and normalized as the plan says
    3. `held_out`        the clips of some scenes, which the model is not trained on
    4. `training_set`    the latents of the other clips
    5. `evaluation_set`  the latents for the denoising loss, of the clips held out
    6. `model_config`    the shape of the Latte that fits the latents
    7. `trained`         the Latte after its last step, with its checkpoints in `training_folder`

    The suite computes the scores: of 2 latent statistics, of 5 and 7 the denoising loss, of samples from 7 FVD, KVD and IS.
    """

    vae: VideoVAE
    digest: str  # of the VAE's weights and of the config file that it is built from
    code: Sequence[ModuleType | str]  # the modules of the VAE and of the source
    source: VideoSource
    plan: Plan
    runs: Path
    device: torch.device
    may_train: bool = True  # False in all shards of `shard=i/n` but the first
    # of the idle share of the device: over steps of the training; without one, over windows that are encoded or real clips
    meter: StepMeter = field(default_factory=lambda: StepMeter(None))
    model: Latte | None = None  # the trained model, once it is read: its file is four times as large

    @property
    def spec(self) -> VAESpec:
        return self.vae.spec

    @cached_property
    def windows(self) -> list[Window]:
        """The windows that the model learns, clip by clip."""
        plan = self.plan
        return windows(
            self.source,
            frames=plan.frames,
            interval=plan.interval,
            resize=plan.resize,
            per_clip=plan.windows,
            flips=plan.flips,
            seed=plan.seed,
            clips=plan.clips,
        )

    @cached_property
    def classes(self) -> list[str]:
        """The labels in the order of their numbers; none for an unconditional model."""
        return sorted({window.label for window in self.windows}) if self.plan.classes else []

    @cached_property
    def latents_key(self) -> str:
        """A hash of everything that changes the latents."""
        plan = asdict(self.plan)
        names = (
            "mode",
            "dtype",
            "frames",
            "size",
            "interval",
            "resize",
            "windows",
            "flips",
            "classes",
            "clips",
            "seed",
        )
        facts = {name: plan[name] for name in names}
        return fingerprint(
            {
                "vae": [asdict(self.spec), self.digest],
                "data": [self.source.identity, [clip.stamp for clip in self.source]],
                "windows": facts,
                "code": code([*self.code, windows_module, latent_cache]),
            }
        )

    @cached_property
    def latents(self) -> Cache:
        """The latents of all windows, normalized; missing ones are encoded first, shared out over the processes."""
        rank, world = rank_and_world()
        folder = self.runs / f"latents-{self.latents_key}"
        meter = self.meter if self.plan.shape is None else None
        cache = latent_cache.encode(
            self.vae,
            self.windows,
            folder,
            device=self.device,
            classes=self.classes,
            rank=rank,
            world=world,
            meter=meter,
        )
        published = self.plan.scaling == "published"
        cache.scaling = latent_cache.published(self.spec) if published else latent_cache.measured(cache)
        return cache

    @cached_property
    def held_out(self) -> set[str]:
        """The ids of the clips that the model is not trained on: all clips of a random selection of scenes."""
        scenes = list(dict.fromkeys(window.scene for window in self.latents.windows))
        count = min(len(scenes) - 1, max(1, round(self.plan.held_out * len(scenes)))) if self.plan.held_out else 0
        chosen = set(random.Random(f"{self.plan.seed} held out").sample(scenes, count))
        return {window.clip for window in self.latents.windows if window.scene in chosen}

    @cached_property
    def training_set(self) -> Cache:
        """The latents of all clips that are not held out."""
        return self.latents.only(self.latents.of({window.clip for window in self.latents.windows} - self.held_out))

    @cached_property
    def evaluation_set(self) -> Cache:
        """At most MOST_EVALUATED latents for the denoising loss: unflipped, of the clips held out, or of all if none is."""
        clips = self.held_out or {window.clip for window in self.latents.windows}
        rows = self.latents.of(clips, flipped=False)
        return self.latents.only([rows[i] for i in latent_cache.some_rows(len(rows), MOST_EVALUATED)])

    @cached_property
    def model_config(self) -> LatteConfig:
        """The Latte: patches of 2 if that leaves 16 or more tokens per side at 256 pixels, otherwise patches of 1."""
        assert self.plan.shape is not None
        depth, hidden, heads = self.plan.shape
        channels, frames, height, width = self.latents.take([0]).mean.shape[1:]
        halved = self.spec.spatial_compression <= 8 and height % 2 == width % 2 == 0
        patch = 2 if halved else 1
        return LatteConfig(channels, frames, height, width, patch, depth, hidden, heads, len(self.classes))

    @property
    def training_folder(self) -> Path:
        """The folder of the training: its checkpoints, and samples from them."""
        facts = {
            "latents": self.latents_key,
            "scaling": self.plan.scaling,
            "held_out": sorted(self.held_out),
            "latte": asdict(self.model_config),
            "train": {**asdict(self.plan.train), "checkpoint_every": None, "micro_batch": None},
            "code": code([model_module, train_module]),
            "device": self.device.type,  # a GPU trains in bfloat16, a CPU in float32
        }
        return self.runs / f"latte-{fingerprint(facts)}"

    def _finished(self) -> Path | None:
        last = newest(self.training_folder)
        return last if last and int(last.stem) == self.plan.train.steps else None

    def trained(self, preview: Callable[[Latte, Path], None]) -> Latte:
        """The EMA after the last step.  If it does not exist, all processes of the run train it together first.

        Args:
            preview: called as `preview(ema, file without suffix)` on the main process at every checkpoint, to write samples

        Raises:
            ValueError: the model is not trained and this shard may not train it
        """
        if self.model is None:
            if self._finished() is None:
                self._train(preview)
            last = self._finished()
            assert last is not None
            self.model = load(last, self.model_config).to(self.device).eval()
        return self.model

    def _train(self, preview: Callable[[Latte, Path], None]) -> None:
        from accelerate import Accelerator

        if not self.may_train:
            raise ValueError(
                "the model of this VAE is not trained yet: run shard=0/n first, which trains it, or start all processes with "
                "torchrun, so that they train together"
            )
        cpu = self.device.type == "cpu"
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # without a launcher, accelerate uses the current device
        accelerator = Accelerator(cpu=cpu, mixed_precision="no" if cpu else "bf16")
        check_processes(accelerator.num_processes)
        config, folder = self.plan.train, self.training_folder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = Latte(self.model_config)
        last = newest(folder, warn=False)
        done = int(last.stem) if last else 0
        main = accelerator.is_main_process
        title = f"train on {self.spec.name}"
        with Progress(title, config.steps, "steps", done=done, quiet=not main) as progress:
            reports = train(model, self.training_set, config, accelerator, folder)
            for report in self.meter.steps(reports, config.steps - done):
                if report.step % max(1, config.steps // 100) == 0:  # reading the loss synchronizes the device
                    progress.show(f"mse={report.mse.item():.4f}")
                progress.update()
                if main and report.step % config.checkpoint_every == 0 and report.step < config.steps:
                    preview(report.ema, folder / f"samples-{report.step:07d}")
