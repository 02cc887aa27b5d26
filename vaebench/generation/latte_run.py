"""One VAE as the diffusability suite holds it: its latents, and the Latte that was trained on them.

Latents and checkpoints lie in folders of their own below `runs`, named by hashes of all that decides them, so a run that was
stopped loses at most what came after its last checkpoint, and a finished training is never repeated.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from vaebench.fingerprint import code, fingerprint
from vaebench.generation import latent_cache
from vaebench.generation import windows as windows_module
from vaebench.generation.latent_cache import Cache
from vaebench.generation.latte import model as model_module
from vaebench.generation.latte import train as train_module
from vaebench.generation.latte.model import Latte, LatteConfig, load
from vaebench.generation.latte.train import TrainConfig, newest, train
from vaebench.generation.windows import Window, windows
from vaebench.machine import rank_and_world
from wfvae.processes import check_processes

if TYPE_CHECKING:
    from vaebench.data import VideoSource
    from vaebench.vae import VAESpec, VideoVAE

GRID = 512  # windows on which the denoising loss is taken, at most


@dataclass(frozen=True)
class Plan:
    """What is learned of a VAE, and how."""

    mode: str  # how the VAE is run
    dtype: str  # in which it is run
    frames: int  # of a window
    size: int  # pixels
    interval: int
    resize: str  # one of `vaebench.generation.resizes.NAMES`
    windows: int  # of every clip
    flips: bool
    classes: bool  # conditional on the clips' labels
    clips: int | None  # the first so many alone
    scaling: str  # "measured" or "published"
    held_out: float  # share of the scenes that are not learned, but measured
    seed: int
    shape: tuple[int, int, int] | None  # depth, hidden and heads of the Latte; None: nothing is trained
    train: TrainConfig


@dataclass
class Subject:
    """A VAE with its latents and its trained model, each made when it is first asked for."""

    vae: VideoVAE
    digest: str  # of the VAE's weights, and of the config beside them that it is built from
    code: Sequence[ModuleType | str]  # the modules of the VAE and of the source
    source: VideoSource
    plan: Plan
    runs: Path
    device: torch.device
    may_train: bool = True  # False in a hand-numbered shard but the first
    model: Latte | None = None  # once it is trained: its file holds four times as much, and is read once

    @property
    def spec(self) -> VAESpec:
        return self.vae.spec

    @cached_property
    def windows(self) -> list[Window]:
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
        return sorted({window.label for window in self.windows}) if self.plan.classes else []

    @cached_property
    def key(self) -> str:
        """A hash of what decides the latents."""
        plan = asdict(self.plan)
        some = ("mode", "dtype", "frames", "size", "interval", "resize", "windows", "flips", "classes", "clips", "seed")
        facts = {name: plan[name] for name in some}
        return fingerprint(
            {
                "vae": [asdict(self.spec), self.digest],
                "data": [self.source.identity, [clip.stamp for clip in self.source]],
                "windows": facts,
                "code": code([*self.code, windows_module, latent_cache]),
            }
        )

    @cached_property
    def cache(self) -> Cache:
        """All latents, standardised as the plan says."""
        rank, world = rank_and_world()
        folder = self.runs / f"latents-{self.key}"
        cache = latent_cache.encode(
            self.vae, self.windows, folder, device=self.device, classes=self.classes, rank=rank, world=world
        )
        published = self.plan.scaling == "published"
        cache.scaling = latent_cache.published(self.spec) if published else latent_cache.measured(cache)
        return cache

    @cached_property
    def held_out(self) -> set[str]:
        """The clips that are not learned, nor is any other of their scenes."""
        scenes = list(dict.fromkeys(window.scene for window in self.cache.windows))
        count = min(len(scenes) - 1, max(1, round(self.plan.held_out * len(scenes)))) if self.plan.held_out else 0
        chosen = set(random.Random(f"{self.plan.seed} held out").sample(scenes, count))
        return {window.clip for window in self.cache.windows if window.scene in chosen}

    @cached_property
    def learned(self) -> Cache:
        return self.cache.only(self.cache.of({window.clip for window in self.cache.windows} - self.held_out))

    @cached_property
    def grid(self) -> Cache:
        """Where the denoising loss is taken: unflipped windows of the clips held out, or of all where none is."""
        clips = self.held_out or {window.clip for window in self.cache.windows}
        rows = self.cache.of(clips, flipped=False)
        return self.cache.only([rows[i] for i in latent_cache.some_rows(len(rows), GRID)])

    @cached_property
    def latte(self) -> LatteConfig:
        """Patches of 2 where that leaves 16 tokens a side or more at 256 pixels, else of 1: wide compression, small latents."""
        assert self.plan.shape is not None
        depth, hidden, heads = self.plan.shape
        channels, frames, height, width = self.cache.take([0]).mean.shape[1:]
        halved = self.spec.spatial_compression <= 8 and height % 2 == width % 2 == 0
        patch = 2 if halved else 1
        return LatteConfig(channels, frames, height, width, patch, depth, hidden, heads, len(self.classes))

    @property
    def folder(self) -> Path:
        """Of the training: checkpoints, and samples on the way."""
        facts = {
            "latents": self.key,
            "scaling": self.plan.scaling,
            "held_out": sorted(self.held_out),
            "latte": asdict(self.latte),
            "train": {**asdict(self.plan.train), "checkpoint_every": None, "micro_batch": None},
            "code": code([model_module, train_module]),
            "device": self.device.type,  # a GPU trains in bf16, a processor in float32
        }
        return self.runs / f"latte-{fingerprint(facts)}"

    def _finished(self) -> Path | None:
        last = newest(self.folder)
        return last if last and int(last.stem) == self.plan.train.steps else None

    def trained(self, look: Callable[[Latte, Path], None]) -> Latte:
        """The EMA after the last step; trains first where that is not done, all processes of the run together.

        `look(ema, file without ending)` is called on the main process at every checkpoint, for samples on the way.
        """
        if self.model is None:
            if self._finished() is None:
                self._train(look)
            last = self._finished()
            assert last is not None
            self.model = load(last, self.latte).to(self.device).eval()
        return self.model

    def _train(self, look: Callable[[Latte, Path], None]) -> None:
        from accelerate import Accelerator

        if not self.may_train:
            raise ValueError(
                "the model of this VAE is not trained yet: run shard=0/n first, which trains it, or use torchrun, "
                "under which all processes train together"
            )
        cpu = self.device.type == "cpu"
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # alone, accelerate takes the current one
        accelerator = Accelerator(cpu=cpu, mixed_precision="no" if cpu else "bf16")
        check_processes(accelerator.num_processes)
        config, folder = self.plan.train, self.folder
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = Latte(self.latte)
        last = newest(folder, warn=False)
        done = int(last.stem) if last else 0
        main = accelerator.is_main_process
        bar = tqdm(
            total=config.steps,
            initial=done,
            desc=f"train on {self.spec.name}",
            leave=False,
            disable=None if main else True,
        )
        with bar:
            for report in train(model, self.learned, config, accelerator, folder):
                bar.update()
                if report.step % max(1, config.steps // 100) == 0:  # reading the loss waits for the device
                    bar.set_postfix(mse=f"{report.mse.item():.4f}")
                if main and report.step % config.checkpoint_every == 0 and report.step < config.steps:
                    look(report.ema, folder / f"samples-{report.step:07d}")
