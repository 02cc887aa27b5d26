"""What a cached number depends on: an edit to the code that made it, and to nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vaebench import fingerprint as fp
from vaebench import plugins

MODULE = '"""Doc."""\n\nfrom mine import lower\n\n\ndef one():\n    """Doc."""\n    return lower.two() + 1  # why\n'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A package `mine` with the modules `top`, which imports `lower`, and `other`; the function edits one of them."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in {
        "__init__": "",
        "top": MODULE,
        "lower": "def two():\n    return 2\n",
        "other": "x = 1\n",
    }.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    edits = iter(range(1, 100))

    def edit(name: str, text: str) -> None:
        file = folder / f"{name}.py"
        file.write_text(text)
        os.utime(file, ns=(0, next(edits)))

    yield edit
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def test_a_comment_a_docstring_and_a_change_of_format_keep_the_hash(package: Callable[[str, str], None]) -> None:
    before = fp.code(["mine.top"])
    package(
        "top", '"""Another."""\nfrom mine import lower\ndef one():\n  "New."\n  return (lower.two() + 1)  # because\n'
    )
    assert fp.code(["mine.top"]) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [("top", MODULE.replace("+ 1", "+ 2")), ("lower", "def two():\n    return 3\n")],
    ids=["itself", "what it imports"],
)
def test_an_edit_of_a_module_or_of_what_it_imports_changes_the_hash(
    name: str, text: str, package: Callable[[str, str], None]
) -> None:
    before = fp.code(["mine.top"])
    package(name, text)
    assert fp.code(["mine.top"]) != before


def test_an_edit_elsewhere_keeps_the_hash(package: Callable[[str, str], None]) -> None:
    before = fp.code(["mine.top"])
    package("other", "x = 2\n")
    assert fp.code(["mine.top"]) == before


def test_a_module_is_found_without_importing_it(package: Callable[[str, str], None]) -> None:
    package("top", "from mine.lower import two\n")
    assert {"mine.top", "mine.lower"} <= fp._reachable(["mine.top"]).keys()
    assert "mine.lower" not in sys.modules  # a module may import libraries that take seconds


def test_the_code_of_a_vae_is_its_own_adapter_and_the_shared_body() -> None:
    wan = fp._reachable([plugins.find("adapters", "wan")])
    assert {"adapters.wan", "adapters._diffusers", "vaebench.vae"} <= wan.keys()
    assert (
        not {"adapters.ltx", "adapters.cogvideox", "vaebench.config", "vaebench.tables", "vaebench.weights.fetch"}
        & wan.keys()
    )


def test_the_code_of_a_suite_is_what_it_measures_with() -> None:
    names = fp._reachable([plugins.find("suites", "efficiency")]).keys()
    assert {"vaebench.profiling.worker", "vaebench.machine", "vaebench.timing"} <= names
    names = fp._reachable([plugins.find("suites", "reconstruction")]).keys()
    assert {"vaebench.video", "vaebench.vae", "vaebench.protocol"} <= names
    assert not {name for name in names if name.startswith(("vaebench.metrics.", "vaebench.generation", "wfvae"))}


def test_the_versions_of_the_libraries_below_are_part_of_it() -> None:
    assert fp.code([plugins.find("adapters", "wan")])["torch"]
    assert "diffusers" in fp.code([plugins.find("adapters", "wan")])
    assert "diffusers" not in fp.code([plugins.find("adapters", "pool")])


def test_facts_in_any_order_have_one_fingerprint() -> None:
    assert fp.fingerprint({"a": 1, "b": {"c": [1, 2]}}) == fp.fingerprint({"b": {"c": [1, 2]}, "a": 1})
    assert fp.fingerprint({"a": 1}) != fp.fingerprint({"a": 2})


def test_a_file_beside_a_plugin_and_a_relative_import_count(
    package: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("top", "from . import lower\nfrom .other import x\n")
    assert {"mine.lower", "mine.other"} <= fp._reachable(["mine.top"]).keys()
    (tmp_path / "net.py").write_text("scale = 1\n")
    (tmp_path / "halves.py").write_text("import net\n")
    before = fp.code([plugins.find("adapters", str(tmp_path / "halves.py"))])
    (tmp_path / "net.py").write_text("scale = 2\n")
    os.utime(tmp_path / "net.py", ns=(0, 1))
    assert fp.code([plugins.find("adapters", str(tmp_path / "halves.py"))]) != before


def test_files_that_a_plugin_lists_count(tmp_path: Path) -> None:
    plugin, table = tmp_path / "scaled.py", tmp_path / "table.csv"
    plugin.write_text('FILES = ["table.csv"]\n')
    table.write_text("1\n")
    before = fp.code([plugins.find("metrics", str(plugin))])
    assert fp.code([plugins.find("metrics", str(plugin))]) == before
    table.write_text("2\n")
    os.utime(table, ns=(0, 1))
    assert fp.code([plugins.find("metrics", str(plugin))]) != before
    table.unlink()
    with pytest.raises(ValueError, match=r"scaled\.py: table\.csv of its FILES cannot be read: No such file"):
        fp.code([plugins.find("metrics", str(plugin))])
    other = tmp_path / "wrong.py"
    other.write_text('FILES = "table.csv"\n')
    with pytest.raises(
        ValueError, match=r"wrong\.py: FILES should be a list of names of files beside it, got 'table.csv'"
    ):
        fp.code([plugins.find("metrics", str(other))])
