"""A record is a self-contained result: scores with unit, direction and n; VAE, data, settings, machine, failures.

Each record is a JSON file `<results>/<suite>/<setting>/<family>-<variant>.json`; the scores of single clips are in `.clips.csv`
in the same folder.  Numbers are stored in full precision and rounded only for display.
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
BITS = "bits_per_pixel"  # score of a video codec: bits of the compressed clip, divided by the pixels of all its frames
FEWEST = 3  # smallest number of clips with an interval
# required members of "vae" and their types; the numbers are None for videos that were made elsewhere (`vaebench score`)
VAE = {"family": str, "variant": str, "name": str, "weights": str,
       **dict.fromkeys(("temporal_compression", "spatial_compression", "latent_channels"), int | None)}  # fmt: skip
# records that differ in one of these fields are different results and never replace each other
IDENTITY = (("vae", "name"), ("vae", "weights"), ("vae", "config_sha256"), ("data", "name"), ("data", "sha256"))
Better = Literal["higher", "lower", "neither"]
# "ok": the score has a value; otherwise the reason why it has none
Status = Literal["ok", "out of memory", "too few clips", "undefined", "unavailable", "not applicable"]


@dataclass(frozen=True)
class Score:
    """The value of a metric under a condition, such as {"mode": "streamed"} or {"dtype": "float32", "frames": 5, "size": 64}.

    `low` and `high` are the ends of the 95 % interval, or None if there is no interval.  For a mean over clips, the interval is
    Student's (`interval`); for a Fréchet distance, it comes from resampled sets; for a correlation, it is Student's of Fisher's z;
    for a time, it is that of the median.

    Raises:
        ValueError: the score has a value and a status other than "ok", or no value and the status "ok"
    """

    value: float | None  # None if `status` is not "ok"; `note` then gives the reason
    unit: str
    better: Better
    n: int
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    signed: bool = False  # a change: tables show its sign
    note: str = ""  # warning for readers, such as "n < 256: biased upwards"
    metric: str = field(kw_only=True)
    condition: Mapping[str, str | int] = field(
        default_factory=dict, kw_only=True
    )  # empty in suites with a single condition
    status: Status = field(default="ok", kw_only=True)

    def __post_init__(self) -> None:
        for name in ("value", "stderr", "low", "high"):  # of NumPy's types, too, which JSON does not know
            if (number := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(number))
        if (self.value is None) == (self.status == "ok"):
            raise ValueError(
                f"{self.key} has the value {self.value} and the status {self.status!r}: a score has a value if and only if its "
                "status is 'ok'"
            )

    @property
    def label(self) -> str:
        """The condition for display, such as "streamed" or "float32 5x64"; "" if there is none.  Programs read `condition`."""
        shape = [str(self.condition[name]) for name in ("frames", "size") if name in self.condition]
        words = [str(value) for name, value in self.condition.items() if name not in ("frames", "size")]
        return " ".join([*words, *(["x".join(shape)] if len(shape) == 2 else [f"{side} px" for side in shape])])

    @property
    def key(self) -> str:
        """The key in `Record.scores`, such as "psnr", "psnr@streamed" or "encode_s@float32 5x64"."""
        return f"{self.metric}@{self.label}" if self.condition else self.metric


def by_key(scores: Iterable[Score]) -> dict[str, Score]:
    """The scores by their key, as `Record.scores` stores them."""
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
    ]  # the spec, sha256 of weights ("weights") and config ("config_sha256"), and the inference mode ("mode")
    data: dict[str, Any]  # identity of the data source, and the padding of clips
    config: dict[str, Any]  # settings of the run: `vaebench run --config <this file>` repeats it
    setting: str
    scores: dict[str, Score]  # by `Score.key`
    absent: dict[str, str]  # metric -> reason why it is unavailable
    failed: list[Failure]
    machine: dict[str, Any]
    fingerprint: str
    created: str  # ISO 8601, UTC
    schema: int = SCHEMA
    extra: dict[str, Any] = field(default_factory=dict)  # curves and profiles for figures
    columns: list[str] = field(default_factory=list)  # metrics in printed tables; empty: all
    # metric -> 8 hex digits of the sha256 of its code; empty in older records
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name in tables and file names: "wan/2.1", or "wan/2.1 (ft-last-1a2b3c)" for a user checkpoint."""
        return str(self.vae.get("name") or f"{self.vae['family']}/{self.vae['variant']}")

    @property
    def mode(self) -> str:
        """The inference mode; old records have it only in their config."""
        return str(self.vae.get("mode") or self.config.get("mode") or "whole")


