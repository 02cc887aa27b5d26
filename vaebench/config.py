"""Configuration: frozen dataclasses are the truth; OmegaConf fills them from a file and from `key=value` words.

The only module that imports omegaconf.  Precedence: defaults < `--config file` < `key=value`.  Unknown keys are errors that
name the nearest one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from vaebench.plugins import did_you_mean


@dataclass(frozen=True)
class RunConfig:
    """What `vaebench run` was asked for, but for the suite's own options."""

    suite: str = "reconstruction"
    vaes: list[str] | None = None  # names; None: every VAE whose weights are on this machine
    data: str = "bundle"  # name of the source
    root: str = ""  # folder of the source, where it reads one
    manifest: str = ""  # CSV that pins ids, start frames and sha256 of a folder's clips
    num_frames: int = 33
    size: int = 256  # short side and centre crop, in pixels
    clips: int | None = None  # the first so many clips only; for a try, the record says so
    protocol: str = "default"  # a file of vaebench/protocols
    posterior: str = ""  # "mode" or "sample" of q(z|x) is decoded; empty: as the protocol says
    mode: str = "whole"  # how the VAE is run: "whole", "native", "tiled", "streamed"; see `vaebench list adapters`
    dtype: str = ""  # of the VAE: float32, bfloat16 or float16; empty: as the protocol says; metrics are float32
    device: str = "auto"  # "auto": the GPU if there is one
    seed: int = 0  # of posterior sampling
    shard: str = "auto"  # "i/n": this process takes every n-th case from the i-th; "auto": from RANK and WORLD_SIZE
    weights: str = ""  # file or folder of weights for the one VAE that is run
    fail_fast: bool = False  # stop at the first failure
    results: str = "results"  # where records go
    runs: str = "runs"  # where finished cases are kept
    options: dict[str, Any] = field(default_factory=dict)  # the suite's own


CHOICES = {
    "posterior": ("mode", "sample"),
    "dtype": ("float32", "bfloat16", "float16"),
}
T = TypeVar("T")


def parse_run(words: Sequence[str], *, suite: str = "", file: str = "") -> RunConfig:
    """`key=value` words (and a YAML file, or a record's JSON) -> RunConfig.

    A word whose key is no field of RunConfig is one of the suite's options: `metrics=[psnr]` is `options.metrics=[psnr]`.
    ValueError for a malformed word, an unknown choice or a wrong type.
    """
    names = {f.name for f in fields(RunConfig)}
    prefixed = [word if _key(word).split(".")[0] in names else f"options.{word}" for word in words]
    data = {**_from_file(file), **({"suite": suite} if suite else {})}
    config = _fill(RunConfig, data, prefixed)
    for key, allowed in CHOICES.items():
        if getattr(config, key) not in ("", *allowed):
            raise ValueError(f"{key}={getattr(config, key)!r} is not one of {', '.join(allowed)}")
    if config.num_frames < 1 or config.size < 1 or (config.clips is not None and config.clips < 1):
        raise ValueError("num_frames, size and clips are at least 1")
    if config.weights and (config.vaes is None or len(config.vaes) != 1):
        raise ValueError("weights=PATH belongs to one VAE: name it, vaes=[family/variant]")
    return config


def options(kind: type[T], given: dict[str, Any]) -> T:
    """The suite's options as its frozen dataclass; ValueError for an unknown key or a wrong type."""
    return _fill(kind, given, [])


def parse(kind: type[T], words: Sequence[str], file: str = "") -> T:
    """`key=value` words over a YAML file over the defaults of the dataclass `kind`."""
    for word in words:
        _key(word)
    return _fill(kind, _from_file(file), list(words))


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
        raise ValueError(f"{file} cannot be read as YAML: {reason}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{file} should hold key: value lines")
    return {str(key): value for key, value in data.items()}


def _from_file(file: str) -> dict[str, Any]:
    if not file:
        return {}
    if file.endswith(".json"):  # a record is a config: run it again
        try:
            config: dict[str, Any] = json.loads(Path(file).read_text())["config"]
        except (OSError, ValueError, KeyError, TypeError) as reason:
            raise ValueError(f"{file} is not a record of vaebench: {reason}") from None
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
        merged = OmegaConf.merge(OmegaConf.structured(kind), data, OmegaConf.from_dotlist(words))
        filled = OmegaConf.to_object(merged)
    except OmegaConfBaseException as reason:
        raise ValueError(f"{reason.full_key or 'settings'}: {str(reason).splitlines()[0]}") from None
    assert isinstance(filled, kind)
    return filled
