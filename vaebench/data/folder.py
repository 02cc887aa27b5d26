"""Videos below a folder, at any depth, sorted by path; `manifest.EXTENSIONS` are the types that are read.

    vaebench run data=folder root=DIR                     every video, from its first frame
    vaebench run data=folder root=DIR manifest=FILE.csv   the clips that the manifest pins, in its order
    vaebench manifest DIR FILE.csv                        writes such a manifest

A manifest ensures that two people measure the same frames of the same bytes; a file that differs is reported (`manifest.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.video_io import file_source, manifest

if TYPE_CHECKING:
    from vaebench.config import RunConfig
    from vaebench.video_io.file_source import Files


def build(config: RunConfig) -> Files:
    """Build the source.

    Raises:
        OSError: the folder or the manifest cannot be read
        ValueError: the folder has no video, or the manifest is invalid or has no rows
    """
    root = file_source.need_root(config, f"a folder of videos ({', '.join(manifest.EXTENSIONS)})")
    rows = manifest.read(config.manifest) if config.manifest else manifest.scan(root)
    if not rows:
        raise ValueError(
            f"{config.manifest or root}: no clips; expected "
            + ("one row for each" if config.manifest else f"files ending in {', '.join(manifest.EXTENSIONS)} below it")
        )
    # name of the folder, to which `source` adds a hash: the records of two folders do not share a setting
    name = file_source.named(Path(config.manifest).stem or root.resolve().name)
    return file_source.source(name or "folder", root, rows, config)
