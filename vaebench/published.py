"""Numbers published in papers, with protocol and source.  They are labelled as published and never mixed with measured ones.

`reference/published.csv` has the columns model, variant, dataset, protocol, metric, value, source and grade.  Grade A: from the
authors' paper or repository; B: from a copy; C: from a comment.  Compare values only if dataset, protocol and metric are equal.
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
    """The rows with these values of fields, such as `read(protocol="wfvae-paper", metric="psnr")`."""
    with FILE.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if all(row[key] == value for key, value in wanted.items())]
    return [Published(**{**row, "value": float(row["value"])}) for row in rows]  # type: ignore[arg-type]
