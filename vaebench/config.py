"""Configuration: frozen dataclasses are the truth; OmegaConf fills them from a file and from `key=value` words.

The only module that imports omegaconf.  Precedence: defaults < `--config file` < `key=value`.  Unknown keys are errors that
name the nearest one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from vaebench.plugins import did_you_mean


@dataclass(frozen=True)
class RunConfig:
    """What `vaebench run` was asked for, but for the suite's own options."""

    suite: str = "reconstruction"  # as --suite
    vaes: list[str] | None = None  # names; None: every VAE whose weights are on this machine
    data: str = "bundle"  # name of the source; see `vaebench list data`
    root: str = ""  # folder of the source, where it reads one
    manifest: str = ""  # CSV that pins ids, start frames and sha256 of a folder's clips
    num_frames: int = 33  # of every clip, at its own frame rate
    size: int = 256  # short side and centre crop, in pixels
    clips: int | None = None  # the first so many clips only; for a try, the record says so
    protocol: str = "default"  # or "wfvae-paper", as that paper's scripts score: a file of vaebench/protocols
    posterior: str = ""  # "mode" or "sample" of q(z|x) is decoded; empty: as the protocol says
    mode: str = ""  # inference mode, such as "whole", "native" or "tiled"; empty: each VAE's reference mode
    dtype: str = ""  # of the VAE: float32, bfloat16 or float16; empty: as the protocol says; metrics are float32
    device: str = "auto"  # "auto": the GPU if there is one
    seed: int = 0  # of posterior sampling, and of all that the diffusability suite draws
    shard: str = "auto"  # "i/n", i from 0: this process takes every n-th case; "auto": by RANK and WORLD_SIZE
    weights: str = ""  # file or folder of weights for the one VAE that is run
    fail_fast: bool = False  # stop at the first failure
    results: str = "results"  # where records go
    runs: str = "runs"  # where finished cases are kept
    options: dict[str, Any] = field(default_factory=dict)  # the suite's own


CHOICES = {
    "posterior": ("mode", "sample"),
    "dtype": ("float32", "bfloat16", "float16"),
}
AT_LEAST_ONE = ("num_frames", "size", "clips")
T = TypeVar("T")


def parse_run(words: Sequence[str], *, suite: str = "", file: str = "") -> RunConfig:
    """`key=value` words (and a YAML file, or a record's JSON) -> RunConfig.

    A word or a key of the file that is no field of RunConfig is one of the suite's options: `metrics=[psnr]` is
    `options.metrics=[psnr]`.  ValueError for a malformed word, an unknown choice or a wrong type.
    """
    names = {f.name for f in fields(RunConfig)}
    prefixed = [word if _key(word).split(".")[0] in names else f"options.{word}" for word in words]
    given = _from_file(file)
    data = {key: value for key, value in given.items() if key in names} | ({"suite": suite} if suite else {})
    if others := {key: value for key, value in given.items() if key not in names}:
        options = data.get("options", {})
        if not isinstance(options, dict):
            raise ValueError(f"{file}: options should hold key: value lines, got {options}")
        data["options"] = {**options, **others}
    config = check_values(_fill(RunConfig, data, prefixed))
    if config.weights and (config.vaes is None or len(config.vaes) != 1):
        raise ValueError("weights=PATH belongs to one VAE: name it, vaes=[family/variant]")
    return config


def check_options(config: RunConfig, kind: type) -> None:
    """ValueError for an option that is none of the suite's `kind`, with the nearest of all that a run can be told."""
    own, settings = ([f.name for f in fields(of)] for of in (kind, RunConfig))
    for key in config.options:
        if key not in own:
            near = did_you_mean(key, [*own, *settings])
            raise ValueError(
                f"no setting {key!r}{near} (suite {config.suite} has {', '.join(own)}; every run has {', '.join(settings)})"
            )


def options(kind: type[T], given: dict[str, Any]) -> T:
    """The suite's options as its frozen dataclass; ValueError for an unknown key or a wrong type."""
    return _fill(kind, given, [])


