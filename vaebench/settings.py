"""The parser of all settings: frozen dataclasses declare them; a YAML file and `key=value` words set them.

A field is declared with `setting(default, help)`; a `Literal` lists the valid values.  Precedence: defaults < file <
`key=value`.  The type of a setting decides how its text is parsed, in files and on the command line alike: strings are used
verbatim, without interpolation.  OmegaConf merges the layers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import MISSING, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from vaebench.plugins import did_you_mean

SCALARS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
# an item of a list: 'quoted', "quoted", or the text up to the next comma
ITEM = re.compile(r"""\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<plain>[^,'"\s][^,]*?))\s*(?:,|$)""")
T = TypeVar("T")


def setting(
    default: T,
    help: str,
    *,
    group: str = "",
    at_least: int | None = None,
    parse: Callable[[Any, str], Any] | None = None,
) -> T:
    """A field of a dataclass of settings.

    Args:
        default: default value; a list or a dictionary is copied for each instance
        help: the description in `--help`
        group: title of the argument group in `--help`
        at_least: smallest valid value; None for no limit
        parse: function of the value and the name of the setting that replaces the conversion to the type of the field
    """
    metadata = {"help": help, "group": group, "at_least": at_least, "parse": parse}
    if isinstance(default, list | dict):
        return cast(T, field(default_factory=lambda: deepcopy(default), metadata=metadata))
    return field(default=default, metadata=metadata)


def parse(kind: type[T], words: Sequence[str] = (), file: Mapping[str, Any] | None = None) -> T:
    """Build the dataclass `kind`: words override the file, which overrides the defaults.

    Args:
        kind: a frozen dataclass
        words: `key=value` each; if a key is given twice, the last value is used
        file: the settings of a file, as `read_yaml` returns them

    Raises:
        ValueError: a setting is unknown or missing, a word is malformed, or a value is invalid
    """
    return build(kind, merge(file or {}, from_words(words)))


def build(kind: type[T], given: Mapping[str, Any], prefix: str = "") -> T:
    """Build the dataclass `kind` from text or typed values; other settings have their defaults.

    Raises:
        ValueError: a setting is unknown or missing, or a value is invalid
    """
    hints = get_type_hints(kind)
    known = {setting.name: setting for setting in fields(kind)}  # type: ignore[arg-type]  # T is a dataclass
    for key in given:
        if key not in known:
            near = _did_you_mean_inside(key, kind, prefix) or did_you_mean(key, list(known), prefix)
            available = ", ".join(prefix + name for name in known)
            raise ValueError(f"no setting {prefix + str(key)!r}{near} (available: {available})")
    for name, declared in known.items():
        if name not in given and declared.default is MISSING and declared.default_factory is MISSING:
            raise ValueError(
                f"the setting {prefix + name!r} is missing (required and optional settings: {', '.join(known)})"
            )
    values = {
        key: (known[key].metadata.get("parse") or partial(_value, hints[key]))(value, prefix + key)
        for key, value in given.items()
    }
    for key, value in values.items():
        least = known[key].metadata.get("at_least")
        if least is not None and value is not None and value < least:
            raise ValueError(f"{prefix}{key}={value} should be at least {least}")
    return kind(**values)


def _did_you_mean_inside(key: str, kind: Any, prefix: str) -> str:
    """The end of an error message: "; did you mean 'trainer.steps'?" if a dataclass in `kind` has this setting, else ""."""
    hints = get_type_hints(kind)
    inner = [name for name in hints if is_dataclass(hints[name]) and key in get_type_hints(hints[name])]
    return f"; did you mean {' or '.join(repr(f'{prefix}{name}.{key}') for name in inner)}?" if inner else ""


class _TextLoader(yaml.SafeLoader):
    """YAML loader that returns plain scalars as text, except null, and rejects duplicate keys."""

    # first character -> (tag, pattern) pairs, without those that convert 0012 to 10 and no to False
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
    """Read a YAML file as nested dictionaries and lists of text.

    Raises:
        ValueError: the file is missing, empty or invalid YAML, or is not a mapping
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
        raise ValueError(f"{file} is empty: expected key: value lines")
    if not isinstance(data, dict):
        raise ValueError(f"{file} is not a mapping: expected key: value lines")
    return {str(key): value for key, value in data.items()}


def from_words(words: Sequence[str]) -> dict[str, Any]:
    """`a.b=value` words -> nested dictionaries of text; if a key is given twice, the last value is used.

    Raises:
        ValueError: a word is not of the form `key=value`
    """
    given: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ValueError(
                f"invalid setting {word!r}: expected key=value, without spaces; quote a value with a space: 'root=my clips'"
            )
        nested: Any = text
        for name in reversed(key.split(".")):
            nested = {name: nested}
        given = merge(given, nested)
    return given


class _Text:
    """Wraps a value so that OmegaConf neither interpolates nor converts it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested dictionaries key by key; later layers override earlier ones.  Text is not interpreted."""
    from omegaconf import OmegaConf

    trees = (OmegaConf.create(_map_leaves(_Text, layer), flags={"allow_objects": True}) for layer in layers)
    merged = OmegaConf.to_container(OmegaConf.merge(*trees), resolve=False)
    return cast(dict[str, Any], _map_leaves(lambda text: text.value, merged))


def _map_leaves(change: Callable[[Any], Any], tree: Any) -> Any:
    """Apply `change` to every value of nested dictionaries that is not a dictionary."""
    return (
        {key: _map_leaves(change, value) for key, value in tree.items()} if isinstance(tree, Mapping) else change(tree)
    )


def _value(hint: Any, given: Any, key: str) -> Any:
    """Convert `given`, text or a typed value, to the type `hint`.

    Raises:
        ValueError: the value is invalid; the message names the setting `key`
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        (hint,) = (part for part in parts if part is not NoneType)  # every union here is `X | None`
        return None if given is None or given == "null" else _value(hint, given, key)
    if is_dataclass(hint):
        if not isinstance(given, dict):
            raise ValueError(f"{key}={given} is not a mapping: give each setting as {key}.NAME=VALUE")
        return build(hint, given, f"{key}.")  # type: ignore[arg-type]  # a class, not an instance
    if origin is dict:
        if not isinstance(given, dict):
            raise ValueError(f"{key}={given} is not a mapping: give each setting as {key}.NAME=VALUE")
        return given
    if origin in (list, tuple):
        return _items(origin, parts, given, key)
    if origin is Literal:
        for choice in parts:
            if str(choice) == str(given):
                return choice
        choices = [str(choice) for choice in parts if choice != ""]
        if len(choices) == 1:
            raise ValueError(f"{key}={given!r} is not known; the only value is {choices[0]}")
        raise ValueError(f"{key}={given!r} is not one of {', '.join(choices)}")
    return _scalar(hint, given, key)


def _scalar(hint: type, given: Any, key: str) -> Any:
    if isinstance(given, str) and hint is not str:
        try:
            return BOOLEANS[given.strip().lower()] if hint is bool else hint(given)
        except (ValueError, KeyError):
            pass
    elif type(given) is hint:
        return given
    elif hint is str and type(given) is int:  # from Python or JSON, such as keep=3
        return str(given)
    elif hint is float and type(given) is int:
        return float(given)
    raise ValueError(f"{key}={given!r} should be {SCALARS[hint]}")


def _items(origin: type, parts: tuple[Any, ...], given: Any, key: str) -> Any:
    """Convert to a list or tuple; a single value becomes a list with one item."""
    if isinstance(given, str):
        given = split_list(given, key)
    elif isinstance(given, bool | int | float):
        given = [given]
    elif not isinstance(given, list | tuple):
        raise ValueError(f"{key}={given} is not a list: expected {key}=one,two or {key}=[one,two]")
    fixed = origin is tuple and parts[-1] is not Ellipsis
    if fixed and len(given) != len(parts):
        raise ValueError(f"{key} takes {len(parts)} values, got {len(given)}")
    hints = parts if fixed else parts[:1] * len(given)
    return origin(_value(hint, item, key) for hint, item in zip(hints, given, strict=True))


def split_list(text: str, key: str) -> list[str]:
    """Split `one,two` or `[one,two]` into items.  An item that contains a comma must be quoted: `['a,b',c]`.

    Raises:
        ValueError: the closing bracket is missing, or an item is empty or badly quoted; the message names the setting `key`
    """
    inner = text.strip()
    if inner.startswith("["):
        if not inner.endswith("]"):
            raise ValueError(
                f"cannot parse '{key}={text}': the closing ] is missing; expected {key}=one,two or {key}=[one,two]"
            )
        inner = inner[1:-1].strip()
    items, position = [], 0
    while position < len(inner):
        item = ITEM.match(inner, position)
        if item is None:
            raise ValueError(f"cannot parse '{key}={text}': an empty or badly quoted item after {inner[:position]!r}")
        items.append(next(group for group in item.groups() if group is not None))
        position = item.end()
    return items
