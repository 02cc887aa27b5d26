"""A result that can be believed on its own: score, unit, direction, n; VAE, data, settings, machine, failures.

One record is one JSON file, `<results>/<suite>/<setting>/<family>-<variant>.json`, with the scores of each clip beside it as
`.clips.csv`.  Numbers are stored raw and rounded only when printed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vaebench.files import file_name, write_atomically
from vaebench.schema1 import upgraded
from vaebench.typed import members, read_json, typed

SCHEMA = 2
FEWEST = 3  # clips: no interval is printed for fewer
# what every reader of a record relies on, of the members of its "vae"
VAE = {"family": str, "variant": str, "name": str, "weights": str,
       "temporal_compression": int, "spatial_compression": int, "latent_channels": int}  # fmt: skip
# two records with other values here are results of other things, and neither may take the place of the other
IDENTITY = (("vae", "name"), ("vae", "weights"), ("vae", "config_sha256"), ("data", "name"), ("data", "sha256"))
Better = Literal["higher", "lower", "neither"]
# why a score has no value; "ok": it has one
Status = Literal["ok", "out of memory", "too few clips", "undefined", "unavailable"]


@dataclass(frozen=True)
class Score:
    """The value of a metric under a condition, such as {"mode": "streamed"} or {"dtype": "float32", "frames": 5, "size": 64}.

    `low` and `high` are the ends of the 95 % interval; None where there is none, and the table shows the bare value.  Of a mean
    over clips it is Student's (`interval`), of a Fréchet distance that of resampled sets, of a time that of the median.

    Raises:
        ValueError: a value with another status than "ok", or no value with status "ok"
    """

    value: float | None  # None where `status` is not "ok"; `note` gives the details
    unit: str
    better: Better
    n: int
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    signed: bool = False  # a change, whose sign is part of what it says
    note: str = ""  # what a reader must know before believing it: "n < 256: biased upwards"
    metric: str = field(kw_only=True)
    condition: Mapping[str, str | int] = field(default_factory=dict, kw_only=True)  # empty in suites that measure one
    status: Status = field(default="ok", kw_only=True)

    def __post_init__(self) -> None:
        for name in ("value", "stderr", "low", "high"):  # of NumPy's types, too, which JSON does not know
            if (number := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(number))
        if (self.value is None) == (self.status == "ok"):
            raise ValueError(
                f"{self.key} has the value {self.value} and the status {self.status!r}, which exclude each other"
            )

    @property
    def label(self) -> str:
        """The condition in words: "streamed", "float32 5x64", "" without one.  For display; readers use `condition`."""
        shape = [str(self.condition[name]) for name in ("frames", "size") if name in self.condition]
        words = [str(value) for name, value in self.condition.items() if name not in ("frames", "size")]
        return " ".join([*words, *(["x".join(shape)] if len(shape) == 2 else [f"{side} px" for side in shape])])

    @property
    def key(self) -> str:
        """Its key in `Record.scores`: "psnr", "psnr@streamed", "encode_s@float32 5x64"."""
        return f"{self.metric}@{self.label}" if self.condition else self.metric


def by_key(scores: Iterable[Score]) -> dict[str, Score]:
    return {score.key: score for score in scores}


@dataclass(frozen=True)
class Failure:
    case: str
    file: str
    reason: str


@dataclass(frozen=True)
class Record:
    suite: str
    vae: dict[
        str, Any
    ]  # the spec; "weights" and "config_sha256" are the sha256 of what was loaded, "mode" is how it was run
    data: dict[str, Any]  # the source's identity and how clips were fitted to the VAE
    config: dict[str, Any]  # as the run was asked for: `vaebench run --config <this file>` runs it again
    setting: str
    scores: dict[str, Score]  # by `Score.key`
    absent: dict[str, str]  # metric -> why it is unavailable
    failed: list[Failure]
    machine: dict[str, Any]
    fingerprint: str
    created: str  # ISO 8601, UTC
    schema: int = SCHEMA
    extra: dict[str, Any] = field(default_factory=dict)  # curves and profiles that plots draw
    columns: list[str] = field(default_factory=list)  # metrics that a printed table shows; empty: all

    @property
    def name(self) -> str:
        """Of its row and its file: "wan/2.1", and "wan/2.1 (ft-last-1a2b3c)" for a user checkpoint."""
        return str(self.vae.get("name") or f"{self.vae['family']}/{self.vae['variant']}")

    @property
    def mode(self) -> str:
        """How the VAE was run; records from before reference modes name it in their config alone."""
        return str(self.vae.get("mode") or self.config.get("mode") or "whole")


def interval(scores: NDArray) -> tuple[float | None, float | None, float | None]:
    """(N,) one score per clip -> (standard error, low, high) of their mean: Student's 95 % interval.

    Its coverage, and that of the alternatives, is in results/benchmarks/interval_coverage.json (tests/benchmarks/coverage.py).
    Two clips have a standard error but no interval: with one degree of freedom it is 13 standard errors wide on each side,
    whatever the VAE.  One clip has neither.
    """
    from scipy.stats import t

    n = len(scores)
    if n < 2:
        return None, None, None
    values = scores.astype(np.float64)
    mean, stderr = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    if n < FEWEST:
        return stderr, None, None
    half = float(t.ppf(0.975, n - 1)) * stderr
    return stderr, mean - half, mean + half


def fingerprint(facts: Mapping[str, Any]) -> str:
    """16 hex digits of everything that could change a number; dictionaries in any order give the same."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def record_path(root: Path, suite: str, setting: str, name: str) -> Path:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
    return root / file_name(suite) / file_name(setting) / f"{file_name(stem)}.json"


