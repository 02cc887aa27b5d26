"""Validation of values from JSON files against type annotations; errors name the field."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST = {int: 2**53, float: sys.float_info.max}  # largest magnitude with exact integers in float64
NAMES = {str: "a string", int: "a whole number", float: "a finite number", bool: "true or false"}


def read_json(file: Path) -> dict[str, Any]:
    """Read the JSON object in `file`.

    Raises:
        OSError: the file cannot be read
        ValueError: the content is not a JSON object; the message does not name the file
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"), parse_constant=_not_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(data, dict):
        raise ValueError(f"it should be an object {{...}}, not {_short(data)}")
    return data


def _not_finite(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def typed(hint: Any, value: Any, field: str) -> Any:
    """Convert `value` to the type `hint`; dataclasses are built from objects.

    Args:
        hint: a type annotation
        value: a value from JSON
        field: name of the field, for messages

    Raises:
        ValueError: the value has another type; the message has the field, the expected type and the value
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _dataclass(hint, value, field)
    if origin in (Union, UnionType):
        return _union(arguments, value, field)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise ValueError(f"{field} should be one of {', '.join(arguments)}, not {_short(value)}")
        return value
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{field} should be a list [...], not {_short(value)}")
        return [typed(arguments[0], item, f"{field}[{i}]") for i, item in enumerate(value)]
    if origin in (dict, Mapping):
        return {key: typed(arguments[1], item, f"{field}.{key}") for key, item in _object(value, field).items()}
    fits = isinstance(value, (int, float) if hint is float else hint) and isinstance(value, bool) == (hint is bool)
    if not fits or (hint in (int, float) and not abs(value) <= LARGEST[hint]):
        raise ValueError(f"{field} should be {NAMES[hint]}, not {_short(value)}")
    return float(value) if hint is float else value


def _union(kinds: tuple[Any, ...], value: Any, field: str) -> Any:
    """`X | None`, or a union of scalars such as `str | int`."""
    if value is None and NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not NoneType]
    if len(others) == 1:
        return typed(others[0], value, field)
    if type(value) not in others:  # bool is not accepted as int
        raise ValueError(f"{field} should be {' or '.join(NAMES[kind] for kind in others)}, not {_short(value)}")
    return typed(type(value), value, field)


def members(hints: Mapping[str, Any], value: Any, field: str) -> dict[str, Any]:
    """Check that the object `value` has these members with these types; other members are allowed.

    Raises:
        ValueError: a member is missing or has another type; the message names it
    """
    checked = dict(_object(value, field))
    for key, hint in hints.items():
        if key not in checked:
            raise ValueError(f"{field}.{key} is missing")
        checked[key] = typed(hint, checked[key], f"{field}.{key}")
    return checked


def _dataclass(kind: Any, value: Any, field: str) -> Any:
    values, hints = _object(value, field), get_type_hints(kind)
    inside = f"{field}." if field else ""
    if unknown := [key for key in values if key not in hints]:
        raise ValueError(f"{inside}{unknown[0]} is not a field of a {kind.__name__.lower()}")
    for declared in fields(kind):
        if declared.name not in values and declared.default is MISSING and declared.default_factory is MISSING:
            raise ValueError(f"{inside}{declared.name} is missing")
    return kind(**{key: typed(hints[key], item, f"{inside}{key}") for key, item in values.items()})


def _object(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{field} should be an object {{...}}, not {_short(value)}")
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
