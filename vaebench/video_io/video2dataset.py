"""Names of clips that video2dataset wrote: `<number>_<clip>.mp4`, and beside each a .json with the "url" of its video."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, urlparse


def clip_name(root: Path, file: str) -> str:
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
