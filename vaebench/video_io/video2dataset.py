"""Names of clips written by video2dataset: `<number>_<clip>.mp4` beside a .json file with the "url" of the video."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlparse


def clip_name(root: Path, file: str) -> str:
    """The name `<videoID>_<clip>` of a file; the video ID is from the .json beside it if there is one, else from its name.

    Raises:
        ValueError: the .json is invalid or has no "url"
    """
    video, _, cut = PurePosixPath(file).stem.rpartition("_")
    beside = (root / file).with_suffix(".json")
    if beside.is_file():
        try:
            url = urlparse(str(json.loads(beside.read_bytes())["url"]))
        except (OSError, ValueError, KeyError, TypeError) as reason:
            raise ValueError(f'{beside}: should name the clip\'s video under "url" ({reason!r})') from None
        video = parse_qs(url.query).get("v", [PurePosixPath(url.path).name])[0]
    return f"{video}_{int(cut):05d}" if cut.isdecimal() else PurePosixPath(file).stem
