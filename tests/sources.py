"""Data sources as the tests build them, and the windows cut from them: few frames, small ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaebench import plugins
from vaebench.config import RunConfig
from vaebench.generation import windows

SMALL = RunConfig(num_frames=5, size=32)


def build(data: str, root: Path | str = "", **settings: Any) -> Any:
    """The source `data` with clips of 5 frames and 32 pixels; `settings` are fields of `RunConfig`."""
    config = replace(SMALL, data=data, root=str(root), **settings)
    return plugins.find("data", data).build(config)


def ids(source: Iterable[Any]) -> list[str]:
    return [clip.id for clip in source]


def cut(found: Any, **settings: Any) -> list[windows.Window]:
    """One window of each clip: 16 frames, every third one."""
    return windows.windows(found, **{"frames": 16, "interval": 3, "per_clip": 1, "flips": False, "seed": 0, **settings})
