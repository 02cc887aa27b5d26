"""Data presets: fixed choices of clips from public data sets, so that two groups measure the same frames.

A preset names its clips, or the rule that chooses them.  It has no checksums, because we may not distribute the files.  `rows`
finds the clips below a folder; `vaebench data pin` writes them with their checksums to a manifest, which others can check.

A file matches the clip NAME if its path without extension is NAME or ends with /NAME, or its file name starts with NAME_:
`videoSRC01` is `any/folder/videoSRC01.mp4` or `videoSRC01_1920x1080_30.mp4`.  Cuts of videos are named as in data=panda70m.

If a data set is published as a long list of clips, the preset takes the `count` clips with the smallest sha256 of "<seed> <name>".
The choice depends on the published list only, not on the clips that were downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vaebench.plugins import did_you_mean
from vaebench.video_io import manifest, video2dataset
from vaebench.video_io.manifest import Row

IMAGES = (".jpg", ".jpeg", ".png")
FRAMES = 33  # of each clip, from its first frame, as in the default setting


@dataclass(frozen=True)
class Preset:
    """Clips of a data set.  Either `names` are given, or `count` names are chosen from a published list."""

    about: str
    source: str  # where names or list come from
    names: tuple[str, ...] = ()
    count: int = 0  # 0: the whole list
    seed: int = 0
    column: str = ""  # column of the published CSV with the names of videos; "": the list is a text, one path per line
    cuts: str = ""  # column of the published CSV with the cuts of each video; "": each video is one clip
    images: bool = False  # each clip is a folder of images, which a manifest cannot pin


# ImageSets/2017/val.txt of the data set
DAVIS = (
    "bike-packing blackswan bmx-trees breakdance camel car-roundabout car-shadow cows dance-twirl dog dogs-jump drift-chicane "
    "drift-straight goat gold-fish horsejump-high india judo kite-surf lab-coat libby loading mbike-trick motocross-jump "
    "paragliding-launch parkour pigs scooter-black shooting soapbox"
)
PRESETS = {
    "davis-2017-val": Preset(
        "DAVIS 2017, validation: 30 sequences; published as folders of images, which data=davis reads",
        "https://davischallenge.org, ImageSets/2017/val.txt",
        names=tuple(DAVIS.split()),
        images=True,
    ),
    "mcl-jcv": Preset(
        "MCL-JCV: 30 sources of 5 seconds at 1080p; published as raw YUV, to be stored losslessly in .mkv or .y4m",
        "https://mcl.usc.edu/mcl-jcv-dataset",
        names=tuple(f"videoSRC{number:02d}" for number in range(1, 31)),
    ),
    "tokenbench": Preset(
        "TokenBench: the videos of BDD100K, Ego-Exo4D and BridgeData V2 that its list names by path",
        "github.com/NVlabs/TokenBench at 40abe53, video/list.txt",
    ),
    "webvid-1000": Preset(
        "WebVid-10M: 1000 videos of the validation list, seed 0",
        "results_10M_val.csv (https://github.com/m-bain/webvid)",
        count=1000,
        column="videoid",
    ),
    "panda70m-1000": Preset(
        "Panda-70M: 1000 clips of the test list, seed 0; a clip is called <videoID>_<number>",
        "panda70m_testing.csv (https://github.com/snap-research/Panda-70M)",
        count=1000,
        column="videoID",
        cuts="timestamp",
    ),
}


@dataclass(frozen=True)
class Found:
    """The clips of a preset below a folder."""

    rows: list[Row]  # without checksums; for images, `file` is their folder
    missing: list[str]  # names of clips without a file
    ambiguous: dict[str, list[str]] = field(default_factory=dict)  # name -> files, for names with several files


def find(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        ValueError: unknown name
    """
    if name not in PRESETS:
        raise ValueError(
            f"no data preset {name!r}{did_you_mean(name, list(PRESETS))} (available: {', '.join(PRESETS)})"
        )
    return PRESETS[name]