def interval(scores: NDArray) -> tuple[float | None, float | None, float | None]:
    """(N,) scores of clips -> (standard error, low, high) of their mean, with Student's 95 % interval.

    results/benchmarks/interval_coverage.json has its coverage and that of alternatives (tests/benchmarks/coverage.py).
    Two clips give a standard error but no interval, since with one degree of freedom it would extend 13 standard errors to each
    side.  One clip gives neither: all three are None.
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
    """16 hex digits of the sha256 of `facts`, independent of the order of keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def record_path(root: Path, suite: str, setting: str, name: str) -> Path:
    """The file of a record below the results folder `root`."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
    return root / file_name(suite) / file_name(setting) / f"{file_name(stem)}.json"


def file_of(root: Path, record: Record) -> Path:
    """The file of `record` below the results folder `root`."""
    return record_path(root, record.suite, record.setting, record.name)


def invalid(root: Path, record: Record, reason: str) -> ValueError:
    """The error for a record with content that is invalid for its suite; `reason` names the field."""
    return ValueError(f"{file_of(root, record)} is not a valid record of suite {record.suite}: {reason}")


class ReplaceError(ValueError):
    """A record may not be written because it would replace another result; the message names the file and the remedy."""


def check_replaceable(file: Path, vae: Mapping[str, Any], data: Mapping[str, Any]) -> Record | None:
    """The record in `file`, which a new record may replace; None if there is no file.

    Raises:
        ReplaceError: `file` is not a record, or is the record of another VAE, other weights or other data
    """
    pictures = file.with_suffix(".frames")
    if not file.exists():
        if pictures.exists():  # the pictures would become part of the new record
            raise ReplaceError(f"{pictures} contains pictures of a deleted record: move or delete the folder")
        return None
    remedy = f"move or delete it{' and its .frames folder' if pictures.exists() else ''}, or choose another folder with results=DIR"
    try:
        old = read(file)
    except ValueError as reason:
        raise ReplaceError(f"{reason}; {remedy}") from None
    before, after = {"vae": old.vae, "data": old.data}, {"vae": vae, "data": data}
    for part, key in IDENTITY:
        if key in before[part] and before[part][key] != after[part].get(key):
            raise ReplaceError(
                f"{file} is a different result: its {part}.{key} is {before[part][key]!r}, that of this run is "
                f"{after[part].get(key)!r}; {remedy}"
            )
    return old


def write(record: Record, root: Path, clips: Mapping[str, Mapping[str, float]]) -> Path:
    """Write a record.

    Args:
        root: the results folder
        clips: clip id -> its scores, written to `.clips.csv`; empty if clips have no scores

    Returns:
        the path of the JSON file

    Raises:
        ValueError: a score is not finite, or the record of another VAE or other data would be replaced; nothing is written
    """
    file = file_of(root, record)
    if non_finite := [name for name, score in record.scores.items() if not np.isfinite(score.value or 0)]:
        raise ValueError(f"{record.name}: {', '.join(non_finite)} is NaN or infinite; no record was written")
    check_replaceable(file, record.vae, record.data)
    text = json.dumps(asdict(record), indent=1, default=str, allow_nan=False) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    if clips:
        write_atomically(file.with_suffix(".clips.csv"), _clips_csv(clips))
    else:  # the scores of an earlier version of this record are out of date
        file.with_suffix(".clips.csv").unlink(missing_ok=True)
    write_atomically(file, text)
    return file


def read(file: Path) -> Record:
    """Read a record; schema 1 is upgraded to the current schema.

    Raises:
        ValueError: a field is missing or has the wrong type; the message names the file and the field
    """
    try:
        data = read_json(file)
        if data.get("schema") == 1:
            data = upgraded(data)
        if data.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {data.get('schema')!r}, expected 1 or {SCHEMA}")
        record: Record = typed(Record, data, "")
        for key, score in record.scores.items():
            if key != score.key:
                raise ValueError(f"the key scores.{key} should be {score.key!r}, as its metric and condition say")
        members(VAE, record.vae, "vae")
        for key in ("temporal_compression", "spatial_compression", "latent_channels"):
            if record.vae[key] is not None and record.vae[key] < 1:
                raise ValueError(f"vae.{key} should be 1 or more, not {record.vae[key]}")
        for key in ("suite", "setting"):
            if not re.fullmatch(r"(?!\.\.?$)[^/\\\0]+", getattr(record, key)):
                raise ValueError(f"{key} should be the name of a folder, not {getattr(record, key)!r}")
    except ValueError as reason:
        raise ValueError(f"{file} is not a record of vaebench: {reason}") from None
    return record


def read_all(root: Path, suite: str | None = None) -> Iterator[Record]:
    """Yield all records below `root`, or those of one suite, sorted by path.

    Raises:
        ValueError: a record is invalid, or is not at the path that its fields define, so that its clips and pictures would
            be those of another record
    """
    for file in sorted((root / suite if suite else root).glob("*/*.json" if suite else "*/*/*.json")):
        record = read(file)
        expected = file_of(root, record)
        if file != expected:
            raise ValueError(
                f"{file} is not at the path of its fields suite, setting and vae.name: move it to {expected}"
            )
        yield record


def read_clips(root: Path, record: Record) -> dict[str, dict[str, float]]:
    """`clips_beside` the file of `record` below the results folder `root`."""
    return clips_beside(file_of(root, record))


def clips_beside(record: Path) -> dict[str, dict[str, float]]:
    """Clip id -> its scores; {} if there is no `.clips.csv` beside the JSON file `record`.

    Raises:
        ValueError: the file is invalid; the message names file, line and column
    """
    file = record.with_suffix(".clips.csv")
    if not file.is_file():
        return {}
    clips: dict[str, dict[str, float]] = {}
    try:
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            rows = csv.DictReader(stream)
            for row in rows:
                if None in row or None in row.values() or "clip" not in row:
                    raise ValueError(f"line {rows.line_num} should have the columns of the first line, clip included")
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
