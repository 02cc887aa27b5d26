"""Fills a network from a file, strictly; for a file that does not fit, names the network whose weights it looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from adapters._layouts import State
from vaebench import plugins

if TYPE_CHECKING:
    from torch import nn

Shapes: TypeAlias = "dict[str, tuple[int, ...]]"
ALIKE = 0.5  # a file that has this share of a network's tensors, by key and shape, is said to look like it


def fill(
    model: nn.Module,
    state: State,
    file: Path,
    *,
    name: str,
    read: State | None = None,
    layout: str = "",
    published: Callable[[str], str] = str,
) -> None:
    """`load_strict`; its ValueError for a file that does not fit also names the network that the file looks like.

    `name` is the network that is filled, as in "wan/2.1"; `state` was converted from the layout of that name, and is `read`
    under the keys of the file (by default the same).
    """
    from adapters._nets.checkpoint import load_strict

    try:
        load_strict(model, state, str(file), published)
    except ValueError as reason:
        renamed = f" (keys renamed from those of {layout})" if layout else ""
        raise ValueError(f"{reason}{renamed}{looks_like(state if read is None else read, name)}") from None


def looks_like(state: State, given: str) -> str:
    """The end of an error about a file that does not fit `given`: "; these are weights of wan/2.2: use ..."; "" if unknown.

    It names every network that has exactly the same share of its tensors in the file.
    """
    scores = {
        name: (len(expected.items() & shapes.items()) / len(expected), expected == shapes)
        for name, expected, shapes in _candidates(state)
    }
    same = [name for name in scores if name == given] or [name for name in scores if _family(name) == _family(given)]
    best = max(scores, key=lambda name: scores[name], default=given)
    share, exact = scores.get(best, (0.0, False))
    if share < ALIKE or share <= max((scores[name][0] for name in same), default=0.0):
        return ""
    names = _distinct([name for name, score in scores.items() if score == scores[best]])
    which = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    use = f"vaes=[{names[0] if len(names) == 1 else 'NAME'}] weights=PATH"
    if exact:
        return f"; these are weights of {which}: use {use}"
    return f"; it looks like {which}, of which it has {share:.0%} of the tensors: try {use}"


def _distinct(names: list[str]) -> list[str]:
    """`names` without VAEs that read the same file as one before them; the tensors do not tell the others apart."""
    sources: dict[str, str] = {}
    for name in names:
        family, _, variant = name.partition("/")
        sources.setdefault(plugins.find("adapters", family).VARIANTS[variant].source or name, name)
    return list(sources.values())


def _family(name: str) -> str:
    return name.partition("/")[0]


def _candidates(state: State) -> Iterator[tuple[str, Shapes, Shapes]]:
    """Every released network: its name, the shapes of its tensors, and those of `state` under its keys."""
    for family, released in _released().items():
        module = plugins.find("adapters", family)
        try:
            shapes = getattr(module, "FAMILY", module).shapes_in(state)
        except ValueError:
            continue
        for variant, expected in released.items():
            yield f"{family}/{variant}", expected, shapes


@cache
def _released() -> dict[str, dict[str, Shapes]]:
    """Family -> variant -> the shapes of its tensors, of all families that have weights; it takes some seconds."""
    import adapters

    released = {}
    for family, module in adapters.families().items():
        network = getattr(module, "FAMILY", module)
        if hasattr(network, "expected_shapes"):  # not a transform
            released[family] = {variant: network.expected_shapes(variant) for variant in module.VARIANTS}
    return released
