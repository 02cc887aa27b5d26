"""The settings of `vaebench train`.  This module does not import torch, so `vaebench train --help` is fast."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vaebench import settings
from vaebench.settings import setting
from vaebench.training.recipes import read_recipe
from wfvae.config import WFVAEConfig
from wfvae.objective import LCRConfig, LMRConfig, LossConfig
from wfvae.schedule import TrainerConfig


@dataclass(frozen=True)
class TrainingData:
    """The training clips and their augmentation; the defaults are those of the paper's stage one."""

    root: str = setting("", "folder with videos and uncompressed shards (.tar), searched to any depth")
    manifest: str = setting(
        "",
        "CSV of the files to train on, as `vaebench manifest` writes; it pins their sha256, `label` names the scene, "
        "`start` is unused",
    )
    index: str = setting("", 'file that stores the list of videos; "" = files.csv in the folder of the run')
    num_frames: int = setting(25, "frames per clip")
    size: int = setting(256, "height and width of the crop in pixels")
    shapes: list[str] = setting(
        [], "shapes FRAMESxSIZE such as 33x64, one drawn for each batch; [] = num_frames and size for all batches"
    )
    short: int = setting(0, "short side in pixels to which frames are resized before cropping; 0 = size")
    zoom: float = setting(
        1.0, "above 1: random crops up to this factor larger than size, limited by short, and resized to size"
    )
    crop: Literal["center", "random"] = setting("center", "position of the crop")
    stride: int = setting(1, "take every N-th frame")
    dynamic_fps: bool = setting(False, "draw the stride of each clip from 1..stride")
    augment: Literal["none", "flip", "strong"] = setting(
        "none", "augmentation; strong: flips, rotation, time reversal, colors"
    )
    by_scene: bool = setting(
        False, "draw a scene, then one of its files, so that scenes with many clips do not dominate"
    )
    synthetic: float = setting(0.0, "share of synthetic clips (moving patterns), from 0 to 1")
    cache: Literal["none", "memory"] = setting(
        "none", "memory: decode and resize all videos once, at the start, and keep them in memory"
    )

    def __post_init__(self) -> None:
        for num_frames, size in (*self.pairs, (self.num_frames, self.size)):
            if num_frames < 1 or size < 8 or size % 8 or self.stride < 1 or self.zoom < 1:
                raise ValueError(
                    "data.num_frames, data.stride and data.zoom should be at least 1, and data.size a multiple of 8; "
                    f"got {num_frames}, {self.stride}, {self.zoom} and {size}"
                )
            if self.short and self.short < size:
                raise ValueError(f"data.short ({self.short}) should be at least the size of the crops ({size})")
            if self.zoom > 1 and self.short <= size:
                raise ValueError(
                    f"data.zoom={self.zoom:g} makes crops larger than {size} pixels: set data.short above {size}, got {self.short}"
                )
        if not 0 <= self.synthetic <= 1:
            raise ValueError(f"data.synthetic should be in 0..1, got {self.synthetic}")
        unused = [f"data.{name}={getattr(self, name)}" for name in ("root", "manifest") if getattr(self, name)]
        if self.synthetic == 1 and unused:
            raise ValueError(
                f"{' and '.join(unused)} would be unused: data.synthetic=1 trains on synthetic clips only; "
                "set data.synthetic=0, or remove data.root and data.manifest"
            )

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """`shapes` as (num_frames, size).

        Raises:
            ValueError: a shape is not FRAMESxSIZE
        """
        matches = [re.fullmatch(r"(\d+)x(\d+)", shape) for shape in self.shapes]
        if None in matches:
            raise ValueError(f"data.shapes should hold FRAMESxSIZE, such as 33x64, got {self.shapes}")
        return [(int(match[1]), int(match[2])) for match in matches if match]

    @property
    def side(self) -> int:
        """Short side to which frames are resized before cropping, in pixels."""
        return self.short or max([self.size, *(size for _, size in self.pairs)])


@dataclass(frozen=True)
class Validation:
    """Validation during training, by metrics of the benchmark."""

    data: str = setting("bundle", 'source of clips, as in `vaebench run`; "" = no validation')
    root: str = setting("", "folder of the clips, for sources that need one")
    manifest: str = setting("", "CSV that pins the clips of validation.root, as `vaebench manifest` writes")
    clips: int = setting(0, "validate on the first N clips only; 0 = all")
    num_frames: int = setting(17, "frames per clip")
    size: int = setting(256, "height and width of the clips in pixels")
    metrics: list[str] = setting(["psnr"], "metrics of `vaebench list metrics`; the first chooses the best checkpoint")
    samples: int = setting(4, "number of clips to show in samples/ and TensorBoard")


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run."""

    run: str = setting("runs/train", "folder of the run; default: runs/train/RECIPE")
    description: str = setting("", "what the recipe trains, for `vaebench list recipes`")
    model: WFVAEConfig = field(default_factory=WFVAEConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    lcr: LCRConfig = field(default_factory=LCRConfig)
    lmr: LMRConfig = field(default_factory=LMRConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    data: TrainingData = field(default_factory=TrainingData)
    validation: Validation = field(default_factory=Validation)
    initial: Literal["random", "wavelets"] = setting(
        "random",
        "initial weights; wavelets: the strongest wavelet coefficients pass through the network unchanged, "
        "for short trainings",
    )
    without_flow: list[int] = setting([], "ablation: close the energy flow at these levels (1, 2)")
    start_from: str = setting(
        "",
        "weights to start from: a run, a checkpoint of it, a released folder or file, or a built-in model such as "
        "wfvae/tiny",
    )
    refresh_discriminator: bool = setting(False, "with start_from: start with a new discriminator")
    device: Literal["auto", "cpu"] = setting("auto", "device to train on; auto = a GPU if there is one")
    wandb: str = setting("", 'Weights & Biases project to log to; "" = none')

    def __post_init__(self) -> None:
        r = self.model.temporal_compression
        name = "shapes" if self.data.shapes else "num_frames"
        if any(num_frames % r != 1 for num_frames, _ in self.data.pairs or [(self.data.num_frames, 0)]):
            raise ValueError(f"this WF-VAE takes clips of 1 + {r}k frames, got data.{name}={getattr(self.data, name)}")


def parse(recipe: str, overrides: Sequence[str]) -> TrainConfig:
    """The settings of a recipe, overridden by `key=value` words.

    Raises:
        ValueError: unknown recipe or setting, invalid value
    """
    folder = {"run": f"runs/train/{Path(recipe).stem}"}
    return settings.parse(TrainConfig, overrides, {**folder, **read_recipe(recipe)})
