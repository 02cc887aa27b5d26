"""The cache key of a measured number: the code that computes it, library versions, and the settings of the run.

The code of a case consists of some modules (adapter, suite, data source, ...) and of all modules of the same packages that they
import.  It is hashed as a syntax tree without docstrings: comments, docstrings and formatting do not invalidate the cache, and
an edit to one adapter invalidates the results of that adapter only.

A plug-in that reads files of its own lists them relative to its folder, and their content is hashed too: FILES = ["table.csv"].
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = ("vaebench", "adapters", "wfvae")
# our modules for lookup, parsing and file output, which process neither pixels nor scores
NEUTRAL = (
    *("config", "device_idle", "files", "fingerprint", "keep", "options", "pickled", "plugins", "records", "schema1"),
    *("settings", "state_dicts", "store", "torchmetric", "typed"),
    *("weights.fetch", "weights.github", "weights.locate", "weights.verify"),
)
WITHOUT_NUMBERS = frozenset(f"vaebench.{name}" for name in NEUTRAL)


def fingerprint(facts: Mapping[str, Any]) -> str:
    """16 hex digits of the sha256 of `facts`, independent of the order of keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def code(modules: Iterable[ModuleType | str]) -> dict[str, str]:
    """Digest of the code of some modules and of the modules that they import.

    Args:
        modules: module objects or names; imports are followed within our packages and the package of each module

    Returns:
        "sha256" of the syntax trees and of the FILES of plug-ins, and the version of each third-party library that they import

    Raises:
        ValueError: FILES of a plug-in is not a list of names, or a file cannot be read
    """
    modules = list(modules)
    digest, libraries = hashlib.sha256(), set[str]()
    for name, file in sorted(_reachable(modules).items()):
        tree, _, imported = _parsed(file, file.stat().st_mtime_ns)
        digest.update(f"{name}\0{tree}\0".encode())
        libraries |= imported
    for module in modules:
        digest.update("".join(_files(module)).encode())
    return {"sha256": digest.hexdigest(), **versions(libraries)}


def _files(module: ModuleType | str) -> Iterator[str]:
    """Yield the name and the sha256 of each file in FILES of a plug-in."""
    loaded = sys.modules.get(_name(module))
    if (
        loaded is None
        or not hasattr(loaded, "FILES")
        or _name(module).partition(".")[0] in OURS
        or not (file := _file(module))
    ):
        return
    names = loaded.FILES
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file}: FILES should be a list of names of files beside it, got {names!r}")
    yield from (f"{name}\0{_content(file, name)}\0" for name in names)


def _content(plugin: Path, name: str) -> str:
    """sha256 of a file in FILES of a plug-in."""
    try:
        status = (plugin.parent / name).stat()
        return _digest(plugin.parent / name, status.st_size, status.st_mtime_ns)
    except OSError as reason:
        raise ValueError(f"{plugin}: {name} of its FILES cannot be read: {reason.strerror}") from None


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Import name -> version, for the libraries that are installed.  The standard library is not listed."""
    names = _distributions()
    return {
        library: _version(names[library][0])
        for library in sorted(libraries)
        if library in names and library not in OURS
    }


@cache
def _version(distribution: str) -> str:
    return metadata.version(distribution)


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _reachable(modules: Iterable[ModuleType | str]) -> dict[str, Path]:
    """Name -> file of `modules` and of all modules that they import, directly or indirectly, from the same packages."""
    files: dict[str, Path] = {}
    waiting = [(name, file) for module in modules if (file := _file(module)) for name in [_name(module)]]
    while waiting:
        name, file = waiting.pop()
        if name in files:
            continue
        files[name] = file
        parent = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for target in _parsed(file, file.stat().st_mtime_ns)[1]:
            if target.startswith("."):  # relative to the package of the module
                target = importlib.util.resolve_name(target, parent) if parent else target.lstrip(".")
            source = None if target in WITHOUT_NUMBERS else _file(target) or _sibling(target, file)
            if source and (target.partition(".")[0] in (name.partition(".")[0], *OURS) or _is_unversioned(source)):
                waiting.append((target, source))
    return files


def _sibling(target: str, file: Path) -> Path | None:
    """The module `target` beside a plug-in file, which can be imported when its folder is on the path."""
    sibling = file.with_name(f"{target.partition('.')[0]}.py")
    return sibling if sibling.is_file() and _is_unversioned(file) else None


def _is_unversioned(file: Path) -> bool:
    """Whether no version number covers a file: it lies outside the standard library and the installed packages."""
    return "site-packages" not in file.parts and not any(folder in file.parents for folder in _standard_library())


@cache
def _standard_library() -> frozenset[Path]:
    return frozenset(Path(path) for name, path in sysconfig.get_paths().items() if name in ("stdlib", "platstdlib"))


def _name(module: ModuleType | str) -> str:
    return module if isinstance(module, str) else module.__name__


def _file(module: ModuleType | str) -> Path | None:
    """The Python source file of a module; None for extension modules and for names that are not modules."""
    if isinstance(module, ModuleType) or module in sys.modules:
        file = getattr(sys.modules.get(_name(module), module), "__file__", None)
    else:
        parent = module.rpartition(".")[0]
        source = _file(parent) if parent else None
        if source and source.name != "__init__.py":  # `from module import function`; find_spec would import the module
            return None
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):  # the parent is neither a package nor a Python file
            return None
        file = spec.origin if spec else None
    return Path(file) if file and file.endswith(".py") else None


@cache
def _parsed(file: Path, changed: int) -> tuple[str, tuple[str, ...], frozenset[str]]:
    """The syntax tree without docstrings as text, the names that may be imported modules, and the third-party libraries."""
    tree = ast.parse(file.read_bytes())
    imports = tuple(dict.fromkeys(_imports(tree)))
    libraries = {name.partition(".")[0] for name in imports if name[0] != "."} - {*OURS, *sys.stdlib_module_names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _documented(node):
            node.body = node.body[1:]
    return ast.dump(tree), imports, frozenset(libraries)


def _documented(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _imports(tree: ast.Module) -> Iterator[str]:
    """Names of imported modules; `from a import b` yields both a and a.b, since b may be a module.

    Imports under `if TYPE_CHECKING` are skipped: they never run.
    """
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if node.module:
                yield base
            yield from (f"{base}.{alias.name}" if node.module else f"{base}{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)
