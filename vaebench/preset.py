"""A preset is a table or figure of a paper as settings of `vaebench run`, read from `vaebench/presets/`.

A preset is data: the settings of one or several runs, and the names of the figures that are drawn afterwards.  Figures of training
curves have trainings instead of runs.  Words on the command line override the settings of every run that uses them:
`vaebench run preset=wfvae-figure1 root=DIR` gives `root` to the reconstruction run only, since the efficiency suite reads no clips.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vaebench import plugins
from vaebench.config import RunConfig, parse_run
from vaebench.options import options_of
from vaebench.plugins import did_you_mean
from vaebench.settings import build, read_yaml, setting

FOLDER = Path(__file__).parent / "presets"
KEY = "preset="
SUITE = "suite="


@dataclass(frozen=True)
class Preset:
    """The content of a file in `vaebench/presets/`."""

    about: str  # what it measures, in one line
    source: str  # paper, and table or figure
    needs: str  # data, weights and machine
    runs: list[dict[str, Any]] = setting([], "settings of `vaebench run`, one mapping per run")
    train: list[str] = setting([], "arguments of `vaebench train`, one line per training, instead of runs")
    figures: list[str] = setting([], "figures of `vaebench plot` that are drawn from the records")


@dataclass(frozen=True)
class Chosen:
    """What a command line asks for: the settings of its runs, or the arguments of its trainings, and the preset, if any."""

    runs: list[RunConfig]
    trainings: list[list[str]]
    name: str = ""
    preset: Preset | None = None


def names() -> list[str]:
    """The names of all presets."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def load(name: str) -> Preset:
    """Load a preset by name.

    Raises:
        ValueError: the name is unknown (the message suggests the closest one), or the file is invalid
    """
    known = names()
    if name not in known:
        raise ValueError(f"no preset {name!r}{did_you_mean(name, known)} (available: {', '.join(known)})")
    return parse(name, read_yaml(FOLDER / f"{name}.yaml"))


def parse(name: str, data: Mapping[str, Any]) -> Preset:
    """Build a preset from the content of its file.

    Raises:
        ValueError: a key is unknown or missing, or the preset has no runs, or both runs and trainings
    """
    try:
        preset = build(Preset, data)
        if bool(preset.runs) == bool(preset.train):
            raise ValueError("expected either runs or train")
        if any("suite" not in run for run in preset.runs):
            raise ValueError("each run should name its suite")
    except ValueError as reason:
        raise ValueError(f"preset {name}: {reason}") from None
    return preset


def choose(words: Sequence[str], *, suite: str = "", file: str | None = None) -> Chosen:
    """The runs or trainings of the command line of `vaebench run`.

    Args:
        words: `key=value` each, one of them `preset=NAME` or none
        suite: name of the suite from `--suite`; of a preset, only the runs of this suite are chosen
        file: YAML file with settings, or the JSON file of a record, from `--config`

    Raises:
        ValueError: a preset or setting is unknown, a value is invalid, or the preset has no run of the suite
    """
    name = next((word.removeprefix(KEY) for word in reversed(words) if word.startswith(KEY)), "")
    own = [word for word in words if not word.startswith(KEY)]
    if not name:
        return Chosen([parse_run(own, suite=suite, file=file)], [])
    preset = load(name)
    if file is not None:
        raise ValueError(f"preset={name} and --config {file} both choose the settings of the run: give one of them")
    suite = next((word.removeprefix(SUITE) for word in reversed(own) if word.startswith(SUITE)), suite)
    own = [word for word in own if not word.startswith(SUITE)]
    if preset.train:
        if suite:
            raise ValueError(f"preset={name} trains networks and runs no suite: remove --suite {suite}")
        return Chosen([], [[*shlex.split(line), *own] for line in preset.train], name, preset)
    runs = [run for run in preset.runs if suite in ("", run["suite"])]
    if not runs:
        suites = ", ".join(dict.fromkeys(run["suite"] for run in preset.runs))
        raise ValueError(f"preset={name} has no run of --suite {suite} (it runs {suites})")
    configs = [parse_run(given, base=run) for run, given in zip(runs, _shared_out(runs, own), strict=True)]
    return Chosen(configs, [], name, preset)


def _shared_out(runs: Sequence[Mapping[str, Any]], words: Sequence[str]) -> Iterator[list[str]]:
    """The words for each run: those that its suite uses, and those that no suite uses, which the run then reports."""
    used = {suite: _used(suite) for suite in dict.fromkeys(run["suite"] for run in runs)}
    for run in runs:
        yield [
            word
            for word in words
            if _key(word) in used[run["suite"]] or not any(_key(word) in u for u in used.values())
        ]


def _key(word: str) -> str:
    """The name of the setting in a word: "metrics" in `metrics=psnr` and in `options.metrics=psnr`."""
    return word.partition("=")[0].removeprefix("options.").partition(".")[0]


def _used(suite: str) -> set[str]:
    """The names of all settings and options that change something in a suite."""
    module = plugins.find("suites", suite)
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    unused = {key for kind in kinds for key in getattr(kind, "unused", ())}
    settings = {declared.name for kind in (RunConfig, options_of(suite)) for declared in fields(kind)}
    return settings - unused
