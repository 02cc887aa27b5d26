"""Kinetics-400 (Kay et al., 2017, arXiv 1705.06950): ten-second clips of human actions, in folders by class.

    vaebench run data=kinetics400 root=DIR/val manifest=val.csv

    DIR/val/<class>/<youtube_id>_<start>_<end>.mp4     start and end in seconds, six digits each; class folders may be absent
    val.csv                                            columns label, youtube_id, time_start, time_end, split

The source reads the clips of the CSV that are on disk, in the order of the CSV; the record states how many the CSV lists, since
clips vanish from the web.  Without the CSV it reads all clips below root, with their folders as labels.  `vaebench manifest` pins
a subset.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from vaebench.video_io import file_source

if TYPE_CHECKING:
    from vaebench.config import RunConfig
    from vaebench.video_io.file_source import Files

LAYOUT = (
    "Kinetics-400, DIR/<class>/<youtube_id>_<start>_<end>.mp4, with manifest=val.csv or without "
    "(https://github.com/cvdfoundation/kinetics-dataset has both)"
)


def build(config: RunConfig) -> Files:
    """Build the source.

    Raises:
        OSError: the folder or the CSV cannot be read
        ValueError: none of the clips is below the folder; the message shows the expected layout
    """
    columns = ["label", "youtube_id", "time_start", "time_end"]
    return file_source.published(config, LAYOUT, columns, _clips, label_of=lambda file: PurePosixPath(file).parent.name)


def _clips(row: dict[str, str]) -> Iterable[tuple[str, str]]:
    try:
        start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
    except (ValueError, OverflowError):
        times = f"time_start {row['time_start']!r} and time_end {row['time_end']!r}"
        raise ValueError(f"Kinetics-400: {times} of {row['youtube_id']} should be seconds") from None
    return [(f"{row['youtube_id']}_{start:06d}_{end:06d}", row["label"])]
