"""WebVid-10M (Bain et al., ICCV 2021, arXiv 2104.00650): stock footage with captions.

    vaebench run data=webvid root=DIR manifest=results_10M_val.csv

    DIR/videos/<page_dir>/<videoid>.mp4      as written by its download script; other folders with <videoid>.mp4 work too
    results_10M_val.csv                      columns videoid, page_dir, contentUrl, duration, name

The source reads the clips of the CSV that are on disk, in the order of the CSV; the record states how many the CSV lists.  The
CSVs are no longer at their original address, and the videos may not be redistributed.  To measure the same clips, share a manifest
(`vaebench manifest DIR FILE.csv`): it has names and checksums, but no pixels.
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
    """Build the source.

    Raises:
        OSError: the folder or the CSV cannot be read
        ValueError: none of the clips is below the folder; the message shows the expected layout
    """
    return file_source.published(config, LAYOUT, ["videoid"], _clips)


def _clips(row: dict[str, str]) -> Iterable[tuple[str, str]]:
    return [(row["videoid"], "")]
