"""The clips shipped with the package: eight short scenes under free licences, each pinned by its sha256.

Licences and attributions are in bundle/LICENSES.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vaebench.video_io import file_source, manifest

if TYPE_CHECKING:
    from vaebench.config import RunConfig
    from vaebench.video_io.file_source import Files

ROOT = Path(__file__).with_name("bundle")


def build(config: RunConfig) -> Files:
    """Build the source; it needs no root and no download.

    Raises:
        ValueError: root or manifest is set
    """
    if config.root or config.manifest:
        raise ValueError(
            "data=bundle reads the clips of the package and takes no root or manifest; use data=folder root=DIR for your videos"
        )
    return file_source.source("bundle", ROOT, manifest.read(ROOT / "clips.csv"), config, fixed=True)
