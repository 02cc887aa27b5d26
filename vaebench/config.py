"""The settings of `vaebench run` and `vaebench check`; command line, config file and suite options become one `RunConfig`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from vaebench import frame_size
from vaebench.options import OURS, options_of
from vaebench.plugins import did_you_mean
from vaebench.settings import build, from_words, merge, read_yaml, setting


@dataclass(frozen=True)
class RunConfig:
    """The settings of `vaebench run`, without the options of the suite."""

    suite: str = setting("reconstruction", "suite to run (same as --suite)", group="selection")
    preset: str = setting(
        "",
        "run a table or figure of a paper; see `vaebench list presets`; settings given beside it override its own",
        group="selection",
    )
    vaes: list[str] | None = setting(
        None,
        "VAEs to evaluate, or video codecs (codec/x264-CRF, codec/x265-CRF, codec/av1-CRF); default: all VAEs whose weights "
        "are on this machine",
        group="selection",
    )
    weights: str = setting(
        "",
        "file or folder with weights to use instead of the released ones; requires a single VAE in vaes=",
        group="selection",
    )
    fetch: bool = setting(
        False, "first download missing weights of the metrics and of the VAEs in vaes=", group="selection"
    )
    data: str = setting("bundle", "data source; see `vaebench list data`", group="data")
    root: str = setting("", "folder with the data, for data sources that read a folder", group="data")
    manifest: str = setting(
        "", "CSV with the ids, start frames and sha256 of the clips to read from root", group="data"
    )
    reader: Literal["auto", "pyav", "decord"] = setting(
        "auto",
        "video decoder; decord is used only for files whose frames are verified to equal those of PyAV; auto uses PyAV",
        group="data",
    )
    num_frames: int = setting(33, "frames per clip, at the clip's own frame rate", group="data", at_least=1)
    size: frame_size.Size = setting(
        256,
        "side of the square clips in pixels, or height x width such as 480x832: clips are resized to cover it, then the center "
        "is cropped",
        group="data",
        parse=frame_size.plain,
    )
    clips: int | None = setting(
        None, "evaluate only the first N clips (debugging; noted in the record)", group="data", at_least=1
    )
    protocol: str = setting(
        "default",
        "scoring protocol, or several (A,B) with a record each; see `vaebench list protocols`",
        group="scoring",
    )
    posterior: Literal["", "mode", "sample"] = setting(
        "", "decode the mode of q(z|x) or a sample; default: set by the protocol", group="scoring"
    )
    mode: str = setting(
        "",
        'inference mode, such as "whole", "native" or "tiled"; default: the reference mode of each VAE',
        group="execution",
    )
    dtype: Literal["", "float32", "bfloat16", "float16"] = setting(
        "", "dtype of the VAE (metrics always use float32); default: set by the protocol", group="execution"
    )
    device: str = setting("auto", 'device, such as cpu or cuda:0; "auto" uses a GPU if available', group="execution")
    tf32: bool | None = setting(
        None,
        "compute float32 convolutions and products of the VAE in TF32 on a GPU (faster, 10 bits of precision); default: false, "
        "in the efficiency suite true",
        group="execution",
    )
    cudnn_benchmark: bool | None = setting(
        None,
        "let cuDNN time its algorithms first on a GPU (faster for clips of one shape, more memory, scores may differ in the last "
        "digits); default: false, in the efficiency suite true",
        group="execution",
    )
    seed: int = setting(0, "random seed for posterior sampling and the diffusability suite", group="execution")
    shard: str = setting(
        "auto",
        '"i/n" (i from 0 to n-1): run every n-th case, starting at case i; "auto" reads RANK and WORLD_SIZE',
        group="execution",
    )
    fail_fast: bool = setting(False, "stop at the first failure and show its traceback", group="execution")
    results: str = setting(
        "runs/results", "output folder of the records; `vaebench plot` has the same default", group="output"
    )
    published: bool = setting(
        False, "also print published numbers beside those measured here, and what differs", group="output"
    )
    runs: str = setting("runs", "cache folder of finished cases; rerun with the same folder to resume", group="output")
    options: dict[str, Any] = setting({}, "options of the suite, listed below", group="scoring")


@dataclass(frozen=True)
class CheckConfig:
    """Settings of `vaebench check`."""

    num_frames: int = setting(33, "frames of the test clip; use enough for several chunks", at_least=1)
    size: int = setting(
        64, "height and width of the test clip in pixels; use a larger size to detect spatial tiles", at_least=1
    )
    device: str = setting("auto", 'device, such as cpu or cuda:0; "auto" uses a GPU if available')
    dtype: Literal["float32", "bfloat16", "float16"] = setting("float32", "dtype of the VAE")
    weights: str = setting("", "file or folder with weights to use instead of the released ones")


@dataclass(frozen=True)
class ScoreConfig:
    """Settings of `vaebench score`."""

    name: str = setting("", "name of the row in tables; default: the name of the folder of reconstructions")
    metrics: list[str] = setting([], "metrics to compute; see `vaebench list metrics`; default: set by the protocol")
    protocol: str = setting("default", "scoring protocol; its posterior and dtype do not apply to files")
    num_frames: int | None = setting(
        None,
        "score the first N frames of each video; default: all frames, of which both videos must have the same number",
        at_least=1,
    )
    size: frame_size.Size | None = setting(
        None,
        "resize to cover this size, such as 256 or 480x832, and crop the center, as `vaebench run`; default: score the frames as "
        "they are",
        parse=lambda given, key: None if given in (None, "null") else frame_size.plain(given, key),
    )
    keep: list[str] = setting([], "save frames of some clips as PNG, as in `vaebench run`")
    keep_video: list[str] = setting([], "save all frames of some clips losslessly, as in `vaebench run`")
    device: str = setting("auto", 'device of the metrics, such as cpu or cuda:0; "auto" uses a GPU if available')
    fail_fast: bool = setting(False, "stop at the first failure and show its traceback")
    results: str = setting("runs/results", "output folder of the record")


OUTPUT = ("results", "runs", "fetch", "published", "preset")  # settings that are not stored in the record


def parse_run(
    words: Sequence[str], *, suite: str = "", file: str | None = None, base: Mapping[str, Any] | None = None
) -> RunConfig:
    """Parse the settings of a run; command-line words override those of the file, which override `base`.

    Keys that RunConfig does not have are options of the suite: `metrics=psnr` is `options.metrics=psnr`.

    Args:
        words: `key=value` each
        suite: name of the suite from `--suite`; "" uses the one of the words, the file or the default
        file: YAML file with settings, or the JSON file of a record
        base: the settings of a preset

    Raises:
        ValueError: a setting is unknown, a word is malformed, or a value is invalid
    """
    layers = [
        _with_options(dict(base or {})),
        _with_options(_from_file(file)),
        {"suite": suite} if suite else {},
        _with_options(from_words(words)),
    ]
    merged = merge(*layers)
    if file and file.endswith(".json"):
        _check_shape(file, merged)
    config = complete(merged)
    if config.weights and (config.vaes is None or len(config.vaes) != 1):
        raise ValueError("weights=PATH requires exactly one VAE: add vaes=family/variant")
    return config


def _check_shape(record: str, given: Mapping[str, Any]) -> None:
    """Raises ValueError if a record of whole videos (`vaebench score`) leaves the frames or the size of a run open."""
    if unset := [f"{key}=N" for key in ("num_frames", "size") if given.get(key, 1) is None]:
        raise ValueError(
            f"{record}: this record was scored from files: repeat it with `vaebench score`; to compare it with a VAE, score the "
            f"videos again with {' '.join(unset)}"
        )


def complete(given: Mapping[str, Any]) -> RunConfig:
    """Validate the settings of a run, text or values, with the options of the suite under `options`.

    Raises:
        ValueError: a setting is unknown or a value is invalid
    """
    config = build(RunConfig, given)
    if config.preset:
        raise ValueError(
            f"preset={config.preset} is only valid on the command line: vaebench run preset={config.preset}"
        )
    kind = options_of(config.suite)
    check_options(config, kind)
    filled = build(kind, config.options)
    return replace(config, options={key: getattr(filled, key) for key in config.options})


def _with_options(given: dict[str, Any]) -> dict[str, Any]:
    """`given` with the keys that RunConfig does not have moved to `options`."""
    known = {setting.name for setting in fields(RunConfig)}
    nested = given.get("options", {})
    if not isinstance(nested, dict):
        raise ValueError(f"options={nested} is not a mapping: give each option as NAME=VALUE")
    others = {key: value for key, value in given.items() if key not in known}
    return {key: value for key, value in given.items() if key in known} | {"options": {**nested, **others}}


def check_options(config: RunConfig, kind: type) -> None:
    """Check that all options are fields of the options dataclass `kind` of the suite.

    Raises:
        ValueError: an option is unknown; the message suggests the closest setting
    """
    options, settings = ([f.name for f in fields(of)] for of in (kind, RunConfig))
    for key in config.options:
        if key not in options:
            near = did_you_mean(key, [*options, *settings])
            near += _of_other_suites(key)
            raise ValueError(
                f"no setting {key!r}{near} (options of suite {config.suite}: {', '.join(options)}; "
                f"settings of every run: {', '.join(settings)})"
            )


def _of_other_suites(key: str) -> str:
    """A hint if `key` is an option of other suites."""
    suites = [f"--suite {name}" for name, kind in OURS.items() if key in {option.name for option in fields(kind)}]
    return f"; it is an option of {' and '.join(suites)}" if suites else ""


def as_dict(config: Any) -> dict[str, Any]:
    return asdict(config)


def _from_file(file: str | None) -> dict[str, Any]:
    """The settings in a YAML file or a record; {} if `file` is None."""
    if file is None:
        return {}
    if not file:
        raise ValueError("--config has an empty value: give a file, or remove --config to use the defaults")
    if not file.endswith(".json"):
        return read_yaml(Path(file))
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8"))["config"]
    except OSError as reason:
        raise ValueError(f"{file} cannot be read: {reason.strerror}") from None
    except (ValueError, KeyError, TypeError) as reason:
        raise ValueError(f"{file} is not a record of vaebench: {reason}") from None
    if not isinstance(config, dict) or not config:
        raise ValueError(f"{file} is not a record of vaebench: config should be an object with settings")
    # the output folders are those of the new run, so that the given record is not replaced
    return {key: value for key, value in config.items() if key not in OUTPUT}