def parse(kind: type[T], words: Sequence[str], file: str = "") -> T:
    """`key=value` words over a YAML file over the defaults of the dataclass `kind`."""
    for word in words:
        _key(word)
    return _fill(kind, _from_file(file), list(words))


def check_values(config: T) -> T:
    """`config`, if its settings of CHOICES and AT_LEAST_ONE have legal values; ValueError naming the first that has not."""
    for setting in fields(config):  # type: ignore[arg-type]  # T is a dataclass
        value, allowed = getattr(config, setting.name), CHOICES.get(setting.name)
        if allowed and value not in (setting.default, *allowed):
            raise ValueError(f"{setting.name}={value!r} is not one of {', '.join(allowed)}")
        if setting.name in AT_LEAST_ONE and value is not None and value < 1:
            raise ValueError(f"{setting.name}={value} should be at least 1")
    return config


def as_dict(config: Any) -> dict[str, Any]:
    return asdict(config)


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML file as plain dictionaries and lists; ValueError naming the file if it is none."""
    from omegaconf import OmegaConf

    try:
        data = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file") from None
    except Exception as reason:  # omegaconf passes on every error type of the YAML library
        raise ValueError(f"{file} cannot be read as YAML: {' '.join(str(reason).split())}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} should hold key: value lines")
    return {str(key): value for key, value in data.items()}


def _from_file(file: str) -> dict[str, Any]:
    if not file:
        return {}
    if file.endswith(".json"):  # a record is a config: run it again
        try:
            config = json.loads(Path(file).read_text())["config"]
        except (OSError, ValueError, KeyError, TypeError) as reason:
            raise ValueError(f"{file} is not a record of vaebench: {reason}") from None
        if not isinstance(config, dict):
            raise ValueError(f"{file} is not a record of vaebench: its config is a {type(config).__name__}, no object")
        return config
    return read_yaml(Path(file))


def _key(word: str) -> str:
    key, equals, _ = word.partition("=")
    if not equals or not key:
        raise ValueError(f"settings read key=value, got {word!r}")
    return key


def _fill(kind: type[T], data: dict[str, Any], words: list[str]) -> T:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]  # T is a dataclass
    for key in [*data, *(_key(word).split(".")[0] for word in words)]:
        if key not in known:
            raise ValueError(f"no setting {key!r}{did_you_mean(key, known)} (there are: {', '.join(known)})")
    try:
        given = [_lists(kind, layer) for layer in (data, *map(_read_word, words))]
        filled = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), *given))
    except OmegaConfBaseException as reason:
        raise ValueError(f"{reason.full_key or 'settings'}: {str(reason).splitlines()[0]}") from None
    except TypeError:  # OmegaConf's, which does not say where
        raise ValueError("a list stands where settings with names belong, or the other way round") from None
    assert isinstance(filled, kind)
    return filled


def _read_word(word: str) -> dict[str, Any]:
    """`a.b=value`, the value in YAML, as nested dictionaries."""
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.from_dotlist([word])))
    except YAMLError as reason:
        why = getattr(reason, "problem", None) or "it is no YAML"
        raise ValueError(f"cannot read {word!r} ({why}); a list reads key=[one,two]") from None


def _lists(kind: type[T], given: dict[str, Any]) -> dict[str, Any]:
    """`vaes=pool/4x8x8` means the list of that one: a single value where a list belongs is put into one."""
    hints = get_type_hints(kind)
    for key, value in given.items():
        if _is_list(hints[key]) and isinstance(value, dict):
            raise ValueError(f"{key} is a list, which reads {key}=[one,two]; got {value}")
    return {
        key: [value] if _is_list(hints[key]) and isinstance(value, str | int | float) else value
        for key, value in given.items()
    }


def _is_list(hint: Any) -> bool:
    return list in (get_origin(part) or part for part in (hint, *get_args(hint))) and get_origin(hint) is not dict
