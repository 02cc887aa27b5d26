"""Trainings of a second, and the curve that they log."""

from __future__ import annotations

import csv
from pathlib import Path

SHORT = [
    "initial=random",  # the start from wavelets, 64 clips through the network, has tests of its own
    "trainer.steps=4",
    "trainer.save_every=2",
    "trainer.validate_every=4",
    "trainer.discriminator_start=2",
    "data.size=16",
    "validation.num_frames=5",
    "validation.size=16",
    "validation.clips=1",
]


def curve(run: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    return [{name: value for name, value in row.items() if name != "clips_per_s"} for row in rows]
