"""Numbers published in papers, with protocol and source, and the numbers measured here beside them, never in one column.

`reference/published.csv` has the columns model, variant, dataset, protocol, metric, value, source and grade.  Grade A: from the
authors' paper or repository; B: from a copy; C: from a comment.  `reference/published_names.csv` has the model and variant under
which a VAE of `vaebench list adapters` was published.  Compare values only if dataset, protocol and metric are equal; `beside` says
what differs.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from vaebench import protocol
from vaebench.plugins import did_you_mean
from vaebench.records import Record, Score

FILE = Path(__file__).parent / "reference" / "published.csv"
NAMES = FILE.with_name("published_names.csv")
FORMATS = ("text", "markdown", "csv", "json")
# published metric -> ours, within the protocols that vaebench reproduces
SAME = {
    "wfvae-paper": {"psnr": "psnr", "ssim": "ssim", "lpips[alex]": "lpips", "i3d_l2(paper:FVD)": "i3d_l2"},
    "vidtok": {"psnr": "psnr_eps8", "ssim[g11;pool]": "ssim_pooled", "lpips[vgg]": "lpips_vgg", "fvd": "fvd"},
    "tokenbench": {
        "psnr[pooled]": "psnr_tokenbench",
        "ssim[uniform7]": "ssim_uniform7",
        "fvd[sgv-i3d;N=500;<=300f]": "fvd",
    },
}
# letters and digits of the name of a data source, manifest or folder -> the published data sets that it contains
DATA_SETS = {
    "webvid": ("WebVid-10M", "WebVid-val"),  # its list of videos is that of the validation set
    "webvid1000": ("WebVid-10M", "WebVid-val"),
    "webvid10m": ("WebVid-10M",),
    "webvidval": ("WebVid-val",),
    "panda70m": ("Panda-70M",),
    "panda70m1000": ("Panda-70M",),
    "ucf101": ("UCF-101",),
    "skytimelapse": ("SkyTimelapse",),
    "mcljcv": ("MCL-JCV", "MCL-JCV 33x360x640"),
    "tokenbench": ("TokenBench",),
}
FAMILIES = ("psnr", "ssim", "lpips", "fvd")  # metrics of reconstruction; each has several definitions
ALIASES = {"i3d_l2": "fvd", "rfvd": "fvd"}  # published under the name FVD


@dataclass(frozen=True)
class Published:
    model: str
    variant: str
    dataset: str
    protocol: str
    metric: str
    value: float
    source: str
    grade: str


@dataclass(frozen=True)
class Beside:
    """A score measured here and a published number of the same VAE and the same kind of metric."""

    vae: str
    metric: str
    here: float
    unit: str
    published: float
    difference: float  # here minus published
    differs: tuple[str, ...]  # choices that differ; empty: protocol, metric, data set, clips and clip shape are equal
    dataset: str
    protocol: str
    published_metric: str
    source: str
    grade: str


def read(**wanted: str) -> list[Published]:
    """The rows with these values of fields, such as `read(protocol="wfvae-paper", metric="psnr")`."""
    with FILE.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if all(row[key] == value for key, value in wanted.items())]
    return [Published(**{**row, "value": float(row["value"])}) for row in rows]  # type: ignore[arg-type]


def of_vae(name: str) -> list[Published]:
    """The rows of a VAE.

    Args:
        name: family/variant or family, as in `vaebench list adapters`; or a published model, such as "LeanVAE", in any case

    Raises:
        ValueError: no number is published under this name
    """
    rows, named = read(), _names()
    wanted = {key for vae, keys in named.items() if name in (vae, vae.partition("/")[0]) for key in keys}
    found = [row for row in rows if (row.model, row.variant) in wanted or row.model.lower() == name.lower()]
    if not found:
        models = dict.fromkeys(row.model for row in rows)
        near = did_you_mean(name, [*named, *models])
        raise ValueError(
            f"no published numbers of {name!r}{near} (VAEs: {', '.join(named)}; models: {', '.join(models)})"
        )
    return found


def reconstruction_of(names: Iterable[str]) -> list[Published]:
    """The published numbers of reconstruction of some VAEs; a VAE without any has no row."""
    rows, named = read(), _names()
    wanted = {key for name in names for key in named.get(name, ())}
    return [row for row in rows if (row.model, row.variant) in wanted and family(row.metric) is not None]


def vae_of(model: str, variant: str) -> str:
    """The VAE of `vaebench list adapters` that was published under this name."""
    return next(vae for vae, keys in _names().items() if (model, variant) in keys)


def beside(records: Iterable[Record]) -> list[Beside]:
    """Each score of each record with every published number of the same VAE and the same kind of metric.

    A user checkpoint is not a published VAE and has none.  Differences are listed, not corrected.
    """
    rows, named = read(), _names()
    pairs = []
    for record in records:
        keys = named.get(record.name, ())
        for row in rows:
            if (row.model, row.variant) not in keys or (kind := family(row.metric)) is None:
                continue
            for score in record.scores.values():
                if score.value is None or score.condition or score.signed or family(score.metric) != kind:
                    continue
                pairs.append(_pair(record, score, row))
    return pairs


def _pair(record: Record, score: Score, row: Published) -> Beside:
    assert score.value is not None
    about = (row.dataset, row.protocol, row.metric, row.source, row.grade)
    return Beside(record.name, score.metric, score.value, score.unit, row.value, score.value - row.value,
                  tuple(_differing(record, score, row)), *about)  # fmt: skip


def _differing(record: Record, score: Score, row: Published) -> list[str]:
    """The choices in which a score differs from a published number, such as "protocol" and "data set"."""
    ours = str(record.config.get("protocol", "default"))
    differing = ["protocol"] if ours != row.protocol else []
    if SAME.get(row.protocol, {}).get(row.metric) != score.metric:
        differing.append("metric")
    if row.dataset not in _data_sets(record):
        differing.append("data set")
    if record.config.get("clips"):
        differing.append("clips")
    theirs = protocol.load(row.protocol) if row.protocol in protocol.names() else None
    if theirs is None or theirs.clip != f"{record.config.get('num_frames')}x{record.config.get('size')}":
        differing.append("clip shape")
    given = {name: record.config.get(name) for name in ("posterior", "dtype")}
    differing += [name for name, chosen in given.items() if chosen and chosen != getattr(theirs, name, None)]
    return differing + (["mode"] if record.config.get("mode") else [])


def _data_sets(record: Record) -> tuple[str, ...]:
    """The published data sets that the clips of a record come from; empty for all other data."""
    source, name = str(record.config.get("data", "")), str(record.data.get("name", ""))
    stem = re.sub(r"_[0-9a-f]{6}$", "", name)  # without the digits that `file_source.marked` adds
    # a source of a data set may add the name of its list
    known = source if stem == source or stem.startswith(f"{source}_") else stem
    return DATA_SETS.get(_letters(known), ())


def family(metric: str) -> str | None:
    """The kind of a published or measured metric: "lpips[alex]" and "lpips_vgg" are both "lpips"."""
    base = metric.partition("[")[0].partition("(")[0]
    base = ALIASES.get(base, base)
    if metric.startswith("i3d_l2"):
        return "fvd"
    if ":" in base:  # another condition, such as "psnr:blockwise"
        return None
    return next((kind for kind in FAMILIES if base == kind or base.startswith(f"{kind}_")), None)


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


@cache
def _names() -> dict[str, list[tuple[str, str]]]:
    """VAE -> (model, variant) of its rows."""
    names: dict[str, list[tuple[str, str]]] = {}
    with NAMES.open(newline="") as stream:
        for row in csv.DictReader(stream):
            names.setdefault(row["vae"], []).append((row["model"], row["variant"]))
    return names


def listed(rows: Sequence[Published], form: str = "text") -> str:
    """Published rows as text that ends with a newline.

    Args:
        form: one of FORMATS
    """
    if form == "json":
        return json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    header = [field.name for field in fields(Published)]
    return _table(
        header, [[f"{v:g}" if isinstance(v, float) else v for v in asdict(row).values()] for row in rows], form
    )


def beside_table(pairs: Sequence[Beside], form: str = "text") -> str:
    """The pairs of `beside` as text that ends with a newline: measured and published values in columns of their own.

    Args:
        form: one of FORMATS
    """
    if form == "json":
        return json.dumps([asdict(pair) for pair in pairs], indent=1) + "\n"
    header = ["VAE", "metric", "measured here", "published", "difference", "comparable", "data set", "protocol",
              "published metric", "source", "grade"]  # fmt: skip
    rows = [
        [pair.vae, pair.metric, f"{pair.here:.4g} {pair.unit}".strip(), f"{pair.published:.4g}", f"{pair.difference:+.3g}",
         f"no: other {', '.join(pair.differs)}" if pair.differs else "yes, if the clips are the same",
         pair.dataset, pair.protocol, pair.published_metric, pair.source, pair.grade]
        for pair in pairs
    ]  # fmt: skip
    return _table(header, rows, form)


def _table(header: list[str], rows: list[list[str]], form: str) -> str:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=header)
    if form == "csv":
        return frame.to_csv(index=False, lineterminator="\n")
    style = {"text": "simple", "markdown": "pipe"}[form]
    return frame.to_markdown(index=False, tablefmt=style, disable_numparse=True) + "\n"
