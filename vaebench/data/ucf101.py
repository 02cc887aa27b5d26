"""UCF-101 (Soomro et al., 2012, arXiv 1212.0402): 13,320 videos of 101 actions, 320x240.

vaebench run data=ucf101 root=UCF-101                                            all videos, as Latte and StyleGAN-V do
vaebench run data=ucf101 root=UCF-101 manifest=ucfTrainTestlist/testlist01.txt   one of the published splits

UCF-101/<Class>/v_<Class>_g01_c01.avi     the label is the name of the folder, because the files of HandstandPushups are
                                          called v_HandStandPushups_...
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vaebench.video_io import file_source, manifest
from vaebench.video_io.manifest import Row

if TYPE_CHECKING:
    from vaebench.config import RunConfig
    from vaebench.video_io.file_source import Files

LAYOUT = (
    "UCF-101 unpacked, DIR/<Class>/v_<Class>_g01_c01.avi; the splits are in ucfTrainTestlist/, beside it and not in it "
    "(https://www.crcv.ucf.edu/data/UCF101.php has both)"
)


def build(config: RunConfig) -> Files:
    """Build the source.

    Raises:
        OSError: the folder or the list cannot be read
        ValueError: there are no videos in class folders; the message shows the expected layout
    """
    root = file_source.need_root(config, LAYOUT)
    if config.manifest.endswith(".txt"):
        rows = _split(config.manifest)
    else:
        rows = manifest.read(config.manifest) if config.manifest else manifest.scan(root)
    rows = [replace(row, label=PurePosixPath(row.file).parent.name) for row in rows]
    if not rows or not all(row.label for row in rows):
        stray = next((row.file for row in rows if not row.label), "no video")
        raise ValueError(f"{config.manifest or root}: found {stray}; the layout expected is {LAYOUT}")
    return file_source.source(file_source.named("ucf101", Path(config.manifest).stem), root, rows, config)


def _split(file: str) -> list[Row]:
    """Read `trainlist01.txt` (lines "Class/video.avi 1") or `testlist01.txt` (lines "Class/video.avi")."""
    with manifest.opened(file, "a split or a manifest") as lines:
        names = [PurePosixPath(line.split()[0]) for line in lines if line.strip()]
    return [Row(name.with_suffix("").as_posix(), name.as_posix()) for name in names]
