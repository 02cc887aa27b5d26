"""The HTML of the report: parts as plain data, a template, and a policy that lets only the page's own script run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vaebench import __version__, listing, plugins
from vaebench.records import Record
from vaebench.report import charts, clips, figures, provenance, tables
from vaebench.tables import grouped

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("page.js", "tables.js", "chart.js", "charts.js", "player.js")  # in the order in which they run


def render(root: Path, everything: Sequence[Record], say: Callable[[str], object]) -> str:
    """The report as one HTML document.

    Args:
        root: the results folder
        everything: its records
        say: called with a message for each figure that is incomplete
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    everything = [record for group in grouped(everything).values() for record in group]
    index = {id(record): i for i, record in enumerate(everything)}
    missing: list[str] = []

    def incomplete(message: str) -> None:
        missing.append(message)
        say(message)

    kept = clips.collect(root, everything, index)
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment.get_template("report.html").render(
        version=__version__,
        policy=_policy(script),
        script=script,
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        suites=_suites(everything, index),
        about={name: listing.first_sentence("suites", name) for name in plugins.names("suites")},
        overview=_overview(everything),
        drawings=[(kind, list(group)) for kind, group in groupby(figures.draw(root, incomplete), lambda d: d.kind)],
        missing=missing,
        films=kept.films,
        data=_json(
            {
                "records": [provenance.of_record(root, record) for record in everything],
                "bubbles": charts.bubbles(root, everything, index),
                "perClip": charts.per_clip(root, everything, index),
                "kept": kept.clips,
            }
        ),
        has_clips=bool(kept.clips),
    )


def _suites(everything: Sequence[Record], index: dict[int, int]) -> dict[str, list[tables.Table]]:
    suites: dict[str, list[tables.Table]] = {}
    for (suite, _), group in grouped(everything).items():
        suites.setdefault(suite, []).append(tables.build(group, index))
    return suites


def _overview(everything: Sequence[Record]) -> list[tuple[str, str]]:
    """Facts about all records: how many, of what, from when, by which code and machine."""
    dates = sorted(record.created[:10] for record in everything)
    commits = {str(record.machine.get("commit", ""))[:7] for record in everything} - {""}
    devices = {str(record.machine.get("device", "")) for record in everything} - {""}
    return [
        ("records", str(len(everything))),
        ("VAEs", str(len({record.name for record in everything}))),
        ("measured", dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"),
        ("devices", _listed(devices)),
        ("commits", _listed(commits)),
    ]


def _listed(names: set[str]) -> str:
    first = sorted(names)[:3]
    more = f" and {len(names) - len(first)} more" if len(names) > len(first) else ""
    return ", ".join(first) + more if first else "unknown"


def _policy(script: str) -> str:
    """A content security policy without any network, in which markup inside a name cannot run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def _code(text: str) -> Markup:
    """Escape a message and set its `commands` in code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 and i < len(parts) - 1 else part for i, part in enumerate(parts)
    )


def _json(data: Any) -> str:
    """JSON that is safe inside <script>: no `<`, so that no text can close the element."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