def file_of(root: Path, record: Record) -> Path:
    return record_path(root, record.suite, record.setting, record.name)


def invalid(root: Path, record: Record, reason: str) -> ValueError:
    """The error for a record that was read and whose content does not suit its suite; `reason` names the field."""
    return ValueError(f"{file_of(root, record)} is not a valid record of suite {record.suite}: {reason}")


def check_replaceable(file: Path, vae: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """ValueError if `file` is the record of another VAE, of other weights or of other data, or is not a record."""
    pictures = file.with_suffix(".frames")
    if not file.exists():
        if pictures.exists():  # this run would add to them, or leave them to its own record
            raise ValueError(f"{pictures} holds pictures of a record that is gone: move or delete it")
        return
    remedy = (
        f"move or delete it{' and its .frames' if pictures.exists() else ''}, or choose another folder with results=DIR"
    )
    try:
        old = read(file)
    except ValueError as reason:
        raise ValueError(f"{reason}; {remedy}") from None
    theirs, ours = {"vae": old.vae, "data": old.data}, {"vae": vae, "data": data}
    for part, key in IDENTITY:
        if key in theirs[part] and theirs[part][key] != ours[part].get(key):
            raise ValueError(
                f"{file} holds another result: its {part}.{key} is {theirs[part][key]!r}, this run's is "
                f"{ours[part].get(key)!r}; {remedy}"
            )


def write(record: Record, root: Path, clips: Mapping[str, Mapping[str, float]]) -> Path:
    """Write the record and, where clips have scores of their own, its `.clips.csv`; returns the JSON's path.

    ValueError, and nothing is written, for a non-finite score and where another VAE's or data's record would be replaced.
    """
    file = file_of(root, record)
    if wrong := [name for name, score in record.scores.items() if not np.isfinite(score.value or 0)]:
        raise ValueError(f"{', '.join(wrong)} of {record.name} came out as NaN or infinite")
    check_replaceable(file, record.vae, record.data)
    text = json.dumps(asdict(record), indent=1, default=str, allow_nan=False) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    if clips:
        write_atomically(file.with_suffix(".clips.csv"), _clips_csv(clips))
    else:  # scores of an earlier version of this record, which may have scored other things
        file.with_suffix(".clips.csv").unlink(missing_ok=True)
    write_atomically(file, text)
    return file


def pictures_folder(root: Path, record: Record) -> Path:
    return file_of(root, record).with_suffix(".frames")


def write_pictures(root: Path, record: Record, pictures: Mapping[str, NDArray]) -> None:
    """Kept frames, uint8 (2, n, H, W, 3) a case, as lossless `.frames/<case>.png`: reference above reconstruction.

    Pictures of other cases stay: another run with more of them, or a process that writes the same, may be at work.
    """
    from PIL import Image

    folder = pictures_folder(root, record)
    for case, frames in pictures.items():
        folder.mkdir(parents=True, exist_ok=True)
        rows, count, height, width, _ = frames.shape
        sheet = frames.transpose(0, 2, 1, 3, 4).reshape(rows * height, count * width, 3)
        content = io.BytesIO()
        Image.fromarray(sheet).save(content, "PNG")
        write_atomically(folder / f"{file_name(case)}.png", content.getvalue())


def read(file: Path) -> Record:
    """The record in `file`, of this schema or of schema 1.

    Raises:
        ValueError: naming the file, and the field that is missing or of another type
    """
    try:
        data = read_json(file)
        if data.get("schema") == 1:
            data = upgraded(data)
        if data.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {data.get('schema')!r}, this version reads 1 and {SCHEMA}")
        record: Record = typed(Record, data, "")
        for key, score in record.scores.items():
            if key != score.key:
                raise ValueError(f"scores.{key} should be called {score.key!r}, by its metric and condition")
        members(VAE, record.vae, "vae")
        for key in ("temporal_compression", "spatial_compression", "latent_channels"):
            if record.vae[key] < 1:
                raise ValueError(f"vae.{key} should be 1 or more, not {record.vae[key]}")
        for key in ("suite", "setting"):
            if not re.fullmatch(r"(?!\.\.?$)[^/\\\0]+", getattr(record, key)):
                raise ValueError(f"{key} should be the name of a folder, not {getattr(record, key)!r}")
    except ValueError as reason:
        raise ValueError(f"{file} is not a record of vaebench: {reason}") from None
    return record


def read_all(root: Path, suite: str | None = None) -> Iterator[Record]:
    """Every record below `root`, sorted by path; those of one suite if it is named.

    ValueError for a record outside its own place: its clips and pictures would be those of another record.
    """
    for file in sorted((root / suite if suite else root).glob("*/*.json" if suite else "*/*/*.json")):
        record = read(file)
        place = file_of(root, record)
        if file != place:
            raise ValueError(
                f"{file} says that it belongs at {place} (fields suite, setting and vae.name): move it there"
            )
        yield record


def read_clips(root: Path, record: Record) -> dict[str, dict[str, float]]:
    """Clip id -> its scores; {} where the record has no `.clips.csv`.  ValueError naming file, line and column."""
    file = file_of(root, record).with_suffix(".clips.csv")
    if not file.is_file():
        return {}
    clips: dict[str, dict[str, float]] = {}
    try:
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            rows = csv.DictReader(stream)
            for row in rows:
                if None in row or None in row.values() or "clip" not in row:
                    raise ValueError(f"line {rows.line_num} should have the columns clip and scores of the first line")
                scores = {key: _number(value, f"line {rows.line_num}, {key}") for key, value in row.items()
                          if key != "clip" and value}  # fmt: skip
                clips[row["clip"]] = scores
    except (ValueError, csv.Error) as reason:
        raise ValueError(f"{file} is not a list of scores by clip: {reason}") from None
    return clips


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where} should be a finite number, not {text!r}")
    return value


def _clips_csv(clips: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(column for scores in clips.values() for column in scores))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["clip", *columns])
    rows.writerows([clip, *(scores.get(column, "") for column in columns)] for clip, scores in clips.items())
    return text.getvalue()
