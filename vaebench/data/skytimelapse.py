"""SkyTimelapse (Xiong et al., CVPR 2018, arXiv 1709.07592): clouds at 640x360, kept as folders of numbered images.

vaebench run data=skytimelapse root=sky_timelapse/sky_train     the split that FVD is taken against
vaebench run data=skytimelapse root=sky_timelapse/sky_test

sky_train/<youtube id>/<youtube id>_<scene>/<anything>_<number>.jpg     a folder is a clip; its frames go by number
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vaebench.data import _files, _frames, _manifest
from vaebench.video import Clip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.config import RunConfig

IMAGES = (".jpg", ".jpeg", ".png")
LAYOUT = (
    "one split of SkyTimelapse, DIR/<youtube id>/<youtube id>_<scene>/<name>_<number>.jpg "
    "(https://github.com/weixiong-ur/mdgan has it)"
)
NUMBER = re.compile(r"(\d+)\.[^.]*$")


@dataclass
class Folders:
    """A `VideoSource` of folders of images."""

    identity: dict[str, str]
    root: Path
    folders: dict[str, list[str]]  # path of a folder -> names of its frames, in order
    num_frames: int
    size: int

    def __iter__(self) -> Iterator[Clip]:
        for folder, frames in self.folders.items():
            load = partial(_load, self.root / folder, frames, self.num_frames, self.size)
            yield Clip(id=folder, fps=0.0, load=_files.below(self.root, load), file=folder)


def build(config: RunConfig) -> Folders:
    """OSError for a folder that cannot be read; ValueError, with the layout, if it has no images or they have no numbers."""
    root = _files.need_root(config, LAYOUT)
    if config.manifest:
        raise ValueError("data=skytimelapse reads folders of images, which no manifest pins; root=DIR names the split")
    folders: dict[str, list[str]] = {}
    for file in map(PurePosixPath, sorted(_manifest.walk(root, IMAGES))):
        folders.setdefault(file.parent.as_posix(), []).append(file.name)
    for folder, names in folders.items():
        names.sort(key=partial(_number, root / folder))
    if not folders:
        raise ValueError(f"{root}: no images below it; the layout expected is {LAYOUT}")
    contents = (
        (
            folder,
            0,
            f"{len(names)} {_files.ends(root / folder / names[0])} {_files.ends(root / folder / names[-1])}",
        )
        for folder, names in folders.items()
    )
    identity = {
        "name": _files.named("skytimelapse", root.resolve().name),
        "sha256": _files.fingerprint(contents),
        "clips": str(len(folders)),
    }
    return Folders(identity, root, folders, config.num_frames, config.size)


def _number(folder: Path, name: str) -> int:
    found = NUMBER.search(name)
    if found is None:
        raise ValueError(f"{folder / name}: has no frame number before its ending; the layout expected is {LAYOUT}")
    return int(found[1])


def _load(folder: Path, frames: list[str], num_frames: int, size: int) -> Tensor:
    """uint8 (3, num_frames, size, size)."""
    if len(frames) < num_frames:
        raise ValueError(
            f"{folder}: too short: it holds {len(frames)} frames, {num_frames} were asked for; lower num_frames"
        )
    return _frames.clip((image(folder / name) for name in frames[:num_frames]), size)


def image(file: Path) -> NDArray[np.uint8]:
    """uint8 (H, W, 3)."""
    from torchvision.io import ImageReadMode, read_image

    try:
        pixels: Tensor = read_image(os.fspath(file), ImageReadMode.RGB)
    except RuntimeError as reason:  # torchvision's word for every mishap
        raise ValueError(f"{file}: is no image that can be read ({str(reason).splitlines()[0]})") from None
    return pixels.permute(1, 2, 0).numpy()
