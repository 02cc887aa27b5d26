"""DAVIS 2017 (Pont-Tuset et al., arXiv 1704.00675): the 30 sequences of its validation set, as folders of JPEG images.

    vaebench run data=davis root=DAVIS/JPEGImages/480p
    vaebench run data=davis root=DAVIS/JPEGImages/Full-Resolution

DIR/<sequence>/00000.jpg     other sequences below DIR are not read; the record states how many of the 30 are there
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vaebench.data import skytimelapse
from vaebench.video_io import file_source, presets

if TYPE_CHECKING:
    from vaebench.config import RunConfig
    from vaebench.data.skytimelapse import Folders

LAYOUT = "the images of DAVIS 2017 in one resolution, DIR/<sequence>/00000.jpg (https://davischallenge.org has them)"


def build(config: RunConfig) -> Folders:
    """Build the source.

    Raises:
        OSError: the folder cannot be read
        ValueError: it has none of the sequences; the message shows the expected layout
    """
    file_source.refuse_decord(config, "it reads images")
    root = file_source.need_root(config, LAYOUT)
    if config.manifest:
        raise ValueError("data=davis reads folders of images, which no manifest pins; root=DIR names the resolution")
    names = presets.find("davis-2017-val").names
    source = skytimelapse.folders_of(root, config, "davis", LAYOUT, names)
    source.identity["listed"] = str(len(names))
    return source
