"""Settings: frozen dataclasses define them; a YAML file and `key=value` words fill them.

Precedence: defaults < `--config file` < `key=value`.  The type of a setting decides how its text is read, in a file as on the
command line: a string is the string that was typed, and nothing in it is interpolated.  OmegaConf merges the layers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import reduce
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from vaebench import plugins
from vaebench.plugins import did_you_mean


@dataclass(frozen=True)
class RunConfig:
    """The settings of `vaebench run`, without the options of the suite."""

    suite: str = "reconstruction"  # suite to run; same as --suite
    vaes: list[str] | None = None  # VAEs to evaluate; default: all VAEs whose weights are on this machine
    data: str = "bundle"  # data source; see `vaebench list data`
    root: str = ""  # folder of the data source, for sources that read one
    manifest: str = ""  # CSV with the ids, start frames and sha256 of the clips to read from root
    num_frames: int = 33  # frames per clip, at the clip's own frame rate
    size: int = 256  # short side after resizing and side of the center crop, in pixels
    clips: int | None = None  # evaluate only the first N clips (debugging; noted in the record)
    protocol: str = "default"  # scoring protocol: "default", or "wfvae-paper" (matches that paper's scripts)
    posterior: str = ""  # latent to decode: "mode" or "sample" of q(z|x); default: set by the protocol
    mode: str = ""  # inference mode, such as "whole", "native" or "tiled"; default: the reference mode of each VAE
    dtype: str = ""  # dtype of the VAE: float32, bfloat16 or float16; default: set by the protocol; metrics use float32
    device: str = "auto"  # device, such as cpu or cuda:0; "auto" uses a GPU if there is one
    seed: int = 0  # random seed for posterior sampling and the diffusability suite
    shard: str = "auto"  # "i/n" (i from 0): run every n-th case; "auto" reads RANK and WORLD_SIZE
    weights: str = ""  # file or folder with the weights of the VAE, if a single VAE is evaluated
    fail_fast: bool = False  # stop at the first failure and show its traceback
    results: str = "runs/results"  # output folder for records; `vaebench plot` reads the same default
    runs: str = "runs"  # cache folder for finished cases
    options: dict[str, Any] = field(default_factory=dict)  # options of the suite, listed below


CHOICES = {
    "posterior": ("mode", "sample"),
    "dtype": ("float32", "bfloat16", "float16"),
}
AT_LEAST_ONE = ("num_frames", "size", "clips")
SCALARS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
# an item of a list: 'quoted', "quoted", or the text up to the next comma
ITEM = re.compile(r"""\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<plain>[^,'"\s][^,]*?))\s*(?:,|$)""")
OUTPUT = ("results", "runs")  # folders: they belong to a run and not to its record
T = TypeVar("T")


def parse_run(words: Sequence[str], *, suite: str = "", file: str | None = None) -> RunConfig:
    """`key=value` words over a YAML file (or a record's JSON) -> RunConfig.

    Other keys are options of the suite: `metrics=psnr` is `options.metrics=psnr`.

    Raises:
        ValueError: unknown setting, malformed word, invalid value
    """
    layers = [_with_options(from_file(file)), {"suite": suite} if suite else {}, _with_options(from_words(words))]
    given: dict[str, Any] = reduce(merge, layers)
    config = complete(given)
    if config.weights and (config.vaes is None or len(config.vaes) != 1):
        raise ValueError("weights=PATH belongs to one VAE: name it, vaes=family/variant")
    return config


def complete(given: Mapping[str, Any]) -> RunConfig:
    """The settings of a run from text or values, with the suite's own as `options`, all checked.

    Raises:
        ValueError: unknown setting, invalid value
    """
    options_given = given.get("options", {})
    config = _build(RunConfig, {key: value for key, value in given.items() if key != "options"})
    kind = options_of(config.suite)
    config = replace(config, options=options_given)
    check_options(config, kind)
    filled: Any = options(kind, options_given)
    return check_values(replace(config, options={key: getattr(filled, key) for key in options_given}))


@dataclass(frozen=True)
class NoOptions:
    """The options of a suite that has none."""


def options_of(suite: str) -> type:
    """The dataclass of the suite's options."""
    kind: type = getattr(plugins.find("suites", suite), "Options", NoOptions)
    return kind


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


def options(kind: type[T], given: dict[str, Any]) -> T:
    """The frozen dataclass `kind` (a suite's Options, for one) with the values that are given.

    Raises:
        ValueError: unknown setting, invalid value
    """
    return _build(kind, given)


def parse(kind: type[T], words: Sequence[str]) -> T:
    """`key=value` words over the defaults of the dataclass `kind`."""
    return _build(kind, from_words(words))


def check_values(config: T) -> T:
    """`config`, if the settings of CHOICES and AT_LEAST_ONE are valid; ValueError naming the first invalid one."""
    for setting in fields(config):  # type: ignore[arg-type]  # T is a dataclass
        value, allowed = getattr(config, setting.name), CHOICES.get(setting.name)
        if allowed and value not in (setting.default, *allowed):
            raise ValueError(f"{setting.name}={value!r} is not one of {', '.join(allowed)}")
        if setting.name in AT_LEAST_ONE and value is not None and value < 1:
            raise ValueError(f"{setting.name}={value} should be at least 1")
    return config


def as_dict(config: Any) -> dict[str, Any]:
    return asdict(config)


class _TextLoader(yaml.SafeLoader):
    """YAML whose plain scalars stay the text that was typed; only null is None.  A key given twice is an error."""

    # first character -> (tag, pattern) pairs, without those that read 0012 as 10 and no as False
    yaml_implicit_resolvers = {  # noqa: RUF012 (the library defines the name and the type)
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.MarkedYAMLError(problem=f"{twice[0]!r} is given twice", problem_mark=node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML file as dictionaries and lists of text.

    Raises:
        ValueError: the file is missing, is not YAML of key: value lines, or is empty
    """
    try:
        data = yaml.load(file.read_bytes(), _TextLoader)
    except FileNotFoundError:
        raise ValueError(f"{file}: no such file") from None
    except OSError as reason:
        raise ValueError(f"{file} cannot be read: {reason.strerror}") from None
    except yaml.MarkedYAMLError as reason:
        mark = reason.problem_mark
        raise ValueError(
            f"{file} cannot be read as YAML: {reason.problem} in line {mark.line + 1}, column {mark.column + 1}"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as reason:  # characters, tags, keys, nesting
        raise ValueError(f"{file} cannot be read as YAML: {' '.join(str(reason).split())}") from None
    if data is None or data == {}:
        raise ValueError(f"{file} is empty: it should hold key: value lines")
    if not isinstance(data, dict):
        raise ValueError(f"{file} should hold key: value lines")
    return {str(key): value for key, value in data.items()}


def from_file(file: str | None) -> dict[str, Any]:
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


def from_words(words: Sequence[str]) -> dict[str, Any]:
    """`a.b=value` words as nested dictionaries of the text behind the first `=`; of a key given twice, the last."""
    given: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ValueError(f"settings read key=value, got {word!r} (a list reads key=one,two, without spaces)")
        nested: Any = text
        for name in reversed(key.split(".")):
            nested = {name: nested}
        given = merge(given, nested)
    return given


class _Text:
    """A value that OmegaConf passes on as it is: it neither interpolates it nor converts it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Both, key by key; where both have a value, that of `over`.  Text is kept as it was typed."""
    from omegaconf import OmegaConf

    layers = (OmegaConf.create(_map_leaves(_Text, layer), flags={"allow_objects": True}) for layer in (under, over))
    merged = OmegaConf.to_container(OmegaConf.merge(*layers), resolve=False)
    return cast(dict[str, Any], _map_leaves(lambda text: text.value, merged))


def _map_leaves(change: Callable[[Any], Any], tree: Any) -> Any:
    """`change` applied to everything in nested dictionaries that is not a dictionary."""
    return {key: _map_leaves(change, value) for key, value in tree.items()} if isinstance(tree, dict) else change(tree)


def _build(kind: type[T], given: dict[str, Any], prefix: str = "") -> T:
    """The dataclass `kind` from text, or from values of the right types; what is not given has its default."""
    hints = get_type_hints(kind)
    known = [setting.name for setting in fields(kind)]  # type: ignore[arg-type]  # T is a dataclass
    for key in given:
        if key not in known:
            near = did_you_mean(key, known)
            raise ValueError(f"no setting {prefix + str(key)!r}{near} (there are: {', '.join(known)})")
    return kind(**{key: _value(hints[key], value, prefix + key) for key, value in given.items()})


def _value(hint: Any, given: Any, key: str) -> Any:
    """`given`, text or a value, as the type `hint`; ValueError naming the setting `key` if it is not of that type."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (hint,) = (part for part in parts if part is not NoneType)  # our only unions are `X | None`
        return None if given is None or given == "null" else _value(hint, given, key)
    if is_dataclass(hint):
        if not isinstance(given, dict):
            raise ValueError(f"{key}={given} should be given one by one, as {key}.NAME=VALUE")
        return _build(hint, given, f"{key}.")  # type: ignore[arg-type]  # a class, not an instance
    if origin is dict:
        if not isinstance(given, dict):
            raise ValueError(f"{key}={given} should be given one by one, as {key}.NAME=VALUE")
        return given
    if origin in (list, tuple):
        return _items(origin, parts, given, key)
    if origin is Literal:
        for choice in parts:
            if str(choice) == str(given):
                return choice
        raise ValueError(f"{key}={given!r} is not one of {', '.join(map(str, parts))}")
    return _scalar(hint, given, key)


def _scalar(hint: type, given: Any, key: str) -> Any:
    if isinstance(given, str) and hint is not str:
        try:
            return BOOLEANS[given.strip().lower()] if hint is bool else hint(given)
        except (ValueError, KeyError):
            pass
    elif type(given) is hint:
        return given
    elif hint is float and type(given) is int:
        return float(given)
    raise ValueError(f"{key}={given!r} should be {SCALARS[hint]}")


def _items(origin: type, parts: tuple[Any, ...], given: Any, key: str) -> Any:
    """A list or tuple; a single value is the list of that one."""
    if isinstance(given, str):
        given = split_list(given, key)
    elif isinstance(given, bool | int | float):
        given = [given]
    elif not isinstance(given, list | tuple):
        raise ValueError(f"{key} is a list, which reads {key}=one,two or {key}=[one,two]; got {given}")
    fixed = origin is tuple and parts[-1] is not Ellipsis
    if fixed and len(given) != len(parts):
        raise ValueError(f"{key} has {len(parts)} values, got {len(given)}")
    hints = parts if fixed else parts[:1] * len(given)
    return origin(_value(hint, item, key) for hint, item in zip(hints, given, strict=True))


def split_list(text: str, key: str) -> list[str]:
    """`one,two` or `[one,two]` -> its items.  An item with a comma stands in quotes: `['a,b',c]`."""
    inner = text.strip()
    if inner.startswith("["):
        if not inner.endswith("]"):
            raise ValueError(
                f"cannot read '{key}={text}': no ] at its end; a list reads {key}=one,two or {key}=[one,two]"
            )
        inner = inner[1:-1].strip()
    items, position = [], 0
    while position < len(inner):
        item = ITEM.match(inner, position)
        if item is None:
            raise ValueError(f"cannot read '{key}={text}': an empty or badly quoted item after {inner[:position]!r}")
        items.append(next(found for found in item.groups() if found is not None))
        position = item.end()
    return items
