"""A result that can be believed on its own: score, unit, direction, n; VAE, data, settings, machine, failures.

One record is one JSON file, `results/<suite>/<setting>/<family>-<variant>.json`, with the scores of each clip beside it as
`.clips.csv`.  Numbers are stored raw and rounded only when printed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SCHEMA = 1
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Score:
    """`low` and `high` are the bootstrap 95 % interval over clips; None where a score has no spread over clips."""

    value: float | None  # None where `n` is too small for the score to mean anything; `note` says so
    unit: str
    better: Better
    n: int
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    signed: bool = False  # a change, whose sign is part of what it says
    note: str = ""  # what a reader must know before believing it: "n < 256: biased upwards"


@dataclass(frozen=True)
class Failure:
    case: str
    file: str
    reason: str


@dataclass(frozen=True)
class Record:
    suite: str
    suite_version: int
    vae: dict[str, Any]  # the spec; under "weights" the sha256 of what was loaded, under "mode" how it was run
    data: dict[str, Any]  # the source's identity and how clips were fitted to the VAE
    config: dict[str, Any]  # as the run was asked for: `vaebench run --config <this file>` runs it again
    setting: str
    scores: dict[str, Score]
    absent: dict[str, str]  # score -> why it is not there
    failed: list[Failure]
    machine: dict[str, Any]
    fingerprint: str
    created: str  # ISO 8601, UTC
    schema: int = SCHEMA
    extra: dict[str, Any] = field(default_factory=dict)  # curves and profiles that plots draw

    @property
    def name(self) -> str:
        """Of its row and its file: "wan/2.1", and "wan/2.1 (own weights)", which never takes the place of the release's."""
        return str(self.vae.get("name") or f"{self.vae['family']}/{self.vae['variant']}")

    @property
    def mode(self) -> str:
        """How the VAE was run; records from before reference modes name it in their config alone."""
        return str(self.vae.get("mode") or self.config.get("mode") or "whole")


def interval(scores: NDArray, resamples: int = 2000) -> tuple[float | None, float | None, float | None]:
    """(N,) one score per clip -> (standard error, low, high) of their mean: the percentile bootstrap 95 % interval.

    Clips are drawn with replacement from a fixed seed, so a table printed twice is the same.  Nothing for one clip.
    """
    if len(scores) < 2:
        return None, None, None
    draws = np.random.default_rng(0).integers(len(scores), size=(resamples, len(scores)))
    means = scores.astype(np.float64)[draws].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(scores.std(ddof=1) / np.sqrt(len(scores))), float(low), float(high)


def fingerprint(facts: Mapping[str, Any]) -> str:
    """16 hex digits of everything that could change a number; dictionaries in any order give the same."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def record_path(root: Path, suite: str, setting: str, name: str) -> Path:
    return root / suite / setting / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-')}.json"


def write(record: Record, root: Path, clips: Mapping[str, Mapping[str, float]]) -> Path:
    """Write the record and, where clips have scores of their own, its `.clips.csv`; returns the JSON's path.

    ValueError, and nothing is written, for a score that is no number.
    """
    file = record_path(root, record.suite, record.setting, record.name)
    if wrong := [name for name, score in record.scores.items() if not np.isfinite(score.value or 0)]:
        raise ValueError(f"{', '.join(wrong)} of {record.name} came out as NaN or infinite")
    text = json.dumps(asdict(record), indent=1, default=str, allow_nan=False) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    if clips:
        write_atomically(file.with_suffix(".clips.csv"), _clips_csv(clips))
    else:  # of an earlier run, which may have scored other things
        file.with_suffix(".clips.csv").unlink(missing_ok=True)
    write_atomically(file, text)
    return file


def pictures_folder(root: Path, record: Record) -> Path:
    return record_path(root, record.suite, record.setting, record.name).with_suffix(".frames")


def write_pictures(root: Path, record: Record, pictures: Mapping[str, NDArray]) -> None:
    """Kept frames, uint8 (2, n, H, W, 3) a case, as lossless `.frames/<case>.png`: reference above reconstruction."""
    from PIL import Image

    folder = pictures_folder(root, record)
    shutil.rmtree(folder, ignore_errors=True)  # pictures of an earlier run are not this one's
    for case, frames in pictures.items():
        folder.mkdir(parents=True, exist_ok=True)
        rows, count, height, width, _ = frames.shape
        sheet = frames.transpose(0, 2, 1, 3, 4).reshape(rows * height, count * width, 3)
        Image.fromarray(sheet).save(folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', case)}.png")


def read(file: Path) -> Record:
    """The record in `file`; ValueError naming the file if it is not one."""
    try:
        data = json.loads(file.read_text())
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}, this version reads {SCHEMA}")
        data["scores"] = {name: Score(**score) for name, score in data["scores"].items()}
        data["failed"] = [Failure(**failure) for failure in data["failed"]]
        return Record(**data)
    except (KeyError, TypeError, ValueError) as reason:
        raise ValueError(f"{file} is not a record of vaebench: {reason}") from None


def read_all(root: Path, suite: str | None = None) -> Iterator[Record]:
    """Every record below `root`, sorted by path; those of one suite if it is named."""
    for file in sorted((root / suite if suite else root).glob("*/*.json" if suite else "*/*/*.json")):
        yield read(file)


def read_clips(root: Path, record: Record) -> dict[str, dict[str, float]]:
    """Clip id -> its scores; {} where the record has no `.clips.csv`."""
    file = record_path(root, record.suite, record.setting, record.name).with_suffix(".clips.csv")
    if not file.is_file():
        return {}
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {row.pop("clip"): {key: float(value) for key, value in row.items() if value} for row in rows}


def write_atomically(file: Path, text: str) -> None:
    """`text` into `file`, by renaming: a reader, or a kill, sees the old file or the new one."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".part", delete=False) as part:
        try:
            part.write(text)
            part.flush()
            os.fsync(part.fileno())
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    os.chmod(part.name, 0o644)  # a temporary file is private; a record is not
    Path(part.name).replace(file)


def _clips_csv(clips: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(column for scores in clips.values() for column in scores))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["clip", *columns])
    rows.writerows([clip, *(scores.get(column, "") for column in columns)] for clip, scores in clips.items())
    return text.getvalue()
