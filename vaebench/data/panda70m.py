"""Panda-70M (Chen et al., CVPR 2024, arXiv 2402.19479): captioned cuts of YouTube videos.

    vaebench run data=panda70m root=DIR manifest=panda70m_testing.csv

    DIR/<shard>/<number>_<clip>.mp4 with <number>_<clip>.json   as the video2dataset of its repository lays it: the json's
                                                               "url" identifies the video of the number
    DIR/.../<videoID>_<clip>.mp4                               or cut by hand, the clips of a video counted from 0
    panda70m_testing.csv                                       columns url, videoID, timestamp, ...; a list of cuts per video

A clip is called <videoID>_<clip>, five digits, whichever way it was fetched: numbers depend on the CSV that was used, names
do not.  The clips are those of the CSV that are on disk, in its order; the record states how many the CSV lists.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vaebench.video_io import file_source, video2dataset

if TYPE_CHECKING:
    from vaebench.config import RunConfig
    from vaebench.video_io.file_source import Files

LAYOUT = (
    "Panda-70M, DIR/<shard>/<number>_<clip>.mp4 with a .json beside each, or DIR/<videoID>_<clip>.mp4, with "
    "manifest=panda70m_testing.csv (https://github.com/snap-research/Panda-70M, dataset_dataloading, has CSV and downloader)"
)


def build(config: RunConfig) -> Files:
    """OSError for a folder or CSV that cannot be read; ValueError, with the layout, if no clip of it is there."""
    return file_source.published(config, LAYOUT, ["videoID", "timestamp"], _clips, name_of=video2dataset.clip_name)


def _clips(row: dict[str, str]) -> Iterable[tuple[str, str]]:
    try:
        cuts = len(ast.literal_eval(row["timestamp"]))
    except (ValueError, SyntaxError, TypeError):
        raise ValueError(
            f"Panda-70M: timestamp {row['timestamp']!r} of {row['videoID']} should be a list of cuts"
        ) from None
    return [(f"{row['videoID']}_{cut:05d}", "") for cut in range(cuts)]
