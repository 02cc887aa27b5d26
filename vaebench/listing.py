"""The tables of `vaebench list`, made from specs and docstrings without importing torch."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import adapters
from vaebench import plugins, preset, protocol, weights
from vaebench.training.recipes import descriptions
from vaebench.vae import VAESpec


def columns(rows: list[list[str]]) -> str:
    """Rows of cells as text with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "".join("  ".join(cell.ljust(widths[i]) for i, cell in enumerate(row)).rstrip() + "\n" for row in rows)


HEADER = ["VAE", "r_t x r_s", "chn", "tcpr", "params", "causal", "frames", "modes", "reference mode", "licence"]


def _facts(spec: VAESpec) -> list[str]:
    return [
        spec.name,
        spec.compression,
        str(spec.latent_channels),
        str(spec.tcpr),
        f"{spec.parameters / 1e6:.1f} M" if spec.parameters else "-",
        "yes" if spec.causal else "no",
        str(spec.frames),
        ", ".join(spec.modes),
        spec.reference_mode,
        spec.license or "not stated",
    ]


def adapters_table() -> str:
    """Every VAE with the facts of its spec, and whether it is ready on this machine or how to get its weights."""
    rows = [[*HEADER, "ready"]]
    for name in adapters.names():
        vae = adapters.resolve(name)
        remedy, spec = vae.unavailable, vae.spec
        rows.append([*_facts(spec), f"no: {remedy}" if remedy else "ready"])
    return columns(rows)


def adapters_markdown() -> str:
    """The table results/vaes.md: the facts of each spec, with the source of the weights instead of the state of this machine."""
    rows = [[*HEADER, "weights"], ["---"] * (len(HEADER) + 1)]
    for name in adapters.names():
        spec = adapters.find(name)
        rows.append([*_facts(spec), _origin(spec)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _origin(spec: VAESpec) -> str:
    if spec.source.startswith(weights.UNRELEASED):
        return "never released"
    return f"`{spec.source}`" if spec.source else "none needed"


def modules_table(kind: str) -> str:
    """Name and first docstring line of every plug-in of a kind; modules of this package are not imported."""
    return columns([[name, first_sentence(kind, name)] for name in plugins.names(kind)])


def recipes_table() -> str:
    """Name and description of every recipe of `vaebench train`."""
    return columns([[name, what] for name, what in descriptions().items()])


def presets_text() -> str:
    """Every preset of `vaebench run`: what it measures, its source, and what it needs."""
    return "\n".join(_preset_text(name) for name in preset.names())


def _preset_text(name: str) -> str:
    one = preset.load(name)
    kinds = list(dict.fromkeys(run["suite"] for run in one.runs)) or ["train"]
    return f"{name}: {one.about}\n  source: {one.source}\n  runs: {', '.join(kinds)}\n  needs: {one.needs}\n"


def protocols_table() -> str:
    """Every protocol with its choices and the origin of them; a variant names the protocol that it differs from."""
    rows = [["protocol", "resize", "posterior", "dtype", "rounding", "codec", "metrics", "about", "source"]]
    for name in protocol.names():
        one = protocol.load(name)
        codec = one.codec if one.compressed == "both" else f"{one.codec} ({one.compressed})"
        codec = codec if one.input_codec == "none" else f"{codec}, {one.input_codec} (input)"
        source = f"variant of {one.base}" if one.base else one.source
        choices = [one.resize, one.posterior, one.dtype, one.rounding, codec, ",".join(one.metrics)]
        rows.append([name, *choices, one.about, source])
    return columns(rows)


def first_sentence(kind: str, name: str) -> str:
    """The first line of the docstring of a plug-in; the reason if one of another package cannot be imported."""
    try:
        module = importlib.util.find_spec(f"{plugins.PACKAGES[kind]}.{name}")
    except ModuleNotFoundError:
        module = None
    if module is None or module.origin is None:
        try:
            return (plugins.find(kind, name).__doc__ or "").strip().partition("\n")[0]
        except ValueError as reason:
            return f"unavailable: {reason}"
    doc = ast.get_docstring(ast.parse(Path(module.origin).read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]
