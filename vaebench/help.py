"""The help texts of `vaebench run` and `vaebench train`: every setting with its comment, read from the source without imports."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from vaebench.training.recipes import descriptions

HERE = Path(__file__).parent
_DEFAULT = re.compile(r"field\(default_factory=(?:lambda: )?(.*)\)$")
_EMPTY = {"list": "[]", "dict": "{}"}


def run_settings() -> str:
    """The fields of RunConfig and of the Options of every suite."""
    suites = sorted((HERE / "suites").glob("[!_]*.py"))
    options = (f"options of --suite {file.stem}:\n{_Source(file).fields('Options')}" for file in suites)
    how = (
        "settings (key=value; lists: vaes=one,two or 'vaes=[one,two]'; "
        "an item that contains a comma stands in quotes: 'vaes=\"wfvae:a,b/run\",dct/4'):\n"
    )
    return "\n".join([how + _Source(HERE / "config.py").fields("RunConfig"), *options])


def train_settings() -> str:
    """The recipes, and the fields of TrainConfig with those of its groups."""
    named = descriptions()
    width = max(map(len, named))
    lines = "".join(f"  {name.ljust(width)}  {what}\n" for name, what in named.items())
    how = "settings (key=value, over those of the recipe; the values shown are the defaults without a recipe):\n"
    return f"recipes:\n{lines}\n{how}{_Source(HERE / 'training' / 'run.py').fields('TrainConfig')}"


class _Source:
    """One file of dataclasses."""

    def __init__(self, file: Path) -> None:
        self.text = file.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        self.comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}

    def fields(self, name: str, prefix: str = "") -> str:
        """A line for each field of a dataclass, and its comment below; a field that is a dataclass lists its own fields."""
        found = self._class(name)
        assert found is not None, name
        text = ""
        for node in found.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            annotation = ast.unparse(node.annotation)
            group = self._source_of(annotation)
            if group is not None:
                text += group.fields(annotation, f"{prefix}{node.target.id}.")
                continue
            assert node.value is not None, node.target.id
            value = " ".join((ast.get_source_segment(self.text, node.value) or "").split())
            value = _DEFAULT.sub(lambda match: _EMPTY.get(match[1], match[1]), value)
            value = value.replace("( ", "(").replace(", )", ")")
            text += f"  {prefix}{node.target.id}: {self._spelled_out(annotation)} = {value}\n"
            text += f"      {' '.join(self._comments(node))}\n"
        return text

    def _class(self, name: str) -> ast.ClassDef | None:
        classes = (node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        return next(classes, None)

    def _source_of(self, annotation: str) -> _Source | None:
        """The file of the dataclass `annotation`, which this one defines or imports; None for any other type."""
        if self._class(annotation):
            return self
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module and annotation in (name.name for name in node.names):
                package, *parts = node.module.split(".")
                found = importlib.util.find_spec(package)
                assert found is not None
                assert found.submodule_search_locations
                return _Source(Path(found.submodule_search_locations[0], *parts).with_suffix(".py"))
        return None

    def _spelled_out(self, annotation: str) -> str:
        """The type, where it has a name of its own in this file."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == annotation:
                return ast.unparse(node.value)
        return annotation

    def _comments(self, node: ast.AnnAssign) -> Iterator[str]:
        """The comment lines above a field, then those behind it."""
        first = node.lineno
        while first - 1 in self.comments and self.comments[first - 1].line.lstrip().startswith("#"):
            first -= 1
        for line in range(first, (node.end_lineno or node.lineno) + 1):
            if line in self.comments:
                yield self.comments[line].string.lstrip("# ")
