"""`vaebench data check`: which files of a manifest or preset are missing, changed or not pinned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vaebench.titles import counted
from vaebench.video_io import manifest, presets
from vaebench.video_io.manifest import Row
from vaebench.video_io.presets import Preset

AS_PINNED, CHANGED, MISSING, NOT_PINNED, AMBIGUOUS = "as pinned", "changed", "missing", "hash not pinned", "ambiguous"
FAULTS = (MISSING, CHANGED, AMBIGUOUS)


class State(NamedTuple):
    """The state of one clip."""

    state: str
    sentence: str  # name of the clip, and what is wrong


def check_manifest(rows: Sequence[Row], root: Path) -> Iterator[State]:
    """Compare the files of a manifest with those below `root`."""
    for row in rows:
        path = root / row.file
        if not path.is_file():
            yield State(MISSING, f"{row.id} ({row.file})")
        elif not row.sha256:
            yield State(NOT_PINNED, f"{row.id} ({row.file})")
        elif (actual := manifest.sha256(path)) != row.sha256:
            yield State(CHANGED, f"{row.id} ({row.file}): sha256 {actual[:12]}..., expected {row.sha256[:12]}...")
        else:
            yield State(AS_PINNED, f"{row.id} ({row.file})")


def check_preset(preset: Preset, names: Sequence[str], root: Path) -> Iterator[State]:
    """Search the clips of a preset below `root`; without checksums, because a preset has none."""
    found = presets.rows(preset, names, root)
    yield from (State(NOT_PINNED, f"{row.id} ({row.file})") for row in found.rows)
    yield from (State(MISSING, name) for name in found.missing)
    yield from (State(AMBIGUOUS, f"{name}: {', '.join(files)}") for name, files in found.ambiguous.items())


def check(given: str, root: str, listed: str = "") -> tuple[list[State], str]:
    """Check a manifest (a CSV) or a preset (by name).

    Args:
        given: path of a manifest, or name of a preset
        root: folder with the videos
        listed: path of the published list of a preset

    Returns:
        the state of each clip, and a summary

    Raises:
        ValueError: the manifest, the preset or the list is invalid
        OSError: the folder or a file cannot be read
    """
    if given not in presets.PRESETS and not Path(given).exists() and not given.lower().endswith(".csv"):
        presets.find(given)  # raises the error that names the presets
    folder = Path(root)
    if not folder.is_dir():
        raise OSError(f"{root}: no such folder; ROOT should be the folder of the videos")
    if given in presets.PRESETS:
        preset = presets.find(given)
        states = list(check_preset(preset, presets.names_of(preset, listed), folder))
    elif listed:
        raise ValueError(f"--list {listed}: a manifest names its clips itself; remove --list")
    else:
        states = list(check_manifest(manifest.read(given), folder))
    times = Counter(state.state for state in states)
    counts = [f"{times[state]} {state}" for state in (AS_PINNED, NOT_PINNED, *FAULTS) if times[state]]
    return states, f"{counted(len(states), 'clip')}: {', '.join(counts)}"


def pin(name: str, root: str, out: str, listed: str = "") -> tuple[int, list[str]]:
    """Write the clips of a preset below `root`, with their checksums, into the manifest `out`.

    Returns:
        the number of clips in the manifest, and the reason for each clip that was left out

    Raises:
        ValueError: the preset or its list is invalid, or no clip was found
        OSError: the folder cannot be read
    """
    preset = presets.find(name)
    if preset.images:
        raise ValueError(f"{name} has folders of images, which no manifest pins; data=davis reads them")
    names = presets.names_of(preset, listed)
    found = presets.rows(preset, names, root)
    left_out = [f"{clip}: no file below {root}" for clip in found.missing]
    left_out += [f"{clip}: several files: {', '.join(files)}; keep one" for clip, files in found.ambiguous.items()]
    if not found.rows:
        raise ValueError(f"{root}: has no clip of {name}; the first one should be {presets.pattern(preset, names[0])}")
    count, damaged = manifest.write(root, out, presets.FRAMES, found.rows)
    return count, left_out + damaged
