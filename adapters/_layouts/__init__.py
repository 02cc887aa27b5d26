"""The key layouts of released weights, one module per family, recognised by their keys and never by the name of a file.

A `Layout` is a pattern, which matches keys of this layout and of no other of its family, and a pure function from the keys of the
release to the keys of our network.  It renames the keys it knows and leaves the others, so that strict loading reports them. Only
keys count, not shapes, so the same function converts a narrow network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

State: TypeAlias = "Mapping[str, Tensor]"


@dataclass(frozen=True)
class Layout:
    """One layout of one family."""

    name: str  # of its source, for messages
    mark: str  # a regular expression that some key of this layout matches from its start
    convert: Callable[[State], dict[str, Tensor]]


def convert(state: State, layouts: Iterable[Layout]) -> tuple[dict[str, Tensor], str]:
    """`state` under the keys of our network, and the name of the layout it had ("" if it has these keys already).

    Raises:
        ValueError: two keys of the file stand for the same tensor, or half of the network is missing
    """
    for layout in layouts:
        if any(re.match(layout.mark, key) for key in state):
            return layout.convert(state), layout.name
    return dict(state), ""


def renamed(state: State, name: Callable[[str], str]) -> dict[str, Tensor]:
    """Every tensor under its new name; ValueError where two keys get the same one."""
    converted: dict[str, Any] = {}
    source: dict[str, str] = {}
    for key, value in state.items():
        new = name(key)
        if new in converted:
            raise ValueError(f"{source[new]} and {key} are the same tensor ({new}): the file mixes two layouts")
        converted[new] = value
        source[new] = key
    return converted


def substitute(key: str, rules: Iterable[tuple[str, str]]) -> str:
    """Each rule (regular expression, replacement) once, in order."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def without(state: State, pattern: str) -> dict[str, Tensor]:
    """`state` without the keys that match the whole pattern."""
    return {key: value for key, value in state.items() if not re.fullmatch(pattern, key)}


def levels(state: State, part: str) -> int:
    """How many numbered modules `part` has: 4 for "decoder.up" with keys decoder.up.0. to decoder.up.3."""
    matches = [re.match(rf"{re.escape(part)}\.(\d+)\.", key) for key in state]
    return 1 + max((int(match[1]) for match in matches if match), default=-1)
