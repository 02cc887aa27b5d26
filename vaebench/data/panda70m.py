"""Panda-70M (Chen et al., CVPR 2024, arXiv 2402.19479): captioned cuts of YouTube videos.

    vaebench run data=panda70m root=DIR manifest=panda70m_testing.csv

    DIR/<shard>/<number>_<clip>.mp4 with <number>_<clip>.json   as written by the video2dataset of its repository; the "url" in
                                                               the .json identifies the video
    DIR/.../<videoID>_<clip>.mp4                               cut by other tools; the clips of a video are counted from 0
    panda70m_testing.csv                                       columns url, videoID, timestamp (the list of cuts), ...

The id of a clip is <videoID>_<clip> with five digits in both layouts; <number> depends on the CSV that was downloaded with.  The
source reads the clips of the CSV that are on disk, in the order of the CSV; the record states how many the CSV lists.
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
    """Build the source.

    Raises:
        OSError: the folder or the CSV cannot be read
        ValueError: none of the clips is below the folder; the message shows the expected layout
    """
    return file_source.published(config, LAYOUT, ["videoID", "timestamp"], _clips, name_of=video2dataset.clip_name)


def _clips(row: dict[str, str]) -> Iterable[tuple[str, str]]:
    try:
        cuts = len(ast.literal_eval(row["timestamp"]))
    except (ValueError, SyntaxError, TypeError):
        raise ValueError(
            f"Panda-70M: timestamp {row['timestamp']!r} of {row['videoID']} should be a list of cuts"
        ) from None
    return [(f"{row['videoID']}_{cut:05d}", "") for cut in range(cuts)]
