"""The papers' own numbers, with protocol and source: shown as published, beside ours, and never mixed with them.

`reference/published.csv`: model, variant, dataset, protocol, metric, value, source, grade.  Grade A was read in the authors'
paper or repository, B in a copy, C in a comment.  Two values are comparable only where dataset, protocol and metric agree.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "reference" / "published.csv"


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


def read(**wanted: str) -> list[Published]:
    """The rows whose fields equal `wanted`: `read(protocol="wfvae-paper", metric="psnr")`."""
    with FILE.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if all(row[key] == value for key, value in wanted.items())]
    return [Published(**{**row, "value": float(row["value"])}) for row in rows]  # type: ignore[arg-type]
