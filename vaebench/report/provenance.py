"""The origin of every number: scores in full precision, and the data, weights, settings, code and machine of their record."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vaebench import plot_style, protocol, published, records, tables
from vaebench.records import Record

Facts = list[tuple[str, str]]  # name and value, both for display


def of_record(root: Path, record: Record) -> dict[str, Any]:
    """A record as plain data for the page: its name, its command, and groups of facts."""
    file = records.file_of(root, record)
    return {
        "vae": record.name,
        "label": plot_style.vae_name(record),
        "suite": record.suite,
        "setting": record.setting,
        "file": file.relative_to(root).as_posix(),
        "command": f"vaebench run --config {shlex.quote(file.as_posix())}",
        "groups": [
            ("VAE", _vae(record)),
            ("Data", _flat(record.data)),
            ("Protocol", _protocol(record)),
            ("Settings", _flat(record.config)),
            ("Code", _code(record)),
            ("Machine", _flat({k: v for k, v in record.machine.items() if k not in ("commit", "dirty", "packages")})),
            ("Libraries", _flat(record.machine.get("packages", {}))),
        ],
        "published": _published(record),
        "absent": [{"metric": metric, "reason": reason} for metric, reason in record.absent.items()],
        "failed": [{"case": failure.case, "reason": failure.reason} for failure in record.failed],
        "scores": {key: _score(score) for key, score in record.scores.items()},
    }


def _published(record: Record) -> dict[str, Facts]:
    """Metric -> published numbers of the same VAE and kind of metric, each with its source and the choices that differ."""
    facts: dict[str, Facts] = {}
    for pair in published.beside([record]):
        differs = f"differs in {', '.join(pair.differs)}" if pair.differs else "equal choices"
        text = f"{pair.published:g} {pair.published_metric} on {pair.dataset}; {differs}; {pair.source}, grade {pair.grade}"
        facts.setdefault(pair.metric, []).append((pair.protocol, text))
    return facts


def _score(score: records.Score) -> dict[str, Any]:
    """The fields of a score that a reader needs; numbers in full precision."""
    return {
        "metric": score.metric,
        "condition": score.label,
        "shown": f"{tables.show(score)} {tables.SHOWN.get(score.unit, (score.unit, 1))[0]}".strip(),
        "value": score.value,
        "unit": score.unit,
        "better": score.better,
        "n": score.n,
        "stderr": score.stderr,
        "low": score.low,
        "high": score.high,
        "status": score.status,
        "note": score.note,
    }


def _vae(record: Record) -> Facts:
    vae = dict(record.vae)
    weights = vae.pop("weights", "")
    first = {"name": record.name, "weights": f"sha256 {weights}" if len(weights) == 64 else weights}
    shown = ("mode", "license", "reference", "source", "config_sha256", "temporal_compression", "spatial_compression",
             "latent_channels", "parameters", "causal", "note")  # fmt: skip
    return _flat({**first, **{key: vae[key] for key in shown if key in vae}})


def _protocol(record: Record) -> Facts:
    """The choices of the protocol by which clips were scored; other suites than these two have none."""
    name = record.config.get("protocol")
    if record.suite not in ("reconstruction", "blockwise") or name not in protocol.names():
        return []
    # the metrics that were computed are the scores of the record, and settings override posterior and dtype
    choices = {key: value for key, value in asdict(protocol.load(name)).items() if key != "metrics"}
    overridden = {key: record.config[key] for key in ("posterior", "dtype") if record.config.get(key)}
    return _flat({**choices, **overridden})


def _code(record: Record) -> Facts:
    commit = str(record.machine.get("commit") or "unknown")
    state = " with uncommitted changes" if record.machine.get("dirty") else ""
    facts = {"commit": commit + state, "fingerprint": record.fingerprint, "created": record.created}
    return _flat({**facts, "schema": record.schema})


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Facts:
    """Nested values as (dotted name, text); empty values are left out, because they say nothing."""
    facts: Facts = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            facts += _flat(value, f"{prefix}{key}.")
        elif value not in ("", None, []):
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            text = {"True": "yes", "False": "no"}.get(text, text)
            facts.append((f"{prefix}{key}", text))
    return facts