def names_of(preset: Preset, listed: str = "") -> list[str]:
    """The names of the clips of a preset.

    Args:
        listed: path of the published list, for presets that choose from a list

    Raises:
        ValueError: the list is missing, invalid, unused by this preset, or has fewer names than the preset chooses
        OSError: the list cannot be read
    """
    if preset.names:
        if listed:
            raise ValueError(f"--list {listed}: this preset names its clips itself; remove --list")
        return list(preset.names)
    if not listed:
        raise ValueError(f"this preset is chosen from a published list: add --list FILE, with {preset.source}")
    names = list(dict.fromkeys(_from_csv(preset, listed) if preset.column else _from_text(listed)))
    if not names:
        raise ValueError(f"{listed}: names no clip; expected {preset.source}")
    if preset.count > len(names):
        clips = "1 clip" if len(names) == 1 else f"{len(names)} clips"
        raise ValueError(f"{listed}: has {clips}, {preset.count} are to be chosen; expected {preset.source}")
    return select(names, preset.count, preset.seed) if preset.count else names


def select(names: Iterable[str], count: int, seed: int) -> list[str]:
    """The `count` names with the smallest sha256 of "<seed> <name>", in that order; it does not depend on the order of `names`."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).hexdigest())[:count]


def _from_csv(preset: Preset, listed: str) -> Iterable[str]:
    import ast

    for row in manifest.table(listed, [preset.column, *([preset.cuts] if preset.cuts else [])]):
        video = row[preset.column]
        if not preset.cuts:
            yield video
            continue
        try:
            cuts = len(ast.literal_eval(row[preset.cuts]))
        except (ValueError, SyntaxError, TypeError):
            raise ValueError(
                f"{listed}: {preset.cuts} {row[preset.cuts]!r} of {video} should be a list of cuts"
            ) from None
        yield from (f"{video}_{cut:05d}" for cut in range(cuts))


def _from_text(listed: str) -> Iterable[str]:
    """Paths without extension, one per line.  Comments (#) and lines with a comma are skipped."""
    with manifest.opened(listed, "a text with a path in each line") as text:
        for line in map(str.strip, text):
            if line and not line.startswith("#") and "," not in line:
                path = PurePosixPath(line)
                yield (path.with_suffix("") if path.suffix.lower() in manifest.EXTENSIONS else path).as_posix()


def rows(preset: Preset, names: Sequence[str], root: str | Path) -> Found:
    """The clips called `names` below `root`, in the order of `names`.

    Raises:
        OSError: the folder cannot be read
    """
    wanted = set(names)
    files: dict[str, list[str]] = {}
    for file in _folders(root) if preset.images else (row.file for row in manifest.scan(root)):
        for name in _names(preset, Path(root), file, wanted):
            files.setdefault(name, []).append(file)
    chosen = [Row(name, files[name][0]) for name in names if len(files.get(name, [])) == 1]
    missing = [name for name in names if name not in files]
    return Found(chosen, missing, {name: files[name] for name in names if len(files.get(name, [])) > 1})


def pattern(preset: Preset, name: str) -> str:
    """The file names that match the clip `name`, for messages; other extensions of videos are valid too."""
    own = f"{name}.mp4"
    return f"{own}, in any folder" if preset.cuts else f"{own} or {name}_*.mp4, in any folder"


def _folders(root: str | Path) -> list[str]:
    """The folders with images below `root`."""
    return sorted({PurePosixPath(file).parent.as_posix() for file in manifest.walk(root, IMAGES)})


def _names(preset: Preset, root: Path, file: str, wanted: set[str]) -> set[str]:
    """The names among `wanted` that a file matches."""
    if preset.cuts:
        return {video2dataset.clip_name(root, file)} & wanted
    parts = (PurePosixPath(file) if preset.images else PurePosixPath(file).with_suffix("")).parts
    ends = {"/".join(parts[start:]) for start in range(len(parts))}
    if not preset.images:
        ends |= {parts[-1][:at] for at, letter in enumerate(parts[-1]) if letter == "_"}
    return ends & wanted
