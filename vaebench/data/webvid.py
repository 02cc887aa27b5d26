"""WebVid-10M (Bain et al., ICCV 2021, arXiv 2104.00650): stock footage with captions, fetched from its CSV.

    vaebench run data=webvid root=DIR manifest=results_10M_val.csv

    DIR/videos/<page_dir>/<videoid>.mp4      in the layout of its download script; any other tree with <videoid>.mp4 works too
    results_10M_val.csv                      columns videoid, page_dir, contentUrl, duration, name

The clips are those of the CSV that are on disk, in its order; the record states how many the CSV lists.  The CSVs were withdrawn
from their first place, and the videos may not be passed on: two people compare the same clips by a manifest
(`vaebench manifest DIR FILE.csv`), which names and hashes them and holds no pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vaebench.video_io import file_source

if TYPE_CHECKING:
    from vaebench.config import RunConfig
    from vaebench.video_io.file_source import Files

LAYOUT = (
    "WebVid-10M as its download script lays it, DIR/videos/<page_dir>/<videoid>.mp4, with manifest=results_10M_val.csv "
    "(https://github.com/m-bain/webvid states where it is still available)"
)


def build(config: RunConfig) -> Files:
    """OSError for a folder or CSV that cannot be read; ValueError, with the layout, if no clip of it is there."""
    return file_source.published(config, LAYOUT, ["videoid"], _clips)


def _clips(row: dict[str, str]) -> Iterable[tuple[str, str]]:
    return [(row["videoid"], "")]
