"""The settings of `vaebench run` and `vaebench check`; a run's words, file and suite options become one `RunConfig`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from vaebench.options import options_of
from vaebench.plugins import did_you_mean
from vaebench.settings import build, from_words, merge, read_yaml, setting


@dataclass(frozen=True)
class RunConfig:
    """The settings of `vaebench run`, without the options of the suite."""

    suite: str = setting("reconstruction", "suite to run; same as --suite", group="selection")
    vaes: list[str] | None = setting(
        None, "VAEs to evaluate; default: all VAEs whose weights are on this machine", group="selection"
    )
    weights: str = setting(
        "", "file or folder with the weights of the VAE, if a single VAE is evaluated", group="selection"
    )
    fetch: bool = setting(
        False, "first download the missing weights of the metrics, and of the VAEs that are named", group="selection"
    )
    data: str = setting("bundle", "data source; see `vaebench list data`", group="data")
    root: str = setting("", "folder of the data source, for sources that read one", group="data")
    manifest: str = setting(
        "", "CSV with the ids, start frames and sha256 of the clips to read from root", group="data"
    )
    reader: Literal["auto", "pyav", "decord"] = setting(
        "auto",
        "decoder of video files: decord reads pinned files, if its frames equal those of PyAV; auto uses PyAV",
        group="data",
    )
    num_frames: int = setting(33, "frames per clip, at the clip's own frame rate", group="data", at_least=1)
    size: int = setting(
        256, "short side after resizing and side of the center crop, in pixels", group="data", at_least=1
    )
    clips: int | None = setting(
        None, "evaluate only the first N clips (debugging; noted in the record)", group="data", at_least=1
    )
    protocol: str = setting(
        "default", 'scoring protocol: "default", or "wfvae-paper" (matches that paper\'s scripts)', group="scoring"
    )
    posterior: Literal["", "mode", "sample"] = setting(
        "", "decode the mode or a sample of q(z|x); default: set by the protocol", group="scoring"
    )
    mode: str = setting(
        "",
        'inference mode, such as "whole", "native" or "tiled"; default: the reference mode of each VAE',
        group="execution",
    )
    dtype: Literal["", "float32", "bfloat16", "float16"] = setting(
        "", "dtype of the VAE; default: set by the protocol; metrics use float32", group="execution"
    )
    device: str = setting("auto", 'device, such as cpu or cuda:0; "auto" uses a GPU if there is one', group="execution")
    seed: int = setting(0, "random seed for posterior sampling and the diffusability suite", group="execution")
    shard: str = setting(
        "auto", '"i/n" (i from 0): run every n-th case; "auto" reads RANK and WORLD_SIZE', group="execution"
    )
    fail_fast: bool = setting(False, "stop at the first failure and show its traceback", group="execution")
    results: str = setting(
        "runs/results", "output folder for records; `vaebench plot` reads the same default", group="output"
    )
    runs: str = setting("runs", "cache folder for finished cases", group="output")
    options: dict[str, Any] = setting({}, "options of the suite, listed below", group="scoring")


@dataclass(frozen=True)
class CheckConfig:
    """Settings of `vaebench check`."""

    num_frames: int = setting(33, "frames of the test clip; long enough for several chunks", at_least=1)
    size: int = setting(64, "height and width of the test clip in pixels; larger finds spatial tiles", at_least=1)
    device: str = setting("auto", 'device, such as cpu or cuda:0; "auto" uses a GPU if there is one')
    dtype: Literal["float32", "bfloat16", "float16"] = setting("float32", "dtype of the VAE")
    weights: str = setting("", "file or folder with the weights of the VAE")


OUTPUT = ("results", "runs", "fetch")  # they belong to a run and not to its record


def parse_run(words: Sequence[str], *, suite: str = "", file: str | None = None) -> RunConfig:
    """`key=value` words over a YAML file (or a record's JSON) -> RunConfig.

    Other keys are options of the suite: `metrics=psnr` is `options.metrics=psnr`.

    Raises:
        ValueError: unknown setting, malformed word, invalid value
    """
    layers = [_with_options(_from_file(file)), {"suite": suite} if suite else {}, _with_options(from_words(words))]
    config = complete(merge(*layers))
    if config.weights and (config.vaes is None or len(config.vaes) != 1):
        raise ValueError("weights=PATH belongs to one VAE: name it, vaes=family/variant")
    return config


def complete(given: Mapping[str, Any]) -> RunConfig:
    """The settings of a run from text or values, with the suite's own as `options`, all checked.

    Raises:
        ValueError: unknown setting, invalid value
    """
    config = build(RunConfig, given)
    kind = options_of(config.suite)
    check_options(config, kind)
    filled = build(kind, config.options)
    return replace(config, options={key: getattr(filled, key) for key in config.options})


def _with_options(given: dict[str, Any]) -> dict[str, Any]:
    """`given` with the keys that RunConfig does not have moved to `options`."""
    known = {setting.name for setting in fields(RunConfig)}
    nested = given.get("options", {})
    if not isinstance(nested, dict):
        raise ValueError(f"options={nested} should be given one by one, as NAME=VALUE")
    others = {key: value for key, value in given.items() if key not in known}
    return {key: value for key, value in given.items() if key in known} | {"options": {**nested, **others}}


def check_options(config: RunConfig, kind: type) -> None:
    """Raises ValueError for an option that the suite's `kind` does not have, with the nearest setting of a run."""
    own, settings = ([f.name for f in fields(of)] for of in (kind, RunConfig))
    for key in config.options:
        if key not in own:
            near = did_you_mean(key, [*own, *settings])
            raise ValueError(
                f"no setting {key!r}{near} (suite {config.suite} has {', '.join(own)}; every run has {', '.join(settings)})"
            )


def as_dict(config: Any) -> dict[str, Any]:
    return asdict(config)


def _from_file(file: str | None) -> dict[str, Any]:
    """The settings of a YAML file or of a record; none for None."""
    if file is None:
        return {}
    if not file:
        raise ValueError("--config names no file; leave it out to run with the defaults")
    if not file.endswith(".json"):
        return read_yaml(Path(file))
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError) as reason:
        raise ValueError(f"{file} is not a record of vaebench: {reason}") from None
    if not isinstance(config, dict) or not config:
        raise ValueError(f"{file} is not a record of vaebench: its config should be an object with settings")
    # a record that is run again is not replaced: the output folders are those of the new run
    return {key: value for key, value in config.items() if key not in OUTPUT}
