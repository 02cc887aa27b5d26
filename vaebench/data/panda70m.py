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
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlparse

from vaebench.video_io import file_source

if TYPE_CHECKING:
    from vaebench.config import RunConfig
    from vaebench.video_io.file_source import Files

LAYOUT = (
    "Panda-70M, DIR/<shard>/<number>_<clip>.mp4 with a .json beside each, or DIR/<videoID>_<clip>.mp4, with "
    "manifest=panda70m_testing.csv (https://github.com/snap-research/Panda-70M, dataset_dataloading, has CSV and downloader)"
)


def build(config: RunConfig) -> Files:
    """OSError for a folder or CSV that cannot be read; ValueError, with the layout, if no clip of it is there."""
    return file_source.published(config, LAYOUT, ["videoID", "timestamp"], _clips, name_of=_name)


def _clips(row: dict[str, str]) -> Iterable[tuple[str, str]]:
    try:
        cuts = len(ast.literal_eval(row["timestamp"]))
    except (ValueError, SyntaxError, TypeError):
        raise ValueError(
            f"Panda-70M: timestamp {row['timestamp']!r} of {row['videoID']} should be a list of cuts"
        ) from None
    return [(f"{row['videoID']}_{cut:05d}", "") for cut in range(cuts)]


def _name(root: Path, file: str) -> str:
    """`<videoID>_<clip>` of a file, by the json beside it if there is one, else by its own name."""
    video, _, cut = PurePosixPath(file).stem.rpartition("_")
    beside = (root / file).with_suffix(".json")
    if beside.is_file():
        try:
            url = urlparse(str(json.loads(beside.read_bytes())["url"]))
        except (OSError, ValueError, KeyError, TypeError) as reason:
            raise ValueError(f'{beside}: should name the clip\'s video under "url" ({reason!r})') from None
        video = parse_qs(url.query).get("v", [PurePosixPath(url.path).name])[0]
    return f"{video}_{int(cut):05d}" if cut.isdecimal() else PurePosixPath(file).stem
