"""Videos below a folder, at any depth, sorted by path; `_manifest.EXTENSIONS` are the types that are read.

    vaebench run data=folder root=DIR                     every video, from its first frame
    vaebench run data=folder root=DIR manifest=FILE.csv   the clips that the manifest pins, in its order
    vaebench manifest DIR FILE.csv                        writes such a manifest

With a manifest two people measure the same frames of the same bytes, or read which file differs (`_manifest.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.data import _files, _manifest

if TYPE_CHECKING:
    from vaebench.config import RunConfig
    from vaebench.data._files import Files


def build(config: RunConfig) -> Files:
    """OSError for a folder or manifest that cannot be read, ValueError for one without a video."""
    root = _files.need_root(config, f"a folder of videos ({', '.join(_manifest.EXTENSIONS)})")
    rows = _manifest.read(config.manifest) if config.manifest else _manifest.scan(root)
    if not rows:
        raise ValueError(
            f"{config.manifest or root}: no clips; expected "
            + ("one row for each" if config.manifest else f"files ending in {', '.join(_manifest.EXTENSIONS)} below it")
        )
    # the folder's own name, which `source` completes, so that the records of two folders do not share a setting
    name = _files.named(Path(config.manifest).stem or root.resolve().name)
    return _files.source(name or "folder", root, rows, config)
