"""The help text of every setting: type, default and description, generated from the fields of the dataclasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vaebench import plugins
from vaebench.config import CheckConfig, RunConfig, ScoreConfig
from vaebench.latents import meanings
from vaebench.options import options_of
from vaebench.training.config import TrainConfig
from vaebench.training.recipes import descriptions

RUN_GROUPS = ("selection", "data", "scoring", "execution", "output")
EXAMPLES = {
    "run": {
        "vaebench run vaes=dct/8,wfvae/tiny clips=2": "two VAEs on two clips; nothing to download",
        "vaebench run vaes=wfvae:runs/train/s-16 data=folder root=DIR": "a user checkpoint on a folder of videos",
        "vaebench run --suite blockwise vaes=wfvae/tiny require=lossless": "exit with code 1 if streaming is not lossless",
        "vaebench run --suite efficiency vaes=wan/2.1 frames=17,33 sizes=256": "time and memory at two lengths",
    },
    "compare": {
        "vaebench compare dct/16 wfvae/tiny clips=2": "two VAEs on two clips",
        "vaebench compare runs/results/reconstruction/clips-33x256/wan-2.1.json wan:mine.pth": "a fine-tuned VAE on the same clips",
        "vaebench compare dct/8 dct/16 --out pictures": "also draw the clips that differ most",
        "vaebench compare --baseline main.json wfvae:runs/train/mine --fail-below psnr=-0.05 --junit gate.xml": "a gate for CI",
    },
    "score": {
        "vaebench score --reference clips --reconstruction out": "all frames at their own size",
        "vaebench score --reference clips --reconstruction out name=closed-1 metrics=psnr,ssim": "two metrics, named row",
        "vaebench score --reference clips --reconstruction out num_frames=33 size=256": "in the table of `vaebench run`",
        "vaebench score --reference clips --reconstruction out protocol=wfvae-paper": "as the scripts of that paper",
    },
    "table": {
        "vaebench table": "the tables of runs/results in the terminal",
        "vaebench table results --suite reconstruction --format latex": "a LaTeX table, best values in bold",
        "vaebench table results --columns psnr,lpips --format markdown": "two metrics in this order",
        "vaebench table a.json b.json --format csv": "the scores of two records for a spreadsheet",
    },
    "train": {
        "vaebench train smoke": "test the installation: half a minute on a CPU, no files needed",
        "vaebench train s-16 data.root=DIR trainer.batch_size=2": "a recipe with another batch size",
        "vaebench train s-16 data.root=DIR trainer.steps=100000 trainer.decay=cosine run=runs/train/short": "a shorter run",
        "accelerate launch --num_processes 8 -m vaebench train stage1 data.root=DIR": "eight GPUs",
    },
    "report": {
        "vaebench report": "runs/results/report.html, from the records in runs/results",
        "vaebench report --results results --out report.html": "the report of another results folder",
    },
    "plot": {
        "vaebench plot": "every figure of the records in runs/results",
        "vaebench plot --only per_clip --format pdf --style paper": "one figure for a paper",
        "vaebench plot --training runs/train/s-4 runs/train/s-16": "compare two training runs",
        "vaebench plot --published --out figures": "the published numbers of the WF-VAE paper",
    },
}


def examples(command: str) -> str:
    """The examples at the end of `vaebench COMMAND --help`."""
    return "examples:\n" + "".join(f"  {words}\n      {what}\n" for words, what in EXAMPLES[command].items())


def run_settings() -> dict[str, str]:
    """Group title -> help text: the settings of RunConfig, the options of every suite, including plug-ins, and scores."""
    groups: dict[str, str] = dict.fromkeys(RUN_GROUPS, "")
    for declared, text in _settings(RunConfig):
        groups[declared.metadata["group"]] += text
    groups |= {f"options of --suite {name}": _suite(name) for name in plugins.names("suites")}
    return groups | {"scores of --suite latent": meanings.described()}


def train_settings() -> dict[str, str]:
    """Group title -> help text: the recipes, the settings of the run, then each group of TrainConfig."""
    named = descriptions()
    width = max(map(len, named))
    groups = {"recipes": "".join(f"{name.ljust(width)}  {what}\n" for name, what in named.items()), "run": ""}
    hints = get_type_hints(TrainConfig)
    for declared, text in _settings(TrainConfig):
        kind = hints[declared.name]
        if isinstance(kind, type) and is_dataclass(kind):
            groups[declared.name] = "".join(text for _, text in _settings(kind, f"{declared.name}."))
        else:
            groups["run"] += text
    return groups


def check_settings() -> dict[str, str]:
    """Group title -> help text: the settings of CheckConfig in a single group."""
    return {"settings": "".join(text for _, text in _settings(CheckConfig))}


def score_settings() -> dict[str, str]:
    """Group title -> help text: the settings of ScoreConfig in a single group."""
    return {"settings": "".join(text for _, text in _settings(ScoreConfig))}


def _suite(name: str) -> str:
    try:
        kind = options_of(name)
    except Exception as reason:  # a broken plug-in does not hide the other settings
        return f"unavailable: {reason}"
    return "".join(text for _, text in _settings(kind)) or "none"


def _settings(kind: type, prefix: str = "") -> Iterator[tuple[Field[Any], str]]:
    """Yield each field of a dataclass with its help text: a line with type and default, and the description."""
    hints = get_type_hints(kind)
    for declared in fields(kind):
        default = declared.default_factory() if declared.default_factory is not MISSING else declared.default
        line = f"{prefix}{declared.name}: {type_text(hints[declared.name])} = {default_text(default)}\n"
        description = declared.metadata.get("help", "")
        yield declared, line + (f"    {description}\n" if description else "")


def type_text(hint: Any) -> str:
    """A type in the notation of the command line: {a,b} for a Literal, `int or null` for `int | None`."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"{{{','.join(str(part) for part in parts if part != '')}}}"
    if origin in (Union, UnionType):
        return " or ".join("null" if part is NoneType else type_text(part) for part in parts)
    if origin in (list, tuple):
        return f"{origin.__name__}[{', '.join('...' if part is Ellipsis else type_text(part) for part in parts)}]"
    if origin is dict or hint is dict:
        return "NAME=VALUE"
    return str(getattr(hint, "__name__", hint))


def default_text(value: Any) -> str:
    """A default in the notation of the command line: "" for the empty string, [] for the empty list."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(default_text, value)) or "[]"
    if isinstance(value, Mapping):
        return "none"
    return str(value) if value != "" else '""'
