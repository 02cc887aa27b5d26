"""SkyTimelapse (Xiong et al., CVPR 2018, arXiv 1709.07592): clouds at 640x360, as folders of numbered images.

vaebench run data=skytimelapse root=sky_timelapse/sky_train     the split of the real clips of FVD
vaebench run data=skytimelapse root=sky_timelapse/sky_test

sky_train/<youtube id>/<youtube id>_<scene>/<anything>_<number>.jpg     a folder is a clip; frames are sorted by number
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vaebench.frame_size import Size
from vaebench.video import Clip
from vaebench.video_io import file_source, manifest, presets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vaebench.config import RunConfig

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
    stamps: dict[str, str]  # path of a folder -> a hash of the sizes and modification times of its frames
    num_frames: int
    size: Size
    resize: str

    def __iter__(self) -> Iterator[Clip]:
        for folder, names in self.folders.items():
            yield file_source.clip_of(
                self.root,
                partial(_frames, self.root / folder, names, self.num_frames),
                self.size,
                self.resize,
                id=folder,
                file=folder,
                stamp=self.stamps[folder],
            )


def build(config: RunConfig) -> Folders:
    """Build the source.

    Raises:
        OSError: the folder cannot be read
        ValueError: it has no images, or their names have no frame numbers; the message shows the expected layout
    """
    file_source.refuse_decord(config, "it reads images")
    root = file_source.need_root(config, LAYOUT)
    if config.manifest:
        raise ValueError("data=skytimelapse reads folders of images, which no manifest pins; root=DIR names the split")
    return folders_of(root, config, "skytimelapse", LAYOUT)


def folders_of(root: Path, config: RunConfig, data: str, layout: str, only: Sequence[str] = ()) -> Folders:
    """The source of the folders of images below `root`.

    Args:
        root: folder of the folders
        config: settings of the run
        data: name of the source in records
        layout: the expected layout of `root`, for messages
        only: paths of the folders to read, in this order; empty: all, sorted

    Raises:
        OSError: a folder cannot be read
        ValueError: there are no images, or their names have no frame numbers
    """
    folders: dict[str, list[str]] = {}
    for file in map(PurePosixPath, sorted(manifest.walk(root, presets.IMAGES))):
        folders.setdefault(file.parent.as_posix(), []).append(file.name)
    if only:
        folders = {folder: folders[folder] for folder in only if folder in folders}
    for folder, names in folders.items():
        names.sort(key=partial(_number, root / folder))
    if not folders:
        raise ValueError(f"{root}: no images below it; the layout expected is {layout}")
    contents, stamps = [], {}
    for folder, names in folders.items():
        each = [file_source.stamp(root / folder / name) for name in names]
        stamps[folder] = hashlib.sha256("\n".join(each).encode()).hexdigest()
        # hashing all frames would read the whole data set; a replaced frame seldom has the same size
        sizes = " ".join(stamp.partition(" ")[0] for stamp in each)
        first, last = (file_source.ends(root / folder / name) for name in (names[0], names[-1]))
        contents.append((folder, 0, f"{sizes} {first} {last}"))
    sha256 = file_source.fingerprint(contents)
    identity = {
        "name": file_source.marked(file_source.named(data, root.resolve().name), sha256),
        "sha256": sha256,
        "clips": str(len(folders)),
    }
    how = file_source.resize_of(config)
    return Folders(identity, root, folders, stamps, config.num_frames, config.size, how)


def _number(folder: Path, name: str) -> int:
    match = NUMBER.search(name)
    if match is None:
        raise ValueError(
            f"{folder / name}: has no frame number before its ending; expected a name such as scene_00012.jpg"
        )
    return int(match[1])


def _frames(folder: Path, names: list[str], num_frames: int) -> Iterator[NDArray[np.uint8]]:
    if len(names) < num_frames:
        raise ValueError(f"{folder}: too short: it has {len(names)} frames, num_frames={num_frames}; lower num_frames")
    return frames_of(folder, names, slice(num_frames))


def frames_of(folder: Path, names: Sequence[str], chosen: slice) -> Iterator[NDArray[np.uint8]]:
    """Yield frames of a folder, each uint8 (H, W, 3).

    Args:
        folder: the folder
        names: names of all images of the folder, sorted by frame number
        chosen: the frames to read

    Raises:
        ValueError: a frame cannot be read, its size differs from that of the first, or two images have the same frame number
    """
    for name, following in pairwise(names):
        if _number(folder, name) == _number(folder, following):
            raise ValueError(f"{folder}: {name} and {following} have the same frame number; remove one of them")
    shape = None
    for name in names[chosen]:
        pixels = _image(folder / name)
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise ValueError(
                f"{folder / name}: is {pixels.shape[1]}x{pixels.shape[0]}, the frames before it are {shape[1]}x{shape[0]}; "
                "replace it or leave the folder out"
            )
        yield pixels


def _image(file: Path) -> NDArray[np.uint8]:
    """uint8 (H, W, 3).  Read with Pillow, because torchvision's PNG reader aborts the process on a wrong checksum.

    Raises:
        ValueError: it is not a JPEG or PNG image with 8 bits per channel, or is damaged
    """
    import numpy as np
    from PIL import Image

    try:
        data = file.read_bytes()
        if data.startswith(b"\x89PNG") and data[24:25] == b"\x10":
            raise ValueError("it has 16 bits per channel, 8 are expected; convert it")
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as picture:
            picture.verify()  # the checksums of a PNG; a JPEG has none
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as picture:
            if picture.mode not in ("RGB", "RGBA", "L", "LA", "P", "1"):
                raise ValueError(f"its colours are {picture.mode}, RGB or grey is expected; convert it")
            return np.array(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as reason:  # Pillow raises all of them
        why = reason.strerror if isinstance(reason, OSError) and reason.strerror else reason
        raise ValueError(f"{file}: cannot be read as an image ({why})") from None
