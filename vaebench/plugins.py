"""Find by name: the file name of a module is its name; other people's packages join through entry points.

A kind is one of the packages below.  Listing imports nothing; finding imports one module.  Outside packages register
an entry point `name = "their_package.module"` in the group `vaebench.<kind>`; the module has the same contents as ours.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

PACKAGES = {
    "adapters": "adapters",
    "metrics": "vaebench.metrics",
    "data": "vaebench.data",
    "suites": "vaebench.suites",
}


def did_you_mean(name: str, choices: list[str]) -> str:
    """ "; did you mean 'pool'?" or nothing, to end an error message.  Upper and lower case count as equal."""
    spelled = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f"; did you mean {spelled[close[0]]!r}?" if close else ""


@cache
def _outside(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"vaebench.{kind}")}


@cache
def _inside(kind: str) -> tuple[str, ...]:
    package = importlib.util.find_spec(PACKAGES[kind])
    assert package is not None
    assert package.submodule_search_locations
    found = (module.name for module in pkgutil.iter_modules(package.submodule_search_locations))
    return tuple(name for name in found if not name.startswith("_"))


def names(kind: str) -> list[str]:
    """All names of a kind, ours and other people's, sorted; nothing is imported."""
    return sorted({*_inside(kind), *_outside(kind)})


def find(kind: str, name: str) -> ModuleType:
    """The module called `name`; ValueError with the nearest name if there is none."""
    if name in _inside(kind):
        return importlib.import_module(f"{PACKAGES[kind]}.{name}")
    if name in _outside(kind):
        module: ModuleType = _outside(kind)[name].load()
        return module
    known = names(kind)
    raise ValueError(f"no {name!r} in {kind}{did_you_mean(name, known)} (there are: {', '.join(known)})")
