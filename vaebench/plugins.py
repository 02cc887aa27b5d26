"""Look up plug-ins by name: modules of this package, entry points of other packages, or Python files.

The kinds are the keys of PACKAGES.  Listing imports nothing; `find` imports one module.  Another package registers an entry
point `name = "their_package.module"` in the group `vaebench.<kind>`; its module defines the same functions as ours.
A name that ends in `.py` is a file: `vaes=./halves.py`, `metrics=./mine.py`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

PACKAGES = {
    "adapters": "adapters",
    "metrics": "vaebench.metrics",
    "data": "vaebench.data",
    "suites": "vaebench.suites",
}


def did_you_mean(name: str, choices: list[str], prefix: str = "") -> str:
    """The end of an error message: "; did you mean 'pool'?" if a choice is similar (ignoring case), else "".

    Args:
        name: what the user wrote
        choices: the valid names
        prefix: text before the suggested name, such as "trainer."
    """
    spelled = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f"; did you mean {prefix + spelled[close[0]]!r}?" if close else ""


@cache
def _outside(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"vaebench.{kind}")}


@cache
def _inside(kind: str) -> tuple[str, ...]:
    package = importlib.util.find_spec(PACKAGES[kind])
    assert package is not None
    assert package.submodule_search_locations
    modules = (module.name for module in pkgutil.iter_modules(package.submodule_search_locations))
    return tuple(name for name in modules if not name.startswith("_"))


def names(kind: str) -> list[str]:
    """All names of a kind, including entry points of other packages, sorted; nothing is imported."""
    return sorted({*_inside(kind), *_outside(kind)})


def label(name: str) -> str:
    """The name of a plug-in in records and tables; for a file, its name without folder and suffix."""
    return Path(name).stem if name.endswith(".py") else name


def package_of(kind: str, name: str) -> str:
    """The package that registers a plug-in as an entry point; "" for a module of this package and for a file."""
    point = None if name in _inside(kind) else _outside(kind).get(name)
    return point.dist.name if point and point.dist else ""


def described(kind: str, name: str) -> str:
    """The name of a plug-in in error messages: "halves (package their-vaes)" for an entry point of another package."""
    package = package_of(kind, name)
    return f"{name} (package {package})" if package else name


def find(kind: str, name: str) -> ModuleType:
    """Import a plug-in.

    Args:
        kind: key of PACKAGES
        name: name in `names(kind)`, or path of a `.py` file

    Raises:
        ValueError: the name is unknown (the message suggests the closest one, or a file), or the file or the module of another
            package cannot be imported
    """
    if name.endswith(".py"):
        return _from_file(Path(name).expanduser().resolve())
    if name in _inside(kind):
        return importlib.import_module(f"{PACKAGES[kind]}.{name}")
    if name in _outside(kind):
        return _from_package(kind, name)
    refuse_path(name)
    known = names(kind)
    raise ValueError(f"no {name!r} in {kind}{did_you_mean(name, known)} (available: {', '.join(known)})")


def refuse_path(name: str) -> None:
    """Raises ValueError if an unknown name is the path of a file without its suffix, or of one that does not exist."""
    file = Path(f"{name}.py").expanduser()
    if file.is_file():
        raise ValueError(f"no such file: {name}; did you mean {name}.py?")
    if name.startswith((".", "/", "~")):
        exists = Path(name).expanduser().exists()
        raise ValueError(f"{name} is not a Python file (.py)" if exists else f"no such file: {name}")


def _from_package(kind: str, name: str) -> ModuleType:
    """The module of an entry point."""
    try:
        module: ModuleType = _outside(kind)[name].load()
    except Exception as error:  # of the module, which may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{described(kind, name)} cannot be imported: {reason}") from error
    return module


def _from_file(file: Path) -> ModuleType:
    """The module in a file; a second call returns the same module."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    name = f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"  # two files may share a stem
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{file} cannot be imported: {type(error).__name__}: {error}") from error
    return module
